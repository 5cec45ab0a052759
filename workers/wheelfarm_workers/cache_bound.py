"""The bound of a worker's cache: what was used least recently goes, but nothing that a build may be using.

Everything in it can be fetched or made again. Workers of a machine may share a cache, so use and eviction are told
apart by a lock on a file beside the items, and the time until which an item is in use is its modification time: other
workers see it, and it outlives them all.
"""

import fcntl
import logging
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from wheelfarm_workers.clearing import remove_tree

logger = logging.getLogger(__name__)

_LOCK = ".lock"
_EVERY_S = 600.0
_NEW_S = 3600.0
"""For how long what was made or fetched is left alone without anybody having said that it is in use."""


def use(path: Path, *, for_s: float = _NEW_S) -> bool:
    """Whether a cached file or folder is there; if it is, it stays at least for that long."""
    until = time.time() + max(0.0, for_s - _NEW_S)
    with _locked(path.parent, fcntl.LOCK_SH):
        try:
            os.utime(path, (until, until))
        except FileNotFoundError:
            return False
        return True


def made_once(path: Path, make: Callable[[], None], *, for_s: float = _NEW_S) -> Path:
    """A cached folder that stays for at least that long. What is not there is made, by one process while others wait;
    `make` puts it there whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while not use(path, for_s=for_s):
        with (path.parent / f".{path.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists():
                make()
    return path


class CacheBound:
    """Keeps the items of some folders below `most_bytes` together (0: as large as they grow), from a thread of its own.

    What is evicted is moved to `work`, on the same file system, before it is removed there.
    """

    def __init__(self, folders: Sequence[Path], work: Path, *, most_bytes: int, every_s: float = _EVERY_S) -> None:
        self._folders = folders
        self._work = work
        self._most_bytes = most_bytes
        self._every_s = every_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cache", daemon=True)

    def __enter__(self) -> Self:
        if self._most_bytes:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()

    def shrink(self) -> int:
        """Evict what is too much; the bytes that went."""
        items = sorted(item for folder in self._folders for item in _items(folder))
        excess, freed = sum(size for _, size, _ in items) - self._most_bytes, 0
        for _, size, path in items:
            if freed >= excess:
                break
            freed += size if self._evict(path) else 0
        if freed:
            logger.info("cache shrunk", extra={"freed_mib": freed >> 20})
        return freed

    def _evict(self, path: Path) -> bool:
        out = self._work / f"evicted-{path.name}"
        with _locked(path.parent, fcntl.LOCK_EX), suppress(FileNotFoundError):
            if path.lstat().st_mtime > time.time() - _NEW_S:
                return False
            path.rename(out)
        remove_tree(out)
        return True

    def _run(self) -> None:
        while True:
            try:
                self.shrink()
            except (OSError, subprocess.SubprocessError):
                logger.exception("cache not shrunk")
            if self._over.wait(self._every_s):
                return


def _items(folder: Path) -> Iterator[tuple[float, int, Path]]:
    """When each item was used last, its bytes on the disk, and its path."""
    if not folder.is_dir():
        return
    counted = subprocess.run(["du", "-a", "-k", "-d", "1", "--", folder], capture_output=True, text=True, check=False)
    for line in counted.stdout.splitlines():
        kib, _, name = line.partition("\t")
        path = Path(name)
        if path.parent == folder and path.name[0] != ".":
            with suppress(FileNotFoundError):
                yield path.lstat().st_mtime, int(kib) << 10, path


@contextmanager
def _locked(folder: Path, how: int) -> Iterator[None]:
    with (folder / _LOCK).open("wb") as lock:
        fcntl.flock(lock, how)
        yield
