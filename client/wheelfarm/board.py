"""What a command knows of its jobs, gathered from successive states of its requests: the board that progress is told
from. Times are by the farm's clock, whose `now` comes with each state."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wheelfarm.job import JobKind, JobState, JobStatus

if TYPE_CHECKING:
    from wheelfarm.farm import RequestStatus

_NAMED = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Totals:
    """How many wheels are in which state. Those `cached` were there before this command asked."""

    built: int = 0
    cached: int = 0
    building: int = 0
    queued: int = 0
    waiting: int = 0
    failed: int = 0

    def __str__(self) -> str:
        counts = [(name, getattr(self, name)) for name in self.__slots__]
        return ", ".join(f"{count} {name}" for name, count in counts if count) or "nothing to build yet"


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A job under way: its state, what it is of, what there is to say of it, and since when it builds (0: it does
    not)."""

    state: JobState
    sdist: str
    detail: str = ""
    since: float = 0.0


class Board:
    """Gathers what successive states tell of wheel jobs."""

    def __init__(self) -> None:
        self.started_at = 0.0
        self.now = 0.0
        self.phase = "resolving"
        self._jobs: dict[str, JobStatus] = {}
        self._names: dict[str, str] = {}

    def update(self, status: "RequestStatus") -> None:
        """Take up a state. What an earlier request finished is kept, what it left unfinished is not its any more."""
        self.now = status.now
        self.started_at = self.started_at or status.now
        self.phase = _phase(status)
        self._names |= {job.id: str(job.sdist) for job in status.jobs.values()}
        kept = {job.id: job for job in self._jobs.values() if job.state.final}
        told = {job.id: job for job in status.jobs.values() if job.kind is JobKind.WHEEL}
        # a wheel that is there is told without its times once the farm need not look at its job any more
        self._jobs = kept | {id_: job for id_, job in told.items() if id_ not in kept or job.finished_at}

    def is_built(self, job: JobStatus) -> bool:
        """Whether a job's wheel was built while this board watched, not before and for others."""
        return job.state is JobState.DONE and job.started_at > 0 and job.finished_at >= self.started_at

    @property
    def totals(self) -> Totals:
        states = Counter(job.state for job in self._jobs.values())
        built = sum(self.is_built(job) for job in self._jobs.values())
        return Totals(
            built=built,
            cached=states[JobState.DONE] - built,
            building=states[JobState.RUNNING],
            queued=states[JobState.QUEUED],
            waiting=states[JobState.WAITING],
            failed=states[JobState.FAILED] + states[JobState.CANCELLED],
        )

    def rows(self) -> list[Row]:
        """The jobs under way: those that build, the longest first, those in the queue, those that wait."""
        jobs = self._jobs.values()
        return [
            *sorted(self._rows(jobs, JobState.RUNNING), key=lambda row: row.since),
            *self._rows(jobs, JobState.QUEUED),
            *self._rows(jobs, JobState.WAITING),
        ]

    def _rows(self, jobs: Iterable[JobStatus], state: JobState) -> list[Row]:
        return [
            Row(state=state, sdist=str(job.sdist), detail=self._detail(job), since=job.started_at)
            if state is JobState.RUNNING
            else Row(state=state, sdist=str(job.sdist), detail=self._detail(job))
            for job in jobs
            if job.state is state
        ]

    def _detail(self, job: JobStatus) -> str:
        if job.state is JobState.WAITING:
            return f"for {named([self._names.get(id_, id_[:12]) for id_ in job.waits_for])}" if job.waits_for else ""
        return f"attempt {job.attempt}" if job.attempt > 1 else ""


def named(names: Sequence[str]) -> str:
    """The first few names, and how many there are beside them."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _phase(status: "RequestStatus") -> str:
    asked = [status.jobs[job] for job in status.requested]
    pending = [job.sdist for job in asked if not job.state.final]
    match asked[0].kind if asked else JobKind.WHEEL:
        case JobKind.WHEEL:
            return "building"
        case JobKind.METADATA:
            return f"computing metadata of {named([str(sdist) for sdist in pending])}" if pending else "resolving"
        case JobKind.SDIST:
            return f"making the sdist of {named([sdist.name for sdist in pending])}" if pending else "resolving"
