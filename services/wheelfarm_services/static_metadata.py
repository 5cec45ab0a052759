"""Core metadata that an sdist states without running anything: PKG-INFO under PEP 643, else `[project]` (PEP 621)."""

import email.parser
from collections.abc import Iterator, Mapping
from typing import Any

from packaging.metadata import InvalidMetadata, Metadata
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version
from wheelfarm.job import Sdist

from wheelfarm_services.sdist_head import SdistHead, bad_archive

_RESOLVING = ("requires-dist", "requires-python", "provides-extra")


def static_metadata(sdist: Sdist, head: SdistHead) -> bytes | None:
    """Metadata enough to resolve with, as a METADATA file; None when only the build backend can tell.

    Raises BadSdist when PKG-INFO is about another project or version.
    """
    stated = _from_pkg_info(sdist, head.pkg_info) if head.pkg_info else None
    return stated or _from_project(sdist, (head.pyproject or {}).get("project"))


def resolving_fields(metadata: bytes) -> bytes:
    """The fields of a METADATA file that a resolver reads, bounded and re-written."""
    message = email.parser.BytesParser().parsebytes(metadata, headersonly=True)
    once = ("Metadata-Version", "Name", "Version", "Requires-Python")
    lines = [f"{name}: {_one_line(message[name])}" for name in once if message[name]]
    for name in ("Requires-Dist", "Provides-Extra"):
        lines += [f"{name}: {_one_line(value)}" for value in message.get_all(name, [])]
    return ("\n".join(lines) + "\n").encode()


def _from_pkg_info(sdist: Sdist, pkg_info: bytes) -> bytes | None:
    message = email.parser.BytesParser().parsebytes(pkg_info, headersonly=True)
    _require_same(sdist, str(message["Name"] or ""), str(message["Version"] or ""))
    dynamic = {str(value).strip().lower() for value in message.get_all("Dynamic", [])}
    if _metadata_version(message) < (2, 2) or dynamic.intersection(_RESOLVING):
        return None
    fields = resolving_fields(pkg_info)
    return fields if _valid(fields) else None


def _from_project(sdist: Sdist, project: Any) -> bytes | None:
    if not isinstance(project, Mapping) or not isinstance(project.get("name"), str):
        return None
    if {"dependencies", "optional-dependencies", "requires-python"}.intersection(project.get("dynamic", [])):
        return None
    try:
        fields = ("\n".join(_project_fields(sdist, project)) + "\n").encode()
    except (InvalidRequirement, TypeError, AttributeError):
        return None
    return fields if _valid(fields) else None


def _project_fields(sdist: Sdist, project: Mapping[str, Any]) -> Iterator[str]:
    yield "Metadata-Version: 2.2"
    yield f"Name: {sdist.name}"
    yield f"Version: {sdist.version}"
    if "requires-python" in project:
        yield f"Requires-Python: {_one_line(project['requires-python'])}"
    for text in project.get("dependencies", []):
        yield f"Requires-Dist: {Requirement(text)}"
    for extra, texts in project.get("optional-dependencies", {}).items():
        yield f"Provides-Extra: {canonicalize_name(extra)}"
        for text in texts:
            yield f"Requires-Dist: {_within_extra(Requirement(text), canonicalize_name(extra))}"


def _within_extra(requirement: Requirement, extra: str) -> str:
    marker = f'({requirement.marker}) and extra == "{extra}"' if requirement.marker else f'extra == "{extra}"'
    requirement.marker = None
    return f"{requirement} ; {marker}"


def _require_same(sdist: Sdist, name: str, version: str) -> None:
    try:
        same = canonicalize_name(name) == sdist.name and str(Version(version)) == sdist.version
    except InvalidVersion:
        same = False
    if not same:
        raise bad_archive(sdist, f"its PKG-INFO is about {name!r} {version!r}")


def _metadata_version(message: Any) -> tuple[int, int]:
    major, _, minor = str(message["Metadata-Version"] or "1.0").strip().partition(".")
    return (int(major), int(minor)) if major.isdigit() and minor.isdigit() else (1, 0)


def _valid(fields: bytes) -> bool:
    """Whether a resolver will be able to read it: uv walks back through older versions on what it can't parse."""
    try:
        Metadata.from_email(fields)
    except (InvalidMetadata, ExceptionGroup):
        return False
    return True


def _one_line(value: object) -> str:
    return " ".join(str(value).split())
