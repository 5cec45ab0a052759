"""The values that the ledger takes and gives."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from wheelfarm.job import JobState

Lookups = Mapping[str, int]
"""Jobs that requests asked for: `hit` (made already), `coalesced` (being made for others), `miss` (begun)."""

Wake = Callable[[str], None]
"""Told the name of the queue for each job that became claimable."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Submission:
    """A job to be done: its id (the digest of its question), its queue, and what the worker is told.

    It is expected to take as long as the last job of the same `subject` did or, where that is not known, a guess of
    `seconds`; 0 for none.
    """

    id: str
    queue: str
    spec: str
    subject: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """A worker's hold on a job; `fence` tells it from every other claim, `attempt` counts from 1.

    Failures from before `forced_at` (seconds since the epoch) are to be forgotten. For `waited_s` it could be claimed.
    `trace` is the traceparent of who first wanted it.
    """

    job_id: str
    fence: int
    spec: str
    attempt: int
    queue: str
    forced_at: float = 0.0
    waited_s: float = 0.0
    trace: str = ""


class Beat(StrEnum):
    """What a worker hears when it renews its lease.

    OK: go on. CANCEL: nobody wants the job, stop and call `fail`. LOST: another worker has it, or it is over:
    stop. UNKNOWN: Redis lost the job; go on, the result is safe in the store.
    """

    OK = "ok"
    CANCEL = "cancel"
    LOST = "lost"
    UNKNOWN = "unknown"


class SuspensionOutcome(StrEnum):
    """READY: nothing is missing and the claim holds. WAITING: the claim is given up for now.

    In the other cases nothing was begun. With CYCLE, DEPENDENCY_FAILED and TOO_LARGE the claim still holds.
    """

    READY = "ready"
    WAITING = "waiting"
    CYCLE = "cycle"
    DEPENDENCY_FAILED = "dependency_failed"
    LOST = "lost"
    UNKNOWN = "unknown"
    TOO_LARGE = "too_large"


@dataclass(frozen=True, kw_only=True, slots=True)
class Suspension:
    """The answer to a wish for dependencies.

    `members` are the ids waited for (WAITING), those that failed (DEPENDENCY_FAILED), or the cycle in the
    order of need, its first equal to its last (CYCLE).
    """

    outcome: SuspensionOutcome
    members: tuple[str, ...] = ()


class Completion(StrEnum):
    """OK: this result ended the job. DUPLICATE: it was done before. GONE: cancelled, or lost by Redis."""

    OK = "ok"
    DUPLICATE = "duplicate"
    GONE = "gone"


class FailureOutcome(StrEnum):
    """What a failure led to; LOST and UNKNOWN as in `Beat`: the failure was not recorded."""

    FAILED = "failed"
    REQUEUED = "requeued"
    CANCELLED = "cancelled"
    LOST = "lost"
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True, slots=True)
class JobRecord:
    """A job as the ledger knows it; times are seconds since the epoch (server's clock), 0 when not reached.

    `failure` is the worker's own text; where it is empty and `cause` is set, the job failed because the job
    `cause` did. `dependencies` are all it asked for since it began, `waits_for` those that are not finished.
    """

    id: str
    queue: str
    state: JobState
    spec: str
    result: str
    failure: str
    cause: str
    attempt: int
    priority: int
    worker: str
    queued_at: float
    started_at: float
    finished_at: float
    waits_for: tuple[str, ...]
    dependencies: tuple[str, ...]
    cancel: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueCounts:
    """What can be said of a queue: its live jobs by state, those that have come to a final state since Redis is what it
    is, and for how many seconds the job has been claimable that has been for longest (0 when none is)."""

    live: Mapping[JobState, int]
    ended: Mapping[JobState, int]
    oldest_s: float
