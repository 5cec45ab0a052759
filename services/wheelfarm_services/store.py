"""The object store: the farm's durable truth, as a directory of immutable blobs and small conditional objects.

The operations are those that S3 offers and no more, so that a bucket can stand in for the directory: whole-object
puts, `If-None-Match: *` (`put_new`), `If-Match` (`replace`), ordered listing by prefix. Keys are relative, with `/`
between parts.
"""

import errno
import fcntl
import hashlib
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Protocol
from urllib.parse import unquote, urlsplit

from wheelfarm.errors import FarmUnavailable, InputError, NotFound

_PART = re.compile(r"[A-Za-z0-9_!+=~-][A-Za-z0-9._!+=~-]{0,239}")
_MARKER = ".wheelfarm-store"


class Store(Protocol):
    """Objects by key. Every method raises FarmUnavailable when the store itself can't be reached; only a missing key
    counts as absent."""

    def get(self, key: str) -> bytes | None:
        """The object's bytes, or None when there is none."""
        ...

    def get_with_etag(self, key: str) -> tuple[bytes, str] | None:
        """The object's bytes and the tag that `replace` takes."""
        ...

    def open(self, key: str) -> BinaryIO | None:
        """The object as a readable file, or None."""
        ...

    def size(self, key: str) -> int | None:
        """The object's size in bytes, or None when there is none."""
        ...

    def put(self, key: str, data: bytes) -> None:
        """Write the object whole, whatever was there."""
        ...

    def put_file(self, key: str, path: Path) -> None:
        """Write the object from a file. For content-addressed keys: an object that is there already is left alone."""
        ...

    def put_new(self, key: str, data: bytes) -> bool:
        """Write the object unless the key is taken (`If-None-Match: *`); tell whether it was written."""
        ...

    def replace(self, key: str, data: bytes, etag: str | None) -> bool:
        """Write the object if its tag is still `etag` (None: if it is absent); tell whether it was written."""
        ...

    def list(self, prefix: str) -> Iterator[str]:
        """Every key that begins with `prefix`, such as a folder ending in `/`, in order."""
        ...

    def delete(self, key: str) -> None:
        """Remove the object if it is there."""
        ...


def open_store(url: str) -> Store:
    """The store a URL names: `file:///path` (made when it is absent). Raises InputError for other schemes."""
    parts = urlsplit(url)
    if parts.scheme != "file" or not parts.path:
        raise InputError(f"No store is known for {url!r}. Give a directory as file:///path.")
    return DirectoryStore.create(Path(unquote(parts.path)))


class DirectoryStore:
    """A store in a directory: each object a file, written beside and moved into place."""

    def __init__(self, root: Path) -> None:
        self.root = root

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

    def put(self, key: str, data: bytes) -> None:
        with self._reported(key), self._written(key, data) as temporary:
            temporary.replace(self._path(key))

    def put_file(self, key: str, path: Path) -> None:
        if self.size(key) is not None:
            return
        with self._reported(key), self._written(key, b"") as temporary:
            with path.open("rb") as source, temporary.open("wb") as copy:
                while chunk := source.read(1 << 20):
                    copy.write(chunk)
                copy.flush()
                os.fsync(copy.fileno())
            temporary.replace(self._path(key))

    def put_new(self, key: str, data: bytes) -> bool:
        with self._reported(key), self._written(key, data) as temporary:
            try:
                os.link(temporary, self._path(key))
            except FileExistsError:
                return False
            return True

    def replace(self, key: str, data: bytes, etag: str | None) -> bool:
        with self._reported(key), self._written(key, data) as temporary, self._locked(key):
            found = self.get_with_etag(key)
            if (found[1] if found else None) != etag:
                return False
            temporary.replace(self._path(key))
            return True

    def list(self, prefix: str) -> Iterator[str]:
        self._path(prefix.rstrip("/"))
        folder, _, start = prefix.rpartition("/")
        with self._reported(prefix):
            self._require_root()
            found = list(_files(self.root / folder, start))
        return iter(sorted(path.relative_to(self.root).as_posix() for path in found if path.name[0] != "."))

    def delete(self, key: str) -> None:
        with self._reported(key):
            self._require_root()
            with suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError):
                self._path(key).unlink()

    def _path(self, key: str) -> Path:
        if not all(_PART.fullmatch(part) for part in key.split("/")):
            raise NotFound(f"{key!r} is not a key of the store.")
        return self.root / key

    def _require_root(self) -> None:
        if not os.path.exists(self.root / _MARKER):  # noqa: PTH110  (Path.exists raises where access is denied)
            raise FarmUnavailable(
                f"The store directory {self.root} is gone.",
                hint="Bring it back, or run the command again to begin with an empty one.",
            )

    @contextmanager
    def _written(self, key: str, data: bytes) -> Iterator[Path]:
        """A durable temporary file beside the object's place, removed when it was not moved."""
        self._require_root()
        folder = self._path(key).parent
        folder.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=folder, prefix=".new-")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            yield Path(name)
        finally:
            Path(name).unlink(missing_ok=True)

    @contextmanager
    def _locked(self, key: str) -> Iterator[None]:
        lock = self._path(key).with_name(f".lock-{self._path(key).name}")
        with lock.open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @contextmanager
    def _reported(self, key: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._require_root()
            if error.errno == errno.ENOSPC:
                raise FarmUnavailable(
                    f"The disk of the store is full ({self.root}).",
                    hint="Free some space there, then run the command again: finished wheels are kept.",
                ) from error
            raise FarmUnavailable(f"The store can't reach {key!r} in {self.root}: {error.strerror}.") from error


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
