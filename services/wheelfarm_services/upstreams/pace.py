"""A pace: how often an upstream is asked at most."""

import threading
import time
from collections.abc import Callable


class Pace:
    """Keeps requests of all threads apart, evenly; `per_s` of 0 keeps no pace."""

    def __init__(self, per_s: float, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._apart_s = 1.0 / per_s if per_s else 0.0
        self._sleep = sleep
        self._lock = threading.Lock()
        self._next = 0.0

    def wait(self) -> None:
        """Return when it is this request's turn."""
        if not self._apart_s:
            return
        with self._lock:
            now = time.monotonic()
            turn = max(now, self._next)
            self._next = turn + self._apart_s
        if turn > now:
            self._sleep(turn - now)
