"""The store as a worker uses it: while it can't be reached, what was asked of it is asked again.

So a job whose wheel is built keeps it on this disk, under a lease that is renewed, until the store is back.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeVar

from wheelfarm.errors import CorruptObject, DiskFull, FarmUnavailable
from wheelfarm_services.store import Store, StoredObject

logger = logging.getLogger(__name__)

T = TypeVar("T")

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0
_NOTICED_S = 3.0


def open_patiently(open_now: Callable[[], Store], *, patience_s: float) -> Store:
    """A store that is opened when it can be: the farm's services may be about to make it, or its server to start."""
    began, told = time.monotonic(), False
    while True:
        try:
            return open_now()
        except FarmUnavailable as error:
            waited_s = time.monotonic() - began
            if waited_s > patience_s:
                raise
            if waited_s > _NOTICED_S and not told:
                told = True
                logger.warning("the store is waited for", extra={"reason": error.message})
        time.sleep(_FIRST_PAUSE_S)


class PatientStore:
    """A store whose operations wait for up to `patience_s` for it to come back, unless `ending` is set meanwhile."""

    def __init__(self, store: Store, *, patience_s: float, ending: threading.Event) -> None:
        self._store = store
        self._patience_s = patience_s
        self._ending = ending

    def get(self, key: str) -> bytes | None:
        return self._patiently(partial(self._store.get, key))

    def get_with_etag(self, key: str) -> tuple[bytes, str] | None:
        return self._patiently(partial(self._store.get_with_etag, key))

    def open(self, key: str) -> BinaryIO | None:
        return self._patiently(partial(self._store.open, key))

    def size(self, key: str) -> int | None:
        return self._patiently(partial(self._store.size, key))

    def watch(self, key: str) -> Callable[[], bool] | None:
        return self._store.watch(key)

    def put(self, key: str, data: bytes) -> None:
        self._patiently(partial(self._store.put, key, data))

    def put_file(self, key: str, path: Path) -> None:
        self._patiently(partial(self._store.put_file, key, path))

    def put_new(self, key: str, data: bytes) -> bool:
        return self._patiently(partial(self._store.put_new, key, data))

    def replace(self, key: str, data: bytes, etag: str | None) -> bool:
        return self._patiently(partial(self._store.replace, key, data, etag))

    def list(self, prefix: str) -> Iterator[str]:
        return iter(self._patiently(lambda: [*self._store.list(prefix)]))

    def objects(self, prefix: str) -> Iterator[StoredObject]:
        return iter(self._patiently(lambda: [*self._store.objects(prefix)]))

    def delete(self, key: str) -> None:
        self._patiently(partial(self._store.delete, key))

    def delete_older(self, key: str, than: float) -> bool:
        return self._patiently(partial(self._store.delete_older, key, than))

    def move(self, key: str, to: str) -> None:
        self._patiently(partial(self._store.move, key, to))

    def renew(self, key: str) -> bool:
        return self._patiently(partial(self._store.renew, key))

    def sweep(self, before: float) -> int:
        return self._patiently(partial(self._store.sweep, before))

    def now(self) -> float:
        return self._patiently(self._store.now)

    def _patiently(self, operation: Callable[[], T]) -> T:
        deadline, pause_s = time.monotonic() + self._patience_s, _FIRST_PAUSE_S
        while True:
            try:
                return operation()
            except (CorruptObject, DiskFull):  # it is there, and waiting would not mend it
                raise
            except FarmUnavailable as error:
                if time.monotonic() + pause_s > deadline:
                    raise
                logger.warning("the store is waited for", extra={"reason": error.message})
                if self._ending.wait(pause_s):
                    raise
            pause_s = min(_LONGEST_PAUSE_S, 2 * pause_s)
