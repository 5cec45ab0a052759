"""Core metadata that an sdist states without running anything: PKG-INFO under PEP 643, else `[project]` (PEP 621)."""

import email.parser
import re
from collections.abc import Iterator, Mapping
from email.message import Message
from typing import Any

from packaging.metadata import Metadata
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import InvalidName, canonicalize_name
from packaging.version import Version

from wheelfarm.errors import BadSdist
from wheelfarm.job import Sdist
from wheelfarm_services.sdist_head import SdistHead, bad_archive

_RESOLVING = ("name", "version", "requires-dist", "requires-python", "provides-extra")
_ONCE = ("Metadata-Version", "Name", "Version", "Requires-Python")


def static_metadata(sdist: Sdist, head: SdistHead) -> bytes | None:
    """Metadata enough to resolve with, as a METADATA file; None when only the build backend can tell.

    A PKG-INFO of Metadata-Version 2.2 or later decides, whatever `[project]` says beside it: the backend wrote it, and
    it will write the wheel. Raises BadSdist when it is about another project or version.
    """
    message = email.parser.BytesParser().parsebytes(head.pkg_info or b"", headersonly=True)
    require_about(sdist, head)
    if _metadata_version(message) >= (2, 2):
        return _from_pkg_info(message, head.pkg_info or b"")
    return _from_project(sdist, (head.pyproject or {}).get("project"))


def require_about(sdist: Sdist, head: SdistHead) -> None:
    """Raise BadSdist when an sdist's PKG-INFO, where it has one, is about another project or version."""
    if head.pkg_info:
        message = email.parser.BytesParser().parsebytes(head.pkg_info, headersonly=True)
        _require_same(sdist, str(message["Name"] or ""), str(message["Version"] or ""))


def probable_metadata(sdist: Sdist, head: SdistHead) -> bytes:
    """What an sdist states, proven or not, as a METADATA file: a guess at what its build will tell, to look ahead by
    and never to resolve with in earnest."""
    stated = resolving_fields(head.pkg_info) if head.pkg_info else b""
    if _valid(stated):
        return stated
    return f"Metadata-Version: 2.1\nName: {sdist.name}\nVersion: {sdist.version}\n".encode()


def offered_metadata(sdist: Sdist, metadata: bytes) -> bytes | None:
    """What a wheel's METADATA tells resolvers of a version; None where it is of another one, or can't be read."""
    message = email.parser.BytesParser().parsebytes(metadata, headersonly=True)
    try:
        _require_same(sdist, str(message["Name"] or ""), str(message["Version"] or ""))
    except BadSdist:
        return None
    fields = resolving_fields(metadata)
    return fields if _valid(fields) else None


def resolving_fields(metadata: bytes) -> bytes:
    """The fields of a METADATA file that a resolver reads, bounded and re-written."""
    message = email.parser.BytesParser().parsebytes(metadata, headersonly=True)
    lines = [f"{name}: {_one_line(message[name])}" for name in _ONCE if message[name]]
    for name in ("Requires-Dist", "Provides-Extra"):
        lines += [f"{name}: {_one_line(value)}" for value in message.get_all(name, [])]
    return ("\n".join(lines) + "\n").encode()


def is_about(sdist: Sdist, metadata: bytes) -> bool:
    """Whether a METADATA file tells of that project and version."""
    message = email.parser.BytesParser().parsebytes(metadata, headersonly=True)
    return canonicalize_name(str(message["Name"] or "")) == sdist.name and (
        message["Version"] is not None and _same_version(sdist, message["Version"])
    )


def _from_pkg_info(message: Message, pkg_info: bytes) -> bytes | None:
    """The fields of a PKG-INFO that may state them (PEP 643); None where one is dynamic, or given twice that may not
    be, so that readers disagree about it."""
    dynamic = {str(value).strip().lower().replace("_", "-") for value in message.get_all("Dynamic", [])}
    if dynamic.intersection(_RESOLVING) or any(len(message.get_all(name, [])) > 1 for name in _ONCE):
        return None
    fields = resolving_fields(pkg_info)
    return fields if _valid(fields) else None


def _from_project(sdist: Sdist, project: Any) -> bytes | None:
    if not isinstance(project, Mapping) or not isinstance(project.get("name"), str):
        return None
    if canonicalize_name(project["name"]) != sdist.name or not _same_version(sdist, project.get("version")):
        return None
    dynamic = project.get("dynamic", [])
    try:
        if "version" not in project and "version" not in dynamic:
            return None
        if {"dependencies", "optional-dependencies", "requires-python"}.intersection(dynamic):
            return None
        fields = ("\n".join(_project_fields(sdist, project)) + "\n").encode()
    except (InvalidRequirement, InvalidName, TypeError, AttributeError, RecursionError):
        return None
    return fields if _valid(fields) else None


def _project_fields(sdist: Sdist, project: Mapping[str, Any]) -> Iterator[str]:
    yield "Metadata-Version: 2.2"
    yield f"Name: {sdist.name}"
    yield f"Version: {sdist.version}"
    if "requires-python" in project:
        yield f"Requires-Python: {_one_line(project['requires-python'])}"
    for text in _list(project.get("dependencies", [])):
        yield f"Requires-Dist: {_one_line(Requirement(text))}"
    extras: set[str] = set()
    for given, texts in project.get("optional-dependencies", {}).items():
        extra = canonicalize_name(given, validate=True)
        if extra in extras:
            raise InvalidName(f"{given!r} is an extra twice (PEP 685)")
        extras.add(extra)
        yield f"Provides-Extra: {extra}"
        for text in _list(texts):
            yield f"Requires-Dist: {_one_line(_within_extra(Requirement(text), extra))}"


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"{value!r} is not a list")
    return value


def _within_extra(requirement: Requirement, extra: str) -> str:
    marker = f'({requirement.marker}) and extra == "{extra}"' if requirement.marker else f'extra == "{extra}"'
    requirement.marker = None
    return f"{requirement} ; {marker}"


def _require_same(sdist: Sdist, name: str, version: str) -> None:
    if canonicalize_name(name) != sdist.name or not _same_version(sdist, version):
        raise bad_archive(sdist, f"its PKG-INFO is about {name!r:.100} {version!r:.100}")


def _same_version(sdist: Sdist, version: object) -> bool:
    """Whether a version is the sdist's, as PEP 440 compares them (1.0 is 1.0.0); one that is not stated (None) is."""
    try:
        return version is None or Version(str(version)) == Version(sdist.version)
    except ValueError:  # InvalidVersion, or more digits than Python reads
        return False


def _metadata_version(message: Any) -> tuple[int, int]:
    stated = re.fullmatch(r"\s*(\d{1,3})\.(\d{1,3})\s*", str(message["Metadata-Version"] or ""), re.ASCII)
    return (int(stated[1]), int(stated[2])) if stated else (1, 0)


def _valid(fields: bytes) -> bool:
    """Whether a resolver will be able to read it: uv walks back through older versions on what it can't parse."""
    try:
        Metadata.from_email(fields)
    except (ValueError, ExceptionGroup, RecursionError):
        return False
    return True


def _one_line(value: object) -> str:
    return " ".join(str(value).split())
