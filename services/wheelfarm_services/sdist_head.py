"""The two files of an sdist that are read outside a sandbox: `pyproject.toml` and `PKG-INFO`, as bounded streams.

Nothing is unpacked. Every size that the archive states is checked before anything of that size is read.
"""

import base64
import gzip
import hashlib
import io
import json
import struct
import tarfile
import tomllib
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, BinaryIO, Literal

from wheelfarm.bounded_tar import bounded_members
from wheelfarm.errors import BadSdist
from wheelfarm.job import TREE_VERSION, Sdist
from wheelfarm_services import layout
from wheelfarm_services.store import Store

_MEMBER_BYTES = {"PKG-INFO": 4 << 20, "pyproject.toml": 512 << 10}
_LINE_DOTS = 1000
_UNPACKED_BYTES = 8 << 30
_MEMBERS = 500_000
_ZIP_READ_BYTES = 16 << 20  # zipfile reads a directory at once
_LEFTOVERS = (".DS_Store", "__MACOSX", "pax_global_header")
_MOST_REMEMBERED = 256
_REMEMBERED_BYTES = 128 << 10


@dataclass(frozen=True, kw_only=True, slots=True)
class SdistHead:
    """The sdist's `PKG-INFO` (bytes, or None) and `pyproject.toml` (parsed, or None, and the sha256 of its bytes)."""

    pkg_info: bytes | None
    pyproject: dict[str, Any] | None
    pyproject_sha256: str
    files: Mapping[str, bytes] = field(default_factory=dict, compare=False, repr=False)

    @property
    def size(self) -> int:
        """The bytes of its files."""
        return sum(map(len, self.files.values()))


class SdistHeads:
    """Heads of sdists, each read from its archive once, since one without `pyproject.toml` has to be read to its end to
    know that: a bounded number of small ones is remembered, those of the source index are kept in the store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._heads: dict[Sdist, SdistHead] = {}

    def read(self, sdist: Sdist, opened: Callable[[], BinaryIO]) -> SdistHead:
        """The head of an sdist, whose archive is opened where it has to be read. Raises what `read_head` raises."""
        head = self._heads.get(sdist) or self._kept(sdist)
        if head is None:
            with opened() as file:
                head = read_head(sdist, file)
        if len(self._heads) >= _MOST_REMEMBERED:
            self._heads.clear()
        if head.size <= _REMEMBERED_BYTES:
            self._heads[sdist] = head
        return head

    def keep(self, sdist: Sdist, head: SdistHead) -> None:
        """Have others read it from the store: for the source index, which binds the archive's digest to one name."""
        files = {name: base64.b64encode(data).decode() for name, data in head.files.items()}
        self._store.put(layout.sdist_head(sdist.sha256), json.dumps(files).encode())

    def _kept(self, sdist: Sdist) -> SdistHead | None:
        data = self._store.get(layout.sdist_head(sdist.sha256))
        try:
            files = None if data is None else {name: base64.b64decode(file) for name, file in json.loads(data).items()}
        except (ValueError, TypeError, AttributeError):  # damaged: the archive is asked
            return None
        return None if files is None else _head(sdist, files)


def read_head(sdist: Sdist, file: BinaryIO, *, unpacked_bytes: int = _UNPACKED_BYTES) -> SdistHead:
    """Read the head of an sdist's archive. Raises BadSdist when it is no archive, or one that lies about itself.

    Of what a gzipped archive unpacks to, no more than `unpacked_bytes` is read.
    """
    members = _zip_members(file) if sdist.filename.endswith(".zip") else _tar_members(file, unpacked_bytes)
    try:
        found = _in_source_tree(members)
    except (
        tarfile.TarError,
        zipfile.BadZipFile,
        zlib.error,
        OSError,
        EOFError,
        ValueError,
        RuntimeError,  # an encrypted member, a compression that is not implemented, headers nested too deeply
        struct.error,
    ) as error:
        raise bad_archive(sdist, str(error)) from error
    return _head(sdist, found)


def _head(sdist: Sdist, files: Mapping[str, bytes]) -> SdistHead:
    pyproject = files.get("pyproject.toml")
    return SdistHead(
        pkg_info=files.get("PKG-INFO"),
        pyproject=_parse(sdist, pyproject),
        pyproject_sha256="" if pyproject is None else hashlib.sha256(pyproject).hexdigest(),
        files=files,
    )


def bad_archive(sdist: Sdist, reason: str) -> BadSdist:
    if sdist.version == TREE_VERSION:
        return BadSdist(f"The tree of {sdist.name} can't be built: {reason}.", hint="Nothing was made of it.")
    return BadSdist(
        f"{sdist.filename} is not an sdist that can be unpacked: {reason}.",
        hint=f"Ask for another version than {sdist.version}, or report it to the project.",
    )


class BoundedReads(io.RawIOBase):
    """A file of which no more than `_ZIP_READ_BYTES` are read at once."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def read(self, size: int = -1) -> bytes:
        if size > _ZIP_READ_BYTES:
            raise OSError(f"its directory is larger than {_ZIP_READ_BYTES} bytes")
        return self._file.read(size if size >= 0 else _ZIP_READ_BYTES)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Member:
    """A member of an archive; `read` gives at most as many of its bytes as it is asked for."""

    path: str
    kind: Literal["file", "folder", "special"]
    size: int
    read: Callable[[int], bytes]


def _tar_members(file: BinaryIO, unpacked_bytes: int) -> Iterator[_Member]:
    stream = gzip.GzipFile(fileobj=file)
    for info, data in bounded_members(stream, most_bytes=unpacked_bytes, most_members=_MEMBERS):
        yield _Member(
            path=info.name,
            kind="folder" if info.isdir() else "special" if data is None else "file",
            size=info.size,
            read=(data or io.BytesIO()).read,
        )


def _zip_members(file: BinaryIO) -> Iterator[_Member]:
    with zipfile.ZipFile(BoundedReads(file)) as archive:
        for info in archive.infolist()[:_MEMBERS]:
            yield _Member(
                path=info.filename,
                kind="folder" if info.is_dir() else "file",
                size=info.file_size,
                read=partial(_read_entry, archive, info),
            )


def _read_entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo, size: int) -> bytes:
    with archive.open(info) as entry:
        return entry.read(size)


def _in_source_tree(members: Iterable[_Member]) -> dict[str, bytes]:
    """The two files, of the archive's one folder or, in a flat archive, of its top. The driver unpacks by the same
    rule; what it finds is compared with this.

    No more is read than it takes to have both.
    """
    at_top: dict[str, bytes] = {}
    in_folder: dict[str, bytes] = {}
    folder, flat = "", False
    for member in members:
        top, _, path = member.path.removeprefix("./").rstrip("/").partition("/")
        if top in ("", ".", *_LEFTOVERS) or top.startswith("._"):
            continue
        if not path and member.kind != "folder":
            flat = True
            _keep(at_top, top, member)
        elif folder in ("", top):
            folder = top
            _keep(in_folder, path, member)
        if len(at_top if flat else in_folder) == len(_MEMBER_BYTES):
            break
    return at_top if flat else in_folder


def _keep(files: dict[str, bytes], name: str, member: _Member) -> None:
    if name not in _MEMBER_BYTES or name in files or member.kind == "folder":
        return
    if member.kind == "file":
        files[name] = _bounded(name, member)
    elif name == "pyproject.toml":
        raise OSError("its pyproject.toml is a link or a device")


def _bounded(name: str, member: _Member) -> bytes:
    limit = _MEMBER_BYTES[name]
    data = member.read(limit + 1) if 0 <= member.size <= limit else None
    if data is None or len(data) > limit:
        raise OSError(f"its {name} is larger than {limit} bytes")
    return data


def _parse(sdist: Sdist, data: bytes | None) -> dict[str, Any] | None:
    if data is None:
        return None
    if any(line.count(b".") > _LINE_DOTS for line in data.splitlines()):  # tomllib's time is quadratic in a key's parts
        raise bad_archive(sdist, f"its pyproject.toml has a line with more than {_LINE_DOTS} dots")
    try:
        return tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise bad_archive(sdist, f"its pyproject.toml can't be parsed ({error})") from error
