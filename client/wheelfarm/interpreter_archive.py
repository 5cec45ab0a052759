"""Archives of Python distributions: what is in one, judged before anything is unpacked, and its installation unpacked.

They are laid out as uv takes them: at most one top folder, `install` in it or not, then `bin`, `lib` and the rest.
"""

import errno
import gzip
import os
import re
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from posixpath import dirname, normpath
from typing import IO, Any, BinaryIO

from wheelfarm.bounded_tar import Readable, bounded_members
from wheelfarm.errors import BadInterpreterArchive, DiskFull, MachineUnfit

MOST_BYTES = 1 << 30
_UNPACKED_BYTES = 8 << 30
_MEMBERS = 200_000
_NAME_LENGTH = 1000
_LATEST = 2**32 - 1
_READ_BYTES, _MOST_TEXTS = 4 << 20, 8
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_OTHER_KINDS = {b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"PK\x03\x04": "zip", b"\x04\x22\x4d\x18": "lz4"}
_EXECUTABLE = re.compile(r"(bin/(python|pypy|graalpy)[0-9.]*[td]*|(python|pypy|graalpy)[0-9.]*[td]*\.exe)")
_HEADER = re.compile(r"(include/python[0-9.]+[td]*|include|Include)/patchlevel\.h")
_SYSCONFIG = re.compile(r"lib/python[0-9.]+[td]*/_sysconfigdata_[^/]*\.py")
_VERSION = re.compile(rb'#define\s+PY_VERSION\s+"([0-9a-z.]+)\+?"')
_PREFIX = re.compile(rb"""['"]prefix['"]: ['"]([^'"\n]{1,300})['"]""")


@dataclass(frozen=True, kw_only=True, slots=True)
class Contents:
    """What an archive holds: the folder of its installation, the version that its header states and the prefix that
    it was configured with, both empty where there is none to be read."""

    root: str
    version: str
    prefix: str


@dataclass(kw_only=True, slots=True)
class _Read:
    """What an archive was found to hold so far."""

    names: set[str] = field(default_factory=set)
    files: set[str] = field(default_factory=set)
    links: set[str] = field(default_factory=set)
    texts: dict[str, bytes] = field(default_factory=dict)


def examine(archive: Path, filename: str) -> Contents:
    """Read an archive through. Raises BadInterpreterArchive for one of another kind, one that has members which lead
    out of it, devices, set-uid files or too much of anything, and one that holds no Python."""
    found = _Read()
    with _members(archive, filename) as members:
        for info, data in members:
            path = _judged(info, found)
            inner = _inside(path)
            tells = _HEADER.fullmatch(inner) or _SYSCONFIG.fullmatch(inner)
            if data is not None and tells and len(found.texts) < _MOST_TEXTS:
                found.texts[inner] = data.read(_READ_BYTES)
    root = _root(found.names)
    inside = {name.removeprefix(f"{root}/") if root else name for name in found.names}
    if not any(_EXECUTABLE.fullmatch(name) for name in inside):
        raise _bad(filename, f"there is no Python in it: no {root + '/' if root else ''}bin/python3")
    versions = [_said(_VERSION, text) for name, text in found.texts.items() if _HEADER.fullmatch(name)]
    prefixes = [_said(_PREFIX, text) for name, text in found.texts.items() if _SYSCONFIG.fullmatch(name)]
    return Contents(root=root, version=next(iter(versions), ""), prefix=next(iter(prefixes), ""))


def unpack(archive: Path, filename: str, root: str, folder: Path) -> None:
    """Unpack the installation, which is at `root` in the archive, into a new `folder`. Raises BadInterpreterArchive.

    Files belong to whoever unpacks them, and are writable by nobody else. No member is written through a link.
    """
    folder.mkdir(parents=True)
    found = _Read()
    with _members(archive, filename) as members:
        for info, data in members:
            path = _judged(info, found)
            inner = path.removeprefix(f"{root}/") if root else path
            if inner and (not root or path.startswith(f"{root}/")):
                _write(info, data, folder, inner, root)


def _write(info: tarfile.TarInfo, data: IO[bytes] | None, folder: Path, inner: str, root: str) -> None:
    path = folder / inner
    if info.isdir():
        path.mkdir(mode=0o755, parents=True, exist_ok=True)
        return
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    if info.issym():
        path.symlink_to(info.linkname)
    elif info.islnk():
        path.hardlink_to(
            folder / (normpath(info.linkname).removeprefix(f"{root}/") if root else normpath(info.linkname))
        )
    elif data is not None:
        with path.open("xb") as file:
            while chunk := data.read(1 << 20):
                file.write(chunk)
        path.chmod(0o755 if info.mode & 0o111 else 0o644)
        modified = min(max(0, int(info.mtime)), _LATEST)
        os.utime(path, (modified, modified))  # by which .pyc files tell whether they are of their sources


@contextmanager
def _members(archive: Path, filename: str) -> Iterator[Iterator[tuple[tarfile.TarInfo, IO[bytes] | None]]]:
    """The archive's members; what is wrong with it, or with what is done with them, is BadInterpreterArchive."""
    with archive.open("rb") as file, _decompressed(file, filename) as stream:
        try:
            yield bounded_members(stream, most_bytes=_UNPACKED_BYTES, most_members=_MEMBERS)
        except (tarfile.TarError, OSError, EOFError, ValueError, zlib.error, RecursionError) as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise DiskFull(f"{filename} can't be unpacked: {error.strerror}.") from error
            raise _bad(filename, str(error)) from error
        except Exception as error:
            if type(error).__name__ != "ZstdError":
                raise
            raise _bad(filename, str(error)) from error


@contextmanager
def _decompressed(file: BinaryIO, filename: str) -> Iterator[Readable]:
    beginning = file.read(8)
    file.seek(0)
    if beginning.startswith(_GZIP):
        with gzip.GzipFile(fileobj=file) as stream:
            yield stream
    elif beginning.startswith(_ZSTD):
        with _zstd(file) as stream:
            yield stream
    else:
        kind = next((name for magic, name in _OTHER_KINDS.items() if beginning.startswith(magic)), "no known archive")
        raise _bad(filename, f"it is {kind}, and uv installs Pythons from .tar.gz and .tar.zst alone")


def _zstd(file: BinaryIO) -> Any:
    """What unpacks zstd (RFC 8878): Python's own module from 3.14 on (PEP 784), its backport before."""
    try:
        try:
            from compression import zstd  # type: ignore[import-not-found, unused-ignore]
        except ImportError:
            from backports import zstd
    except ImportError:
        raise MachineUnfit(
            "A .tar.zst can't be read here: there is no zstd.", hint="pip install wheelfarm[services]"
        ) from None
    return zstd.open(file, "rb")


def _judged(info: tarfile.TarInfo, found: _Read) -> str:
    """The member's path, relative and without dots ("" for the top itself). Raises OSError for one that is refused."""
    path = _inner_path(info.name, "")
    if not (info.isreg() or info.isdir() or info.issym() or info.islnk()):
        raise OSError(f"{info.name!r} is a device or a pipe")
    if info.mode & 0o6000:
        raise OSError(f"{info.name!r} is set-uid or set-gid")
    folders = [path[: slash.start()] for slash in re.finditer("/", path)]
    if any(above in found.links or above in found.files for above in folders):
        raise OSError(f"{info.name!r} lies behind a link or a file")
    if path in found.links or path in found.files or (path in found.names and not info.isdir()):
        raise OSError(f"{info.name!r} is in it twice")
    if info.issym():
        _require_inner_link(info.linkname, dirname(path))
        found.links.add(path)
    elif info.islnk() and _inner_path(info.linkname, "") not in found.files:
        raise OSError(f"{info.name!r} is a link to what is no file in it before")
    elif not info.isdir():
        found.files.add(path)
    found.names.update(folders, [path])
    return path


def _inner_path(name: str, base: str) -> str:
    """Where a name leads that is told in the folder `base` of the archive. Raises OSError for one that leads out."""
    path = normpath(f"{base}/{name}" if base else name)
    if not name or name.startswith("/") or "\\" in name or "\0" in name or path == ".." or path.startswith("../"):
        raise OSError(f"{name[:_NAME_LENGTH]!r} leads out of it")
    if len(name) > _NAME_LENGTH:
        raise OSError(f"it has a name of {len(name)} characters")
    return "" if path == "." else path


def _require_inner_link(link: str, base: str) -> None:
    """Raise OSError for a symbolic link that leads out, or that goes up again after it went down: what it went down by
    may be a link itself."""
    _inner_path(link, base)
    if re.search(r"(?:^|/)(?!\.\.?(?:/|$))[^/]+/(?:.*/)?\.\.(?:/|$)", link):
        raise OSError(f"the link {link!r} goes down and up again")


def _root(names: set[str]) -> str:
    """The folder of the installation: of the one top folder, `install` in it where there is one."""
    tops = {name.partition("/")[0] for name in names if name}
    top = next(iter(tops)) if len(tops) == 1 else ""
    install = f"{top}/install" if top else "install"
    return install if any(name.startswith(f"{install}/") for name in names) else top


def _inside(path: str) -> str:
    """The path below `bin`, `lib` or `include`, wherever the installation is."""
    found = re.search(r"(?:^|/)((?:lib|include|Include)/.*)", path)
    return found[1] if found else ""


def _said(form: re.Pattern[bytes], text: bytes) -> str:
    found = form.search(text)
    return found[1].decode(errors="replace") if found else ""


def _bad(filename: str, reason: str) -> BadInterpreterArchive:
    return BadInterpreterArchive(
        f"{filename} can't be kept as a Python distribution: {reason}.",
        hint="Accepted: .tar.gz or .tar.zst with bin/, lib/ and the rest at the top, in one folder or in its install/.",
    )
