"""What a running job has of the farm: its dependencies, its log, and whether it is still wanted."""

import threading
from collections.abc import Sequence
from typing import Protocol

from wheelfarm.errors import BuildCycle
from wheelfarm.job import Job, Sdist


class Suspended(Exception):
    """The job waits for others; its slot is free, and it will be claimed again when they have finished."""


class CycleClosed(Exception):
    """To wait for the job of `sdist` would close a cycle; `error` tells of it."""

    def __init__(self, error: BuildCycle, sdist: Sdist) -> None:
        super().__init__(error.message)
        self.error = error
        self.sdist = sdist


class Hold(Protocol):
    """A claimed job's hold on the farm: `attempt` counts its claims from 1, failures from before `forced_at` (seconds
    since the epoch) are to be forgotten."""

    cancelled: threading.Event
    attempt: int
    forced_at: float

    def require(self, jobs: Sequence[Job], *, tolerant: bool = False) -> None:
        """Return when all are done; raise Suspended when they are not, CycleClosed or JobFailed when they can't be.

        A job that is not `tolerant` fails with what it waits for; one that is may require others then.
        """
        ...

    def is_wanted(self, job: Job) -> bool:
        """Whether somebody has asked for a job that is not over."""
        ...

    def forget(self, jobs: Sequence[Job]) -> None:
        """Have those of the jobs that are done made anew when they are required again: what they made is gone."""
        ...

    def whole_log(self) -> bytes:
        """The build log so far."""
        ...

    def log(self, data: bytes) -> None:
        """Add to the build log."""
        ...
