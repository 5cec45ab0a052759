"""Prebuilt wheels of upstream that policy takes in the place of sdists: which one fits a target, and its METADATA."""

import email.parser
import zipfile
import zlib
from dataclasses import replace
from typing import BinaryIO

from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import Version

from wheelfarm.errors import BadWheel
from wheelfarm.job import Sdist
from wheelfarm.target import Target, native_tags
from wheelfarm_services.sdist_head import BoundedReads
from wheelfarm_services.upstreams import ListedSdist, ProjectPage

_METADATA_BYTES = 4 << 20
_MACHINES = ("manylinux", "linux")


def page_for_target(page: ProjectPage, target: Target) -> ProjectPage:
    """The page with each version's prebuilt wheel that may fit a target, the policy's first, in its sdist's place."""
    fitting: dict[str, ListedSdist] = {}
    for listed in page.prebuilt:
        if may_fit(listed.sdist, target):
            fitting.setdefault(listed.sdist.version, listed)
    if not fitting:
        return page
    sdists = {listed.sdist.version: listed for listed in page.sdists} | fitting
    return replace(page, sdists=tuple(sdists[version] for version in sorted(sdists, key=Version)))


def may_fit(sdist: Sdist, target: Target) -> bool:
    """Whether a wheel's interpreter, ABI and machine are a target's; of its libc only a worker there can tell."""
    interpreters = {(tag.interpreter, tag.abi) for tag in native_tags(target)}
    pure = {(tag.interpreter, tag.abi) for tag in native_tags(target) if tag.platform == "any"}
    for tag in parse_wheel_filename(sdist.filename)[3]:
        of_machine = tag.platform.startswith(_MACHINES) and tag.platform.endswith(f"_{target.machine}")
        if (tag.interpreter, tag.abi) in (pure if tag.platform == "any" else interpreters if of_machine else ()):
            return True
    return False


def wheel_metadata(sdist: Sdist, file: BinaryIO) -> bytes:
    """The METADATA of a prebuilt wheel, in bounds. Raises BadWheel where there is none of that project and version."""
    try:
        with zipfile.ZipFile(BoundedReads(file)) as archive:
            found = [info for info in archive.infolist() if _is_metadata(info.filename, sdist)]
            if len(found) == 1 and found[0].file_size <= _METADATA_BYTES:
                with archive.open(found[0]) as member:
                    return _checked(member.read(_METADATA_BYTES), sdist)
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, RuntimeError) as error:
        raise BadWheel(f"The prebuilt wheel {sdist.filename} can't be read: {error}.") from error
    raise BadWheel(f"The prebuilt wheel {sdist.filename} has no METADATA of {sdist}.")


def _checked(metadata: bytes, sdist: Sdist) -> bytes:
    message = email.parser.BytesParser().parsebytes(metadata, headersonly=True)
    if canonicalize_name(str(message["Name"])) != sdist.name or Version(str(message["Version"])) != Version(
        sdist.version
    ):
        raise BadWheel(
            f"The METADATA of {sdist.filename} is about {message['Name']!a:.100} {message['Version']!a:.100}."
        )
    return metadata


def _is_metadata(path: str, sdist: Sdist) -> bool:
    folder, _, rest = path.partition("/")
    name, _, version = folder.removesuffix(".dist-info").rpartition("-")
    try:
        of_it = canonicalize_name(name) == sdist.name and Version(version) == Version(sdist.version)
    except ValueError:
        return False
    return folder.endswith(".dist-info") and rest == "METADATA" and of_it
