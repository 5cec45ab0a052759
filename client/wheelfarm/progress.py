"""Progress on stderr: one plain line an event, each told once, however often a request's state is read."""

import sys
import time
from typing import TextIO

from wheelfarm.farm import RequestStatus
from wheelfarm.job import JobKind, JobState, JobStatus

_UNSANDBOXED = "[unsandboxed] "


class Reporter:
    """Writes lines to `stream`; with `unsandboxed` every one says so."""

    def __init__(self, *, unsandboxed: bool, quiet: bool = False, stream: TextIO | None = None) -> None:
        self._prefix = _UNSANDBOXED if unsandboxed else ""
        self._quiet = quiet
        self._stream = stream or sys.stderr

    def say(self, line: str) -> None:
        """One line that a person may skip."""
        if not self._quiet:
            self.insist(line)

    def insist(self, text: str) -> None:
        """Lines that are told even when quiet."""
        for line in text.splitlines():
            print(f"{self._prefix}{line}", file=self._stream, flush=True)


class Progress:
    """Turns successive states of requests into events."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._told: dict[str, JobState] = {}
        self._running: dict[str, float] = {}
        self._started: set[str] = set()

    def watch(self, status: RequestStatus) -> None:
        """Tell what is new."""
        for job in status.jobs.values():
            if job.kind is JobKind.WHEEL and self._is_news(job) and (line := self._line(job)):
                self._reporter.say(line)

    @property
    def built(self) -> int:
        """How many wheels were built while this watched."""
        return sum(self._told[job] is JobState.DONE for job in self._started)

    def _is_news(self, job: JobStatus) -> bool:
        """Whether a job's state is new and worth a line: one that runs is told when it is seen doing so twice, for
        those that only find out what they wait for are over by then."""
        seen_running = self._running.get(job.id) == job.started_at
        if job.state is JobState.RUNNING and not seen_running:
            self._running[job.id] = job.started_at
            return False
        news = self._told.get(job.id) is not job.state
        self._told[job.id] = job.state
        return news

    def _line(self, job: JobStatus) -> str:
        match job.state:
            case JobState.RUNNING:
                self._started.add(job.id)
                return f"building {job.sdist} ({job.id[:12]})" + (f", attempt {job.attempt}" if job.attempt > 1 else "")
            case JobState.DONE if job.started_at > 0:
                self._started.add(job.id)
                return f"built    {job.sdist} in {job.finished_at - job.started_at:.1f} s"
            case JobState.FAILED:
                return f"failed   {job.sdist} ({job.id[:12]})"
            case _:
                return ""


def seconds_since(start: float) -> str:
    """The time since `start` (of `time.monotonic`) as people read it."""
    return f"{time.monotonic() - start:.1f} s"
