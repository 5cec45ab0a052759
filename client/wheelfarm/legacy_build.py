"""What builds a project that names no build system (PEP 517, PEP 518)."""

LEGACY_BACKEND = "setuptools.build_meta:__legacy__"
LEGACY_REQUIRES = ("setuptools >= 40.8.0",)
