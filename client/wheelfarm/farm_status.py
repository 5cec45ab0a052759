"""What a farm has to do: the jobs under way, the open requests, the last failures, the workers."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from wheelfarm.job import JobStatus
from wheelfarm.worker import LivingWorker


@dataclass(frozen=True, kw_only=True, slots=True)
class JobUnderWay:
    """A job that is not finished: its state, the target it is for, and the worker that runs it ("" when none does)."""

    job: JobStatus
    target: str
    worker: str

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "JobUnderWay":
        job = JobStatus.from_json(value["job"])
        return cls(job=job, target=str(value["target"]), worker=str(value["worker"]))


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenRequest:
    """A request that its client has not seen the end of: of which kind are its jobs, for which target, how many, and
    when the farm accepted it, in seconds since the epoch."""

    id: str
    kind: str
    target: str
    jobs: int
    cancelled: bool
    accepted_at: float

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "OpenRequest":
        return cls(
            id=str(value["id"]),
            kind=str(value["kind"]),
            target=str(value["target"]),
            jobs=int(value["jobs"]),
            cancelled=bool(value["cancelled"]),
            accepted_at=float(value["accepted_at"]),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class FarmStatus:
    """A farm at the time `now` of its own clock; the last failures come latest first."""

    now: float
    jobs: tuple[JobUnderWay, ...]
    requests: tuple[OpenRequest, ...]
    failures: tuple[JobStatus, ...]
    workers: tuple[LivingWorker, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "FarmStatus":
        return cls(
            now=float(value["now"]),
            jobs=tuple(map(JobUnderWay.from_json, value["jobs"])),
            requests=tuple(map(OpenRequest.from_json, value["requests"])),
            failures=tuple(map(JobStatus.from_json, value["failures"])),
            workers=tuple(map(LivingWorker.from_json, value.get("workers", ()))),
        )
