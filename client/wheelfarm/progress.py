"""Progress on stderr: a live table on a terminal, elsewhere one plain line an event, each told once."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from wheelfarm.board import Board
from wheelfarm.job import JobKind, JobState, JobStatus
from wheelfarm.reporter import Reporter
from wheelfarm.revision import MetadataRevision

if TYPE_CHECKING:
    from wheelfarm.farm import RequestStatus


class Progress:
    """Turns successive states of requests into events, and into the board that a live table shows."""

    def __init__(self, reporter: Reporter) -> None:
        self.board = Board()
        self._reporter = reporter
        self._told: dict[str, JobState] = {}
        self._running: dict[str, float] = {}
        self._revised: set[tuple[str, int]] = set()

    def watch(self, status: "RequestStatus") -> None:
        """Tell what is new."""
        self.board.update(status)
        for job in status.jobs.values():
            if job.kind is not JobKind.METADATA and self._is_news(job) and (line := self._line(job)):
                self._reporter.say(line)
        for job_id, revision in status.revisions.items():
            if (job_id, revision.revision) not in self._revised:
                self._revised.add((job_id, revision.revision))
                self._reporter.say(_told_otherwise(status.jobs[job_id], revision))

    def enter(self, phase: str) -> None:
        """Tell what is done from now on, until the next state of a request."""
        self.board.phase = phase

    @property
    def built(self) -> int:
        """How many wheels were built while this watched."""
        return self.board.totals.built

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
                return f"building {job.sdist} ({job.id[:12]})" + (f", attempt {job.attempt}" if job.attempt > 1 else "")
            case JobState.DONE if self.board.is_built(job):
                return f"built    {job.sdist} in {job.finished_at - job.started_at:.1f} s"
            case JobState.FAILED:
                return f"failed   {job.sdist} ({job.id[:12]})"
            case _:
                return ""


def _told_otherwise(job: JobStatus, revision: MetadataRevision) -> str:
    told = "; ".join(revision.differences) or "it has changed since it was first told"
    return f"note: the wheel of {job.sdist} tells other metadata than its sdist, and is believed: {told}"


class QuietOnBuilding(Progress):
    """Progress beside a table, which shows what is building: only ends are told in lines."""

    def _line(self, job: JobStatus) -> str:
        return "" if job.state is JobState.RUNNING else super()._line(job)


@contextmanager
def progress_on(reporter: Reporter) -> Iterator[Progress]:
    """Progress as the reporter's stream can show it."""
    if not reporter.shows_tables(os.environ):
        yield Progress(reporter)
        return
    from wheelfarm.live_table import live_table

    progress = QuietOnBuilding(reporter)
    with live_table(progress.board, reporter):
        yield progress
