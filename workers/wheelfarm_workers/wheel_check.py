"""The check of a wheel that came out of a sandbox: nothing in it is believed that is not verified here.

Installers accept much that a farm must not hand on (wrong RECORD hashes, duplicate entries, links, paths that leave
the environment, data before or after the archive); the rules are those of the binary distribution format (PEP 427,
PEP 491) read strictly, bounded in every size.
"""

import base64
import csv
import email.parser
import email.policy
import hashlib
import io
import re
import stat
import struct
import zipfile
import zlib
from dataclasses import dataclass
from email.message import Message
from io import BufferedReader
from pathlib import Path

from packaging.tags import Tag, parse_tag
from packaging.utils import InvalidName, InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version
from wheelfarm.errors import BadWheel
from wheelfarm.job import Sdist

_FILENAME = re.compile(r"[A-Za-z0-9_.!+~-]{1,200}\.whl")
_ENTRIES = 200_000
_UNPACKED_BYTES = 8 << 30
_RATIO = 400
_METADATA_BYTES = 4 << 20
_RECORD_BYTES = 64 << 20
_SIGNATURES = ("RECORD", "RECORD.jws", "RECORD.p7s")


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckedWheel:
    """A wheel that is what its name says: its METADATA, byte for byte, and the Requires-Python in it ("" for none)."""

    path: Path
    filename: str
    sha256: str
    metadata: bytes
    requires_python: str


def check_wheel(path: Path, filename: str, sdist: Sdist, tags: frozenset[Tag]) -> CheckedWheel:
    """Check a wheel against the sdist it was built from and the tags its target allows.

    Raises BadWheel, saying which rule it breaks.
    """
    try:
        with path.open("rb") as file:
            return _check(path, filename, file, sdist, tags)
    except (
        zipfile.BadZipFile,
        zlib.error,
        NotImplementedError,
        struct.error,
        UnicodeDecodeError,
        csv.Error,
    ) as error:
        raise _bad(sdist, filename, f"it can't be read: {error}") from error
    except _Broken as broken:
        raise _bad(sdist, filename, str(broken)) from None


class _Broken(Exception):
    """A rule that the wheel breaks."""


def _check(path: Path, filename: str, file: BufferedReader, sdist: Sdist, tags: frozenset[Tag]) -> CheckedWheel:
    stated = _check_name(filename, sdist, tags)
    _check_frame(file)
    with zipfile.ZipFile(file) as archive:
        entries = _check_entries(archive, file)
        info = _dist_info(entries, sdist)
        metadata = _read(archive, entries, f"{info}/METADATA", _METADATA_BYTES)
        _check_metadata(_parse(metadata), sdist)
        _check_tags(_parse(_read(archive, entries, f"{info}/WHEEL", _METADATA_BYTES)), stated)
        _check_record(archive, entries, info)
    file.seek(0)
    return CheckedWheel(
        path=path,
        filename=filename,
        sha256=hashlib.file_digest(file, "sha256").hexdigest(),
        metadata=metadata,
        requires_python=" ".join(str(_parse(metadata)["Requires-Python"] or "").split()),
    )


def _check_name(filename: str, sdist: Sdist, allowed: frozenset[Tag]) -> frozenset[Tag]:
    if not _FILENAME.fullmatch(filename):
        raise _Broken("its file name holds characters that no wheel's may")
    try:
        name, version, _, tags = parse_wheel_filename(filename)
    except InvalidWheelFilename as error:
        raise _Broken(f"its file name is malformed ({error})") from None
    if (name, str(version)) != (sdist.name, sdist.version):
        raise _Broken(f"it is {name} {version}, and the job was for {sdist.name} {sdist.version}")
    if not tags & allowed or not {tag.platform for tag in tags} <= {tag.platform for tag in allowed}:
        raise _Broken(f"its tags ({', '.join(sorted(map(str, tags)))}) are not the target's")
    return tags


def _check_frame(file: BufferedReader) -> None:
    """The archive begins with its first entry and ends with its end record: nothing before, between or after."""
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    start = file.read(4)
    file.seek(max(0, size - 22))
    end = file.read(22)
    if start != b"PK\x03\x04" or len(end) != 22 or end[:4] != b"PK\x05\x06":
        raise _Broken("something stands before or after the archive, or it has a comment")
    _, _, directory_size, directory_at, comment = struct.unpack("<4xHHHHIIH", end)[2:]
    zip64 = 0xFFFFFFFF in (directory_size, directory_at)
    if comment or (not zip64 and directory_at + directory_size != size - 22):
        raise _Broken("there is a gap between its entries and its directory")
    file.seek(0)


def _check_entries(archive: zipfile.ZipFile, file: BufferedReader) -> dict[str, zipfile.ZipInfo]:
    infos = archive.infolist()
    if len(infos) > _ENTRIES:
        raise _Broken(f"it has more than {_ENTRIES} entries")
    entries: dict[str, zipfile.ZipInfo] = {}
    unpacked = 0
    for info in infos:
        _check_path(info)
        if info.filename in entries:
            raise _Broken(f"{info.filename!r} is in it twice")
        _check_entry(info)
        _check_local_header(info, file)
        unpacked += info.file_size
        if unpacked > _UNPACKED_BYTES or info.file_size > _RATIO * info.compress_size + (1 << 20):
            raise _Broken(f"{info.filename!r} unpacks to {info.file_size} bytes from {info.compress_size}")
        entries[info.filename] = info
    return entries


def _check_path(info: zipfile.ZipInfo) -> None:
    path = info.filename
    parts = path.removesuffix("/").split("/")
    if info.orig_filename != path or "\\" in path or not path.isprintable() or re.match(r"[A-Za-z]:", path):
        raise _Broken(f"an entry is named {path!a}")
    if any(part in ("", ".", "..") for part in parts):
        raise _Broken(f"{path!r} leads out of the environment")


def _check_entry(info: zipfile.ZipInfo) -> None:
    mode = info.external_attr >> 16
    if info.flag_bits & 0x1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise _Broken(f"{info.filename!r} is encrypted or compressed in an unusual way")
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR) or mode & (stat.S_ISUID | stat.S_ISGID):
        raise _Broken(f"{info.filename!r} is a link, a device or runs with another's rights ({mode:o})")


def _check_local_header(info: zipfile.ZipInfo, file: BufferedReader) -> None:
    """Readers that go by the local headers must see the same names as those that go by the directory."""
    file.seek(info.header_offset)
    header = file.read(30)
    if header[:4] != b"PK\x03\x04":
        raise _Broken(f"{info.filename!r} has no local header")
    flags, length = struct.unpack("<H18xH", header[6:28])
    local = file.read(length).decode("utf-8" if flags & 0x800 else "cp437")
    if local != info.filename:
        raise _Broken(f"its local header says {local!r} where its directory says {info.filename!r}")


def _dist_info(entries: dict[str, zipfile.ZipInfo], sdist: Sdist) -> str:
    found = {path.split("/")[0] for path in entries if path.split("/")[0].endswith(".dist-info")}
    if len(found) != 1:
        raise _Broken(f"it has {len(found)} .dist-info directories")
    info = found.pop()
    name, _, version = info.removesuffix(".dist-info").rpartition("-")
    if not _same(name, version, sdist):
        raise _Broken(f"{info!r} is not about {sdist.name} {sdist.version}")
    return info


def _check_metadata(metadata: Message, sdist: Sdist) -> None:
    if not _same(str(metadata["Name"] or ""), str(metadata["Version"] or ""), sdist):
        raise _Broken(f"its METADATA is about {metadata['Name']!r} {metadata['Version']!r}")


def _check_tags(wheel: Message, stated: frozenset[Tag]) -> None:
    tags = {tag for value in wheel.get_all("Tag", []) for tag in parse_tag(str(value).strip())}
    if tags != stated:
        raise _Broken("the tags in its WHEEL file are not those of its name")


def _check_record(archive: zipfile.ZipFile, entries: dict[str, zipfile.ZipInfo], info: str) -> None:
    text = _read(archive, entries, f"{info}/RECORD", _RECORD_BYTES).decode()
    record: dict[str, tuple[str, str]] = {}
    for row in csv.reader(io.StringIO(text)):
        if len(row) != 3 or row[0] in record:
            raise _Broken(f"its RECORD has a row {row!r}")
        record[row[0]] = (row[1], row[2])
    unlisted = {f"{info}/{name}" for name in _SIGNATURES}
    files = {path for path in entries if not path.endswith("/")} - unlisted
    if differing := sorted(files ^ (set(record) - unlisted)):
        raise _Broken(f"its RECORD and its contents differ: {differing[:3]}")
    for path in sorted(files):
        if record[path] != _recorded(archive, path):
            raise _Broken(f"its RECORD has another hash or size than {path!r}")


def _recorded(archive: zipfile.ZipFile, path: str) -> tuple[str, str]:
    digest, size = hashlib.sha256(), 0
    with archive.open(path) as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
            size += len(chunk)
    return f"sha256={base64.urlsafe_b64encode(digest.digest()).decode().rstrip('=')}", str(size)


def _read(archive: zipfile.ZipFile, entries: dict[str, zipfile.ZipInfo], path: str, limit: int) -> bytes:
    if path not in entries:
        raise _Broken(f"it has no {path}")
    if entries[path].file_size > limit:
        raise _Broken(f"its {path} is larger than {limit} bytes")
    return archive.read(path)


def _parse(text: bytes) -> Message:
    return email.parser.BytesParser(policy=email.policy.compat32).parsebytes(text, headersonly=True)


def _same(name: str, version: str, sdist: Sdist) -> bool:
    try:
        return canonicalize_name(name, validate=True) == sdist.name and str(Version(version)) == sdist.version
    except (InvalidName, InvalidVersion):
        return False


def _bad(sdist: Sdist, filename: str, rule: str) -> BadWheel:
    return BadWheel(
        f"The backend of {sdist} made a wheel that the farm does not publish ({filename!a}): {rule}.",
        hint="Nothing was published. This is a fault of the project's build, or an attempt to pass as another.",
    )
