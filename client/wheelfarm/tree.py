"""Packing a local tree for the farm: the same bytes for the same tree, bounded, and without running anything of it.

It holds everything but version control, virtual environments, caches and what earlier builds left; of a work tree of
git's what is tracked, and of the rest what git does not ignore. Owners are not kept, of modes the executable bit; the
one time is that of the commit where a repository goes along.
"""

import errno
import fnmatch
import gzip
import hashlib
import os
import stat
import tarfile
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path, PurePosixPath

from wheelfarm.errors import BadTree, InputError
from wheelfarm.git_tree import committed_at, files_of_git, small_repository, version_may_need_git
from wheelfarm.project_file import read_toml

MOST_BYTES = 1 << 30
MOST_FILES = 100_000
_TOP = "tree"
_NEVER = {".git", ".hg", ".svn", ".bzr", "CVS", "_darcs", ".jj", "__pycache__", ".tox", ".nox", ".eggs", "node_modules"}
_BUILT = {"build", "dist"}


@dataclass(frozen=True, kw_only=True, slots=True)
class TreeFile:
    """A regular file or a symbolic link of a tree, by its path within."""

    name: str
    path: Path
    size: int
    executable: bool
    link: str | None = None


def project_name(root: Path) -> str:
    """The name that the project in a tree states, or the folder's. Raises BadTree when there is no project."""
    file = root / "pyproject.toml"
    if not file.is_file() and not (root / "setup.py").is_file():
        what = "is not a file" if file.exists() else "has neither a pyproject.toml nor a setup.py"
        raise BadTree(
            f"{root} is no Python project: {'its pyproject.toml ' if file.exists() else 'it '}{what}.",
            hint="Name the folder that has one.",
        )
    try:
        stated = read_toml(file).get("project", {}) if file.exists() else {}
    except InputError as error:
        raise BadTree(error.message) from error
    name = stated.get("name") if isinstance(stated, dict) else None
    return name if isinstance(name, str) else root.resolve().name


def pack_tree(root: Path, archive: Path, *, most_bytes: int = MOST_BYTES, most_files: int = MOST_FILES) -> str:
    """Pack the tree at `root` into `archive` (.tar.gz with one top folder); the archive's sha256.

    Raises BadTree, naming the file, for what can't be read, leads out of the tree, or is no file, and when there is too
    much of it.
    """
    files = sorted(_files(root, root), key=lambda file: file.name)
    repository = small_repository(root) if version_may_need_git(root) else {}
    time = committed_at(root) if repository else 0
    _require_bounded(root, files, sum(map(len, repository.values())), most_bytes, most_files)
    try:
        with (
            archive.open("wb") as raw,
            gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=1, mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
        ):
            for file in files:
                _add(tar, file, time)
            for name, data in sorted(repository.items()):
                tar.addfile(_header(f".git/{name}", time, size=len(data)), BytesIO(data))
    except OSError as error:
        raise BadTree(
            f"{root} can't be packed in {archive.parent}: {error.strerror or error}.",
            hint="Set TMPDIR to another folder.",
        ) from error
    with archive.open("rb") as written:
        return hashlib.file_digest(written, "sha256").hexdigest()


def _files(folder: Path, root: Path) -> Iterator[TreeFile]:
    """The files that belong to a tree."""
    for name in _listed(folder, root):
        path = folder / name
        try:
            status = path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            continue  # git lists what is deleted and not committed as such
        except OSError as error:
            raise BadTree(f"{path} can't be read: {error.strerror}.") from error
        if stat.S_ISDIR(status.st_mode):  # a submodule, which may be absent, or another repository
            if (path / ".git").exists():
                yield from _files(path, root)
        else:
            yield _file(path, status, root)


def _listed(folder: Path, root: Path) -> list[str]:
    """Names of what belongs to a tree, or to another repository within it."""
    tracked, others = files_of_git(folder) or ([], [])
    if folder == root and not {"pyproject.toml", "setup.py"}.intersection((*tracked, *others)):
        return list(_walked(folder))
    unpacked_sdist = (folder / "PKG-INFO").is_file()
    left_out = cache(lambda parent: _left_out(folder / parent, folder, unpacked_sdist))
    return [*tracked, *(name for name in others if not any(map(left_out, PurePosixPath(name).parents[:-1])))]


def _file(path: Path, status: os.stat_result, root: Path) -> TreeFile:
    mode = status.st_mode
    name = path.relative_to(root).as_posix()
    if stat.S_ISLNK(mode):
        return TreeFile(name=name, path=path, size=0, executable=False, link=_link(path, root))
    if not stat.S_ISREG(mode):
        raise BadTree(f"{path} is a device, a socket or a FIFO, which no sdist can hold.", hint="Remove it.")
    return TreeFile(name=name, path=path, size=status.st_size, executable=bool(mode & 0o100))


def _link(path: Path, root: Path) -> str:
    """Where a symbolic link leads. Raises BadTree when that is out of the tree."""
    target = path.readlink()
    reached = Path(os.path.normpath(path.parent.resolve() / target))
    if target.is_absolute() or not reached.is_relative_to(root.resolve()):
        raise BadTree(
            f"{path} is a symbolic link that leads out of the tree, to {target}.",
            hint="The farm gets the tree alone: put the file there in place of the link, or have git ignore it.",
        )
    return str(target)


def _walked(root: Path) -> Iterator[str]:
    """Every file of a tree that git tells nothing of, but for what is never part of a project."""
    unpacked_sdist = (root / "PKG-INFO").is_file()  # what it says of itself in *.egg-info belongs to it

    def fail(error: OSError) -> None:
        raise BadTree(f"{error.filename} can't be read: {error.strerror}.") from error

    for parent, folders, files in os.walk(root, onerror=fail):
        here = Path(parent)
        links = [name for name in folders if (here / name).is_symlink()]
        kept = [name for name in folders if name not in links and not _left_out(here / name, root, unpacked_sdist)]
        folders[:] = sorted(kept)
        yield from (
            (here / name).relative_to(root).as_posix() for name in (*files, *links) if not name.endswith(".pyc")
        )


def _left_out(folder: Path, root: Path, unpacked_sdist: bool) -> bool:
    if folder.name in _NEVER:
        return True
    with suppress(PermissionError):  # which is told when the folder is read
        if (folder / "pyvenv.cfg").exists() or (folder / "CACHEDIR.TAG").exists():
            return True
    built = folder.parent == root and folder.name in _BUILT
    return not unpacked_sdist and (built or fnmatch.fnmatch(folder.name, "*.egg-info"))


def _require_bounded(root: Path, files: list[TreeFile], more: int, most_bytes: int, most_files: int) -> None:
    """Raise BadTree, naming where most of it lies, when a tree, with `more` bytes of a repository, is too large."""
    sizes, counts = Counter({".git": more}), Counter[str]()
    for file in files:
        top = file.name.partition("/")[0]
        sizes[top] += file.size
        counts[top] += 1
    if sizes.total() > most_bytes:
        limit = f"{most_bytes >> 20} MiB"
        largest = [f"{name} ({size >> 20} MiB)" for name, size in sizes.most_common(3) if size >> 20]
    elif counts.total() > most_files:
        limit = f"{most_files} files"
        largest = [f"{name} ({count})" for name, count in counts.most_common(3)]
    else:
        return
    raise BadTree(
        f"{root} holds more than {limit}, which is as much as a tree may. Most of it: {', '.join(largest)}.",
        hint="Have git ignore what is no part of the project.",
    )


def _add(tar: tarfile.TarFile, file: TreeFile, time: int) -> None:
    if file.link is not None:
        header = _header(file.name, time)
        header.type, header.linkname = tarfile.SYMTYPE, file.link
        tar.addfile(header)
        return
    try:
        with os.fdopen(os.open(file.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as content:
            size = os.fstat(content.fileno()).st_size
            if size != file.size or not stat.S_ISREG(os.fstat(content.fileno()).st_mode):
                raise BadTree(f"{file.path} changed while it was packed.", hint="Run the command again.")
            tar.addfile(_header(file.name, time, size=size, executable=file.executable), content)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise BadTree(f"{file.path} can't be read: {error.strerror or error}.") from error


def _header(name: str, time: int, *, size: int = 0, executable: bool = False) -> tarfile.TarInfo:
    header = tarfile.TarInfo(f"{_TOP}/{name}")
    header.size, header.mode, header.mtime = size, 0o755 if executable else 0o644, time
    return header
