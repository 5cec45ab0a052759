"""Supervision: processes that are started, started again when they die, and ended together.

Single-threaded, standard library only. Each is bound to this process by the kernel (PR_SET_PDEATHSIG), so that not even
SIGKILL leaves one behind; a worker's sandboxes end with the worker.
"""

import contextlib
import ctypes
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from wheelfarm.errors import FarmUnavailable, WheelfarmError, error_from_json

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)
_SETTLED_S = 10.0
"""A part that has run for so long can run; what ends it later is an accident."""
_MOST_DEATHS = 5
_LONGEST_PAUSE_S = 5.0


@dataclass(kw_only=True, slots=True)
class Part:
    """One process. Its last line of stdout says, as JSON, why it can't start. `deaths` are those in a row that came
    within `_SETTLED_S` of a start."""

    name: str
    command: Sequence[str]
    environment: dict[str, str]
    inherited: tuple[int, ...] = ()
    process: "subprocess.Popen[bytes] | None" = None
    pidfd: int = -1
    deaths: int = 0
    settled: bool = False
    started_at: float = 0.0
    due: float = float("inf")


class Supervisor:
    """Starts parts in their order and ends them in the reverse one.

    A part that refuses to start, with its reason, or dies again and again ends it all; one that has settled once is
    started again for ever where the farm is `lasting`.
    """

    def __init__(
        self, selector: selectors.BaseSelector, *, lasting: bool, say: Callable[[str], None], hint: str = ""
    ) -> None:
        self.parts: list[Part] = []
        self._selector = selector
        self._lasting = lasting
        self._say = say
        self._hint = hint

    def start(self, part: Part) -> None:
        """Start a part, and see to it from now on."""
        self.parts.append(part)
        self._start(part)

    def part_of(self, source: object) -> Part | None:
        """The part of which a ready descriptor tells the end."""
        return next((part for part in self.parts if part.pidfd == source), None)

    def patience_s(self) -> float:
        """How long may be waited before `start_due` has something to do."""
        return max(0.0, min((part.due for part in self.parts), default=float("inf")) - time.monotonic())

    def start_due(self) -> None:
        """Start what was left alone for a moment after it died."""
        for part in self.parts:
            if part.due <= time.monotonic():
                self._start(part)

    def bury(self, part: Part) -> None:
        """Have a part that died started again. Raises its own reason when it refused to start, or gives up."""
        self._selector.unregister(part.pidfd)
        os.close(part.pidfd)
        part.pidfd = -1
        said, _ = part.process.communicate() if part.process else (b"", b"")
        status = part.process.returncode if part.process else 0
        lived_s = time.monotonic() - part.started_at
        part.settled = part.settled or lived_s > _SETTLED_S
        part.deaths = 0 if lived_s > _SETTLED_S else part.deaths + 1
        reason = _reason(said) if status > 0 else None
        if not (self._lasting and part.settled):
            if reason is not None:
                raise reason
            if part.deaths > _MOST_DEATHS:
                raise FarmUnavailable(
                    f"The farm's {part.name} ended {part.deaths} times over (status {status}).", hint=self._hint
                )
        self._say(f"{part.name} ended (status {status}) and is started again{f': {reason}' if reason else ''}")
        pause_s = min(_LONGEST_PAUSE_S, 0.1 * 2**part.deaths) if part.deaths > 1 else 0.0
        part.due = time.monotonic() + pause_s
        self.start_due()

    def end(self, grace_s: Sequence[tuple[str, float]], *, rest_s: float) -> None:
        """End every part with what it started. Parts whose names begin with one of `grace_s` get their time first, in
        this order; the others have `rest_s` together."""
        for prefix, seconds in grace_s:
            self._end([part for part in self.parts if part.name.startswith(prefix)], seconds)
        self._end(self.parts[::-1], rest_s)

    def signal(self, prefix: str, number: int) -> None:
        """Send a signal to the parts whose names begin so."""
        for part in self.parts:
            if part.name.startswith(prefix) and part.process and part.process.poll() is None:
                part.process.send_signal(number)

    def _start(self, part: Part) -> None:
        part.process = subprocess.Popen(
            part.command,
            env=part.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            pass_fds=part.inherited,
            preexec_fn=_die_with_parent,
            process_group=0,
        )
        part.started_at, part.due = time.monotonic(), float("inf")
        part.pidfd = os.pidfd_open(part.process.pid)
        self._selector.register(part.pidfd, selectors.EVENT_READ)

    def _end(self, parts: Sequence[Part], seconds: float) -> None:
        running = [part.process for part in parts if part.process and part.process.poll() is None]
        for process in running:
            process.terminate()
        deadline = time.monotonic() + seconds
        for process in running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=max(0.01, deadline - time.monotonic()))
            with contextlib.suppress(ProcessLookupError):  # a resolver would ask for the API for some time yet
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def say_on_stderr(line: str) -> None:
    """One line, with the time, as logs have it."""
    print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}", file=sys.stderr, flush=True)


def _die_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _reason(said: bytes) -> WheelfarmError | None:
    try:
        return error_from_json(json.loads(said.strip().splitlines()[-1]))
    except (IndexError, ValueError):
        return None
