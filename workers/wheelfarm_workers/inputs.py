"""Inputs of a build, copied from the store to the worker's disk and verified on the way."""

import hashlib
import threading
from pathlib import Path
from typing import BinaryIO

from wheelfarm.errors import FarmUnavailable, HashMismatch
from wheelfarm.farm import Farm
from wheelfarm.job import Job
from wheelfarm.wheel import BuiltWheel
from wheelfarm_services import layout
from wheelfarm_services.store import Store
from wheelfarm_workers.cache_bound import use
from wheelfarm_workers.placing import place


class Inputs:
    """Brings sdists and wheels to where sandboxes can read them."""

    def __init__(self, store: Store, farm: Farm, folder: Path, work: Path) -> None:
        self._store = store
        self._farm = farm
        self._folder = folder
        self._work = work
        folder.mkdir(parents=True, exist_ok=True)

    def sdist(self, job: Job) -> Path:
        """The job's sdist, or the tree that a client sent, on this disk. An sdist of the source index that the store
        lacks is asked of it first.

        Raises HashMismatch when the store's bytes are not those of its digest.
        """
        sdist = job.sdist
        path = self._folder / sdist.sha256
        if not use(path):
            key = layout.local_archive(sdist.sha256) if job.is_local else layout.sdist(sdist.sha256)
            if not job.is_local and self._store.size(key) is None:
                self._farm.mirror([sdist])
            _copy_verified(_opened(self._store, key, sdist.filename), sdist.sha256, sdist.filename, path, self._work)
        return path

    def patch(self, sha256: str) -> Path:
        """A recipe's patch on this disk. Raises HashMismatch as `sdist` does."""
        path = self._folder / f"{sha256}.patch"
        if not use(path):
            source = _opened(self._store, layout.patch(sha256), f"patch {sha256[:12]}")
            _copy_verified(source, sha256, f"patch {sha256[:12]}", path, self._work)
        return path

    def copy_wheel(self, wheel: BuiltWheel, path: Path) -> None:
        """Copy a wheel of the farm to `path`. Raises HashMismatch as `sdist` does."""
        key = layout.wheel(wheel.sha256, wheel.filename)
        _copy_verified(_opened(self._store, key, wheel.filename), wheel.sha256, wheel.filename, path, path.parent)


def _opened(store: Store, key: str, filename: str) -> BinaryIO:
    file = store.open(key)
    if file is None:
        raise FarmUnavailable(
            f"{filename} is gone from the store.", hint="Run the command again: it will be made anew."
        )
    return file


def _copy_verified(source: BinaryIO, sha256: str, filename: str, path: Path, work: Path) -> None:
    """Copy what is `sha256` to `path`, written in the folder `work` of the same file system until it is whole."""
    partial = work / f".{path.name}.{threading.get_ident()}"
    digest = hashlib.sha256()
    with source, partial.open("wb") as copy:
        while chunk := source.read(1 << 20):
            digest.update(chunk)
            copy.write(chunk)
    if digest.hexdigest() != sha256:
        partial.unlink()
        raise HashMismatch(f"{filename} in the store has sha256 {digest.hexdigest()}, not {sha256}.")
    partial.chmod(0o644)
    place(partial, path)
