"""Draining: a worker that is told to end takes no new job, and finishes its own or hands them back.

The first SIGTERM or SIGINT begins it: what runs may go on for the grace. What is not finished then is ended with its
sandbox and queued again, without counting as a failed attempt. The second signal ends the grace, the third the process.
"""

import logging
import os
import threading
from collections.abc import Callable
from typing import Protocol

logger = logging.getLogger(__name__)

_ENDING_S = 5.0
"""How long jobs may take to end once they were told to, and the process once it has nothing to do."""
_KILLED = 143


class Drainable(Protocol):
    def stop_claiming(self) -> None: ...

    def hand_back(self) -> None: ...

    def abandon(self) -> None: ...

    def wait_until_idle(self, timeout_s: float) -> bool: ...


class Drain:
    """What becomes of a worker's jobs when it is told to end. `began` is told first; `last_act` is done before the
    process is ended by force, for a thread of it that does not come back."""

    def __init__(
        self,
        jobs: Drainable,
        *,
        grace_s: float,
        began: Callable[[], None],
        last_act: Callable[[], None],
        end: Callable[[int], object] = os._exit,
        ending_s: float = _ENDING_S,
    ) -> None:
        self._jobs = jobs
        self._grace_s = grace_s
        self._began = began
        self._last_act = last_act
        self._end = end
        self._ending_s = ending_s
        self._signals = 0
        self._hurry = threading.Event()
        self._thread = threading.Thread(target=self._drain, name="drain", daemon=True)

    def signalled(self) -> None:
        """React to a signal to end; the third one ends the process at once."""
        self._signals += 1
        if self._signals == 1:
            self._jobs.stop_claiming()
            self._thread.start()
        elif self._signals == 2:
            self._hurry.set()
        else:
            self._end(_KILLED)

    def _drain(self) -> None:
        logger.info("draining", extra={"grace_s": self._grace_s})
        self._began()
        if not self._finished_in_grace():
            self._jobs.hand_back()
            if not self._jobs.wait_until_idle(self._ending_s):
                self._jobs.abandon()
        threading.Event().wait(self._ending_s)  # by then the main thread has ended the process, unless something hangs
        self._last_act()
        self._end(0)

    def _finished_in_grace(self) -> bool:
        waited_s = 0.0
        while not self._jobs.wait_until_idle(0.1):
            waited_s += 0.1
            if waited_s >= self._grace_s or self._hurry.is_set():
                return False
        return True
