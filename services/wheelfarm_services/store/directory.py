"""A store in a directory: each object a file, written beside and moved into place."""

import errno
import fcntl
import hashlib
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO

from wheelfarm.errors import DiskFull, FarmUnavailable
from wheelfarm_services.store.protocol import StoredObject, require_key

_MARKER = ".wheelfarm-store"
_NEW, _GONE = ".new-", ".gone-"
_SETTLED_NS = 2_000_000_000
"""A file that was changed longer ago than this gets another time with the next change, however coarse they are."""


class DirectoryStore:
    """Objects as files of one directory.

    What `put`, `put_new` and `replace` have told of survives a loss of power: the file and its folder are synced. Of
    `put_file` the file is, and the folder with the next of those on a file system with a journal.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    def existing(cls, root: Path) -> "DirectoryStore":
        """The store in `root`. Raises FarmUnavailable where there is none (now)."""
        store = cls(root)
        try:
            store._require_root()
        except FarmUnavailable as error:
            hint = "Start the farm's services, which make it, or have its file system mounted."
            raise FarmUnavailable(f"There is no store at {root}.", hint=hint) from error
        return store

    @classmethod
    def create(cls, root: Path) -> "DirectoryStore":
        """The store in `root`, which is made, private to its owner, unless it is a store already."""
        try:
            root.mkdir(parents=True, exist_ok=True, mode=0o700)
            (root / _MARKER).touch()
        except OSError as error:
            raise FarmUnavailable(f"The store directory {root} can't be used: {error.strerror}.") from error
        return cls(root)

    def get(self, key: str) -> bytes | None:
        file = self.open(key)
        if file is None:
            return None
        with file:
            return file.read()

    def get_with_etag(self, key: str) -> tuple[bytes, str] | None:
        data = self.get(key)
        return None if data is None else (data, _etag(data))

    def open(self, key: str) -> BinaryIO | None:
        with self._reported(key):
            try:
                return self._path(key).open("rb")
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                self._require_root()
                return None

    def size(self, key: str) -> int | None:
        with self._reported(key):
            try:
                status = self._path(key).stat()
                return status.st_size if stat.S_ISREG(status.st_mode) else None
            except (FileNotFoundError, NotADirectoryError):
                self._require_root()
                return None

    def watch(self, key: str) -> Callable[[], bool] | None:
        path = str(self._path(key))
        known = _version(path)
        if known is None or max(known[-2:]) > self.now() * 1e9 - _SETTLED_NS:
            return None
        return partial(_has_version, path, known)

    def put(self, key: str, data: bytes) -> None:
        with self._reported(key), self._written(key, data) as temporary:
            temporary.replace(self._path(key))
            _sync(temporary.parent)

    def put_file(self, key: str, path: Path) -> None:
        if self.renew(key):
            return
        with self._reported(key), self._written(key, b"") as temporary:
            with path.open("rb") as source, temporary.open("wb") as copy:
                while chunk := source.read(1 << 20):
                    copy.write(chunk)
                copy.flush()
                os.fsync(copy.fileno())
            temporary.replace(self._path(key))

    def renew(self, key: str) -> bool:
        with self._reported(key):
            try:
                os.utime(self._path(key))
                return True
            except (FileNotFoundError, NotADirectoryError):
                self._require_root()
                return False

    def put_new(self, key: str, data: bytes) -> bool:
        with self._reported(key), self._written(key, data) as temporary:
            try:
                os.link(temporary, self._path(key))
            except FileExistsError:
                return False
            _sync(temporary.parent)
            return True

    def replace(self, key: str, data: bytes, etag: str | None) -> bool:
        with self._reported(key), self._written(key, data) as temporary, self._locked(key):
            found = self.get_with_etag(key)
            if (found[1] if found else None) != etag:
                return False
            temporary.replace(self._path(key))
            _sync(temporary.parent)
            return True

    def list(self, prefix: str) -> Iterator[str]:
        return iter(sorted(path.relative_to(self.root).as_posix() for path in self._listed(prefix)))

    def objects(self, prefix: str) -> Iterator[StoredObject]:
        for key in self.list(prefix):
            with self._reported(key), suppress(FileNotFoundError, NotADirectoryError):
                status = (self.root / key).stat()
                yield StoredObject(key=key, size=status.st_size, modified_at=status.st_mtime)

    def _listed(self, prefix: str) -> tuple[Path, ...]:
        if prefix:
            require_key(prefix.rstrip("/"))
        folder, _, start = prefix.rpartition("/")
        with self._reported(prefix):
            self._require_root()
            return tuple(path for path in _files(self.root / folder, start) if path.name[0] != ".")

    def delete(self, key: str) -> None:
        with self._reported(key):
            self._require_root()
            with self._locked(key), suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError):
                self._path(key).unlink()

    def delete_older(self, key: str, than: float) -> bool:
        path = self._path(key)
        gone = path.with_name(_GONE + path.name)
        with self._reported(key):
            self._require_root()
            try:
                if path.stat().st_mtime >= than:
                    return False
                path.replace(gone)
            except (FileNotFoundError, NotADirectoryError):
                return False
            if gone.stat().st_mtime >= than:  # put again meanwhile; whoever came after that has written it anew
                _bring_back(gone)
                return False
            gone.unlink()
            return True

    def move(self, key: str, to: str) -> None:
        source, target = self._path(key), self._path(to)
        with self._reported(key), suppress(NotADirectoryError):
            self._require_root()
            while source.exists():
                with suppress(FileNotFoundError):  # moved by another, or the folder was swept away meanwhile
                    self._make_folder(target.parent)
                    source.replace(target)

    def sweep(self, before: float) -> int:
        removed = 0
        with self._reported(""):
            self._require_root()
            for path in _files(self.root, ""):
                with suppress(FileNotFoundError):
                    if not path.name.startswith((_NEW, _GONE)) or path.lstat().st_ctime >= before:
                        continue
                    if path.name.startswith(_GONE):
                        _bring_back(path)
                    else:
                        path.unlink()
                    removed += 1
            for parent, _, _ in os.walk(self.root, topdown=False, onerror=_fail):
                with suppress(OSError):  # it holds something, or a writer was faster
                    if parent != str(self.root) and os.stat(parent).st_mtime < before:  # noqa: PTH116
                        os.rmdir(parent)  # noqa: PTH106
        return removed

    def now(self) -> float:
        return time.time()

    def _path(self, key: str) -> Path:
        return self.root / require_key(key)

    def _require_root(self) -> None:
        if not os.path.exists(self.root / _MARKER):  # noqa: PTH110  (Path.exists raises where access is denied)
            raise FarmUnavailable(
                f"The store directory {self.root} is gone.",
                hint="Bring it back, or run the command again to begin with an empty one.",
            )

    @contextmanager
    def _written(self, key: str, data: bytes) -> Iterator[Path]:
        """A durable temporary file beside the object's place, removed when it was not moved."""
        descriptor, name = self._begun(self._path(key).parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            yield Path(name)
        finally:
            Path(name).unlink(missing_ok=True)

    def _begun(self, folder: Path) -> tuple[int, str]:
        """A new file in a folder, which is made as often as a sweep takes it away meanwhile."""
        while True:
            self._require_root()
            with suppress(FileNotFoundError):
                self._make_folder(folder)
                return tempfile.mkstemp(dir=folder, prefix=_NEW)

    def _make_folder(self, folder: Path) -> None:
        if not folder.is_dir():
            self._make_folder(folder.parent)
            folder.mkdir(exist_ok=True)
            _sync(folder.parent)

    @contextmanager
    def _locked(self, key: str) -> Iterator[None]:
        """Keep others from replacing or deleting the object; some keys share a lock, and locks are never removed."""
        with (self.root / f".lock-{hashlib.sha256(key.encode()).hexdigest()[:2]}").open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @contextmanager
    def _reported(self, key: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._require_root()
            if error.errno == errno.ENOSPC:
                raise DiskFull(
                    f"The disk of the store is full ({self.root}).",
                    hint="Free some space there, then run the command again: finished wheels are kept.",
                ) from error
            raise FarmUnavailable(f"The store can't reach {key!r} in {self.root}: {error.strerror}.") from error


def _version(path: str) -> tuple[int, ...] | None:
    """What changes with every change of a file, its two times last; None where there is no such file.

    It is opened, for only then network file systems ask their server.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        status = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _has_version(path: str, version: tuple[int, ...]) -> bool:
    return _version(path) == version


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _bring_back(gone: Path) -> None:
    """Undo the first half of a removal."""
    with suppress(FileExistsError):
        os.link(gone, gone.with_name(gone.name.removeprefix(_GONE)))
    gone.unlink()


def _files(folder: Path, start: str) -> Iterator[Path]:
    """Every file in a folder, or below it, whose path from there begins with `start`."""
    for parent, folders, names in os.walk(folder, onerror=_fail):
        if parent == str(folder):
            folders[:] = [name for name in folders if name.startswith(start)]
            names = [name for name in names if name.startswith(start)]
        yield from (Path(parent, name) for name in names)


def _fail(error: OSError) -> None:
    """What can't be listed must not count as absent; a folder that is not there (any more) is."""
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error


def _etag(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
