"""What a running job has of the farm: its dependencies, its log, and whether it is still wanted."""

import threading
from collections.abc import Sequence
from typing import Protocol

from wheelfarm.job import Job


class Suspended(Exception):
    """The job waits for others; its slot is free, and it will be claimed again when they have finished."""


class Hold(Protocol):
    """A claimed job's hold on the farm."""

    cancelled: threading.Event

    def require(self, jobs: Sequence[Job]) -> None:
        """Return when all are done; raise Suspended when they are not, and the reason when they can't be."""
        ...

    def log(self, data: bytes) -> None:
        """Add to the build log."""
        ...
