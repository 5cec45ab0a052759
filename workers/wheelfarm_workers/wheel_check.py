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
import itertools
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from io import BufferedReader
from pathlib import Path

from packaging.tags import Tag
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import Version

from wheelfarm.errors import BadWheel
from wheelfarm.job import Sdist

_FILENAME = re.compile(r"[A-Za-z0-9_.!+~-]{1,200}\.whl")
_ENTRIES = 65_535
_DIRECTORY_BYTES = 16 << 20
_UNPACKED_BYTES = 8 << 30
_RATIO = 400
_METADATA_BYTES = 4 << 20
_WHEEL_BYTES = 64 << 10
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
        EOFError,
        struct.error,
        ValueError,
        csv.Error,
    ) as error:
        raise _bad(sdist, filename, f"it can't be read: {error}") from error
    except _Broken as broken:
        raise _bad(sdist, filename, str(broken)) from None


class _Broken(Exception):
    """A rule that the wheel breaks."""


def _check(path: Path, filename: str, file: BufferedReader, sdist: Sdist, tags: frozenset[Tag]) -> CheckedWheel:
    stated = _check_name(filename, sdist, tags)
    directory_at = _check_frame(file)
    with zipfile.ZipFile(file) as archive:
        entries = _check_entries(archive, file, directory_at)
        info = _dist_info(entries, sdist)
        metadata = _read(archive, entries, f"{info}/METADATA", _METADATA_BYTES)
        _check_metadata(_parse(metadata), sdist)
        _check_tags(_read(archive, entries, f"{info}/WHEEL", _WHEEL_BYTES), stated)
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
    if name != sdist.name or version != Version(sdist.version):  # 1.0 and 1.0.0 are one version (PEP 440)
        raise _Broken(f"it is {name} {version}, and the job was for {sdist.name} {sdist.version}")
    if not tags & allowed or not {tag.platform for tag in tags} <= {tag.platform for tag in allowed}:
        raise _Broken(f"its tags ({', '.join(sorted(map(str, tags)))}) are not the target's")
    return tags


def _check_frame(file: BufferedReader) -> int:
    """The archive begins with its first entry and ends with its directory and the end record; where the directory is.

    There is no zip64: a wheel that needs it is larger than the farm takes.
    """
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    start = file.read(4)
    file.seek(max(0, size - 22))
    end = file.read(22)
    if start != b"PK\x03\x04" or len(end) != 22 or end[:4] != b"PK\x05\x06":
        raise _Broken("something stands before or after the archive, or it has a comment")
    _, _, directory_size, directory_at, comment = struct.unpack("<4xHHHHIIH", end)[2:]
    if comment or directory_at + directory_size != size - 22 or directory_size > _DIRECTORY_BYTES:
        raise _Broken("its directory does not end where the end record says, or is too large")
    file.seek(0)
    return int(directory_at)


def _check_entries(archive: zipfile.ZipFile, file: BufferedReader, end: int) -> dict[str, zipfile.ZipInfo]:
    """The entries by path; they fill the archive from its start to `end`, where its directory begins."""
    infos = archive.infolist()
    if len(infos) > _ENTRIES:
        raise _Broken(f"it has more than {_ENTRIES} entries")
    entries: dict[str, zipfile.ZipInfo] = {}
    unpacked = at = 0
    for info in sorted(infos, key=lambda info: info.header_offset):
        _check_path(info)
        if info.filename in entries:
            raise _Broken(f"{info.filename!r} is in it twice")
        _check_entry(info)
        if info.header_offset != at:
            raise _Broken(f"something stands between its entries, before {info.filename!r}")
        at = _check_local_header(info, file)
        unpacked += info.file_size
        if unpacked > _UNPACKED_BYTES or info.file_size > _RATIO * info.compress_size + (1 << 20):
            raise _Broken(f"{info.filename!r} unpacks to {info.file_size} bytes from {info.compress_size}")
        entries[info.filename] = info
    if at != end:
        raise _Broken("something stands between its entries and its directory")
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


def _check_local_header(info: zipfile.ZipInfo, file: BufferedReader) -> int:
    """Readers that go by the local headers must see the same as those that go by the directory; the entry's end."""
    file.seek(info.header_offset)
    header = file.read(30)
    if header[:4] != b"PK\x03\x04":
        raise _Broken(f"{info.filename!r} has no local header")
    flags, method, crc, packed, unpacked, length, extra = struct.unpack("<6xHH4xLLLHH", header)
    local = file.read(length).decode("utf-8" if flags & 0x800 else "cp437")
    if local != info.filename:
        raise _Broken(f"its local header says {local!r} where its directory says {info.filename!r}")
    described_after = bool(flags & 0x8)
    said = (flags, method) if described_after else (flags, method, crc, packed, unpacked)
    listed = (info.flag_bits, info.compress_type, info.CRC, info.compress_size, info.file_size)
    if said != listed[: len(said)]:
        raise _Broken(f"the local header of {info.filename!r} differs from its directory")
    end = info.header_offset + 30 + int(length) + int(extra) + info.compress_size
    return end + _descriptor_length(info, file, end) if described_after else end


def _descriptor_length(info: zipfile.ZipInfo, file: BufferedReader, end: int) -> int:
    """The length of the data descriptor behind an entry, which says the same as the directory."""
    file.seek(end)
    found = file.read(16)
    for form in ("<4s3L", "<3L"):
        signature = (b"PK\x07\x08",) if "s" in form else ()
        expected = struct.pack(form, *signature, info.CRC, info.compress_size, info.file_size)
        if found.startswith(expected):
            return len(expected)
    raise _Broken(f"{info.filename!r} has no data descriptor, or one that differs from its directory")


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


def _check_tags(wheel: bytes, stated: frozenset[Tag]) -> None:
    wheel.decode()  # the farm will write to it
    values = {str(value).strip() for value in _parse(wheel).get_all("Tag", [])}
    if {tag for value in values for tag in _expanded(value, stated)} != stated:
        raise _Broken("the tags in its WHEEL file are not those of its name")


def _expanded(value: str, stated: frozenset[Tag]) -> Iterator[Tag]:
    """The tags that a compressed set stands for, of parts that are stated only: it may stand for very many."""
    parts = [frozenset(part.split(".")) for part in value.lower().split("-")]
    known = zip(*((tag.interpreter, tag.abi, tag.platform) for tag in stated), strict=True)
    if len(parts) == 3 and all(map(frozenset.issuperset, map(frozenset, known), parts)):
        yield from (Tag(*combination) for combination in itertools.product(*parts))
    else:
        raise _Broken(f"its WHEEL file has a tag {value!r:.200} that is not of its name")


def _check_record(archive: zipfile.ZipFile, entries: dict[str, zipfile.ZipInfo], info: str) -> None:
    text = _read(archive, entries, f"{info}/RECORD", _RECORD_BYTES).decode()
    record: dict[str, tuple[str, str]] = {}
    for row in csv.reader(io.StringIO(text)):
        if len(row) != 3 or row[0] in record or len(record) > len(entries):
            raise _Broken(f"its RECORD has a row {row!r:.200}")
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
        return canonicalize_name(name, validate=True) == sdist.name and Version(version) == Version(sdist.version)
    except ValueError:  # InvalidName, InvalidVersion, or more digits than Python reads
        return False


def _bad(sdist: Sdist, filename: str, rule: str) -> BadWheel:
    if sdist.is_prebuilt:
        return BadWheel(
            f"The prebuilt wheel {filename!a} of {sdist} is none that the farm publishes: {rule}.",
            hint="Nothing was published. Name another wheel in the policy, or let the project be built.",
        )
    return BadWheel(
        f"The backend of {sdist} made a wheel that the farm does not publish ({filename!a}): {rule}.",
        hint="Nothing was published. This is a fault of the project's build, or an attempt to pass as another.",
    )
