"""A worker's workplace: the folder of everything half-finished, which whoever starts next removes when it has died.

A lock on the folder, which the kernel releases however the worker ends, tells the workplaces of the living from those
of the dead; several workers of a machine may share one cache.
"""

import fcntl
import logging
import os
import time
from contextlib import suppress
from pathlib import Path

from wheelfarm.errors import InputError
from wheelfarm_workers.clearing import remove_tree

logger = logging.getLogger(__name__)

_PATIENCE_S = 2.0


class Workplace:
    """A folder of a worker's own, for as long as it lives."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock = lock

    def close(self) -> None:
        """Remove it with all that is left in it."""
        remove_tree(self.path)
        os.close(self._lock)


def open_workplace(folder: Path, name: str) -> Workplace:
    """The workplace `name` in `folder`, empty. Raises InputError when a living worker has it."""
    folder.mkdir(parents=True, exist_ok=True)
    path, deadline = folder / name, time.monotonic() + _PATIENCE_S
    while (lock := _made(path)) is None:  # taken: by a worker, or for a moment by one that clears up
        if time.monotonic() > deadline:
            raise InputError(
                f"A worker named {name} runs already with this cache ({folder.parent}).",
                hint="Give this one another --name.",
            )
        time.sleep(0.05)
    return Workplace(path, lock)


def clear_abandoned(folder: Path) -> int:
    """Remove the workplaces whose workers are dead; the number of them. This is the janitor."""
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    cleared = [path for path in paths if _clear(path)]
    if cleared:
        logger.info("left by dead workers and removed", extra={"workplaces": [path.name for path in cleared]})
    return len(cleared)


def _clear(path: Path) -> bool:
    lock = _locked(path)
    if lock is None:
        return False
    try:
        remove_tree(path)
    finally:
        os.close(lock)
    return True


def _made(path: Path) -> int | None:
    """The lock on a new folder; None while somebody else holds it."""
    if path.exists() and not _clear(path):
        return None
    with suppress(FileExistsError):
        path.mkdir(mode=0o755)
    return _locked(path)


def _locked(path: Path) -> int | None:
    """A descriptor that holds the lock of the folder at `path`; None where there is none, or it is another's."""
    try:
        lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(lock).st_ino == path.stat().st_ino:  # else it was removed before it was locked
            return lock
    except OSError:
        pass
    os.close(lock)
    return None
