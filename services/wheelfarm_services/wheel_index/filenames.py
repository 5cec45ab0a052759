"""What the file names of wheels tell (PEP 427)."""

from functools import lru_cache

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

_REMEMBERED = 10_000


@lru_cache(_REMEMBERED)
def project_of(filename: str) -> str:
    """The normalised name of the project that a wheel is of (PEP 503)."""
    return canonicalize_name(filename.partition("-")[0])


@lru_cache(_REMEMBERED)
def version_of(filename: str) -> str:
    """The version in a wheel's file name, in its normal form where it has one."""
    version = filename.split("-")[1]
    try:
        return str(Version(version.replace("_", "-")))
    except InvalidVersion:
        return version


def with_build_tag(filename: str, tag: int) -> str:
    """The wheel's file name with that build tag in place of whatever it had."""
    parts = filename.removesuffix(".whl").split("-")
    return "-".join([*parts[:2], str(tag), *parts[-3:]]) + ".whl"
