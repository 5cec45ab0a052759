"""The slots of a sandbox back end: how many runs it has at once, and a number for each."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue

_POLL_S = 0.1


class Slots:
    """Numbers from 0 on, each lent to one run at a time."""

    def __init__(self, count: int) -> None:
        self._free: SimpleQueue[int] = SimpleQueue()
        for number in range(count):
            self._free.put(number)

    @contextmanager
    def hold(self, cancelled: threading.Event) -> Iterator[int | None]:
        """A free slot as soon as there is one; None if `cancelled` came before."""
        slot = self._take(cancelled)
        try:
            yield slot
        finally:
            if slot is not None:
                self._free.put(slot)

    def _take(self, cancelled: threading.Event) -> int | None:
        while not cancelled.is_set():
            try:
                return self._free.get(timeout=_POLL_S)
            except Empty:
                continue
        return None
