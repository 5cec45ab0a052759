"""A ledger that is told what to answer, for the parts that only talk to one."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from wheelfarm.job import JobState
from wheelfarm_services.ledger import (
    Beat,
    Claim,
    Completion,
    FailureOutcome,
    JobRecord,
    Ledger,
    Lookups,
    QueueCounts,
    Submission,
    Suspension,
)


def make_record(job_id: str, **fields: Any) -> JobRecord:
    """A job of the ledger, queued unless `fields` say otherwise."""
    empty: dict[str, Any] = dict.fromkeys(("spec", "result", "failure", "cause", "worker"), "")
    times = dict.fromkeys(("queued_at", "started_at", "finished_at"), 0.0)
    lists: dict[str, Any] = {"waits_for": (), "dependencies": ()}
    plain = {"queue": "host", "state": JobState.QUEUED, "attempt": 0, "priority": 5, "cancel": False}
    return JobRecord(id=job_id, **{**empty, **times, **lists, **plain, **fields})


@dataclass(kw_only=True)
class FakeLedger:
    """`records` by id, `claims` to hand out, and what was asked of it."""

    records: dict[str, JobRecord] = field(default_factory=dict)
    claims: list[Claim] = field(default_factory=list)
    suspension: Suspension | None = None
    beat_answer: Beat = Beat.OK
    errors: dict[str, Exception] = field(default_factory=dict)
    submitted: dict[str, list[Submission]] = field(default_factory=dict)
    forced: list[str] = field(default_factory=list)
    priorities: dict[str, int] = field(default_factory=dict)
    changes: dict[str, set[str]] = field(default_factory=dict)
    suspended: list[Submission] = field(default_factory=list)
    completed: list[tuple[Claim, str]] = field(default_factory=list)
    failed: list[tuple[Claim, str, bool, float]] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    handed_back: list[Claim] = field(default_factory=list)
    expired_requests: list[str] = field(default_factory=list)
    kept: dict[str, float] = field(default_factory=dict)
    alive: dict[str, float] = field(default_factory=dict)
    waits: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    beats: int = 0
    hits: int = 0
    queue_counts: dict[str, QueueCounts] = field(default_factory=dict)

    @property
    def as_ledger(self) -> Ledger:
        return cast(Ledger, self)

    def now(self) -> float:
        return 1000.0

    def counts(self) -> dict[str, QueueCounts]:
        return dict(self.queue_counts)

    def lookups(self) -> Lookups:
        return {"hit": self.hits, "coalesced": 0, "miss": 0}

    def note_hits(self, count: int) -> None:
        self.hits += count

    def forget(self, job_ids: Sequence[str]) -> int:
        forgotten = [job_id for job_id in job_ids if self.records.pop(job_id, None)]
        return len(forgotten)

    def ping(self) -> None:
        self._fail("ping")

    def job(self, job_id: str) -> JobRecord | None:
        return self.records.get(job_id)

    def find(self, prefix: str) -> list[str]:
        return sorted(job_id for job_id in self.records if job_id.startswith(prefix))

    def request(self, request_id: str) -> list[JobRecord]:
        return [self.records[job.id] for job in self.submitted.get(request_id, ()) if job.id in self.records]

    def last_event(self) -> str:
        return "1-1"

    async def changed(self, after: str, awaited: Collection[str]) -> None:
        self.waits.append((after, tuple(awaited)))

    def request_exists(self, request_id: str) -> bool:
        return request_id in self.submitted

    def submit(
        self,
        request_id: str,
        jobs: Sequence[Submission],
        *,
        share: str = "",
        priority: int = 5,
        force: bool = False,
        alive_s: float = 0.0,
        trace: str = "",
    ) -> dict[str, JobState]:
        self._fail("submit")
        self.submitted[request_id] = list(jobs)
        self.priorities[request_id] = priority
        self.alive[request_id] = alive_s
        self.forced += [request_id] if force else []
        for job in jobs:
            self.records.setdefault(job.id, make_record(job.id, spec=job.spec))
        return {job.id: self.records[job.id].state for job in jobs}

    def keep(self, request_id: str, *, alive_s: float) -> None:
        self.kept[request_id] = alive_s

    def expired(self) -> list[str]:
        return self.expired_requests

    def cancel(self, request_id: str) -> list[str]:
        self.cancelled.append(request_id)
        return [job.id for job in self.submitted.get(request_id, ())]

    def cancel_job(self, job_id: str) -> list[str]:
        self.cancelled.append(job_id)
        return [] if self.records[job_id].state.final else [job_id]

    def unfinished(self, limit: int) -> list[JobRecord]:
        return [record for record in self.records.values() if not record.state.final][:limit]

    def recently_failed(self, limit: int) -> list[JobRecord]:
        return [record for record in self.records.values() if record.state is JobState.FAILED][:limit]

    def claim(self, queue: str, *, worker: str, lease_s: float) -> Claim | None:
        self._fail("claim")
        return self.claims.pop(0) if self.claims else None

    def beat(self, claim: Claim, *, lease_s: float) -> Beat:
        self.beats += 1
        self._fail("beat")
        return self.beat_answer

    def suspend(
        self, claim: Claim, dependencies: Sequence[Submission], *, tolerant: bool = False, trace: str = ""
    ) -> Suspension:
        self.suspended += dependencies
        assert self.suspension is not None
        return self.suspension

    def complete(self, claim: Claim, result: str, *, seconds: float = 0.0) -> Completion:
        self._fail("complete")
        self.completed.append((claim, result))
        return Completion.OK

    def fail(
        self, claim: Claim, failure: str, *, retry: bool, remember_s: float, max_attempts: int, pause_s: float
    ) -> FailureOutcome:
        self._fail("fail")
        self.failed.append((claim, failure, retry, remember_s))
        return FailureOutcome.FAILED

    def hand_back(self, claim: Claim) -> FailureOutcome:
        self._fail("hand_back")
        self.handed_back.append(claim)
        return FailureOutcome.REQUEUED

    def changed_since(self, event_id: str) -> set[str] | None:
        return self.changes.get(event_id)

    def queues(self) -> dict[str, int]:
        return {}

    def _fail(self, operation: str) -> None:
        if operation in self.errors:
            raise self.errors[operation]
