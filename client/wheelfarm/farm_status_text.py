"""A farm's status as people read it: a line a job, a request or a failure, and totals."""

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from wheelfarm.board import named
from wheelfarm.farm_status import FarmStatus, JobUnderWay, OpenRequest
from wheelfarm.job import JobState, JobStatus
from wheelfarm.worker import LivingWorker

if TYPE_CHECKING:
    from wheelfarm.farm import RequestStatus


def status_lines(status: FarmStatus) -> Iterator[str]:
    """What runs, is queued, waits, is open and failed, and who works, in this order."""
    names = {entry.job.id: str(entry.job.sdist) for entry in status.jobs}
    for entry in status.jobs:
        yield _job_line(entry, names, status.now)
    for request in status.requests:
        yield _request_line(request, status.now)
    for failure in status.failures:
        yield _failure_line(failure, status.now)
    for worker in status.workers:
        yield _worker_line(worker)
    states = Counter(entry.job.state for entry in status.jobs)
    counts = [f"{states[state]} {state}" for state in (JobState.RUNNING, JobState.QUEUED, JobState.WAITING)]
    yield f"{', '.join(counts)}, {len(status.requests)} requests open, {len(status.failures)} failures of late"


def request_lines(status: "RequestStatus") -> Iterator[str]:
    """The jobs that a request asked for and those that they wait for, and how many of them are how far."""
    for job in status.jobs.values():
        if job.id in status.requested or not job.state.final:
            yield f"{job.state:<9} {job.sdist!s:<40} ({job.id[:12]})"
    states = Counter(status.jobs[job].state for job in status.requested)
    yield f"{', '.join(f'{count} {state}' for state, count in states.items())}, of {len(status.requested)} asked for"


def _job_line(entry: JobUnderWay, names: dict[str, str], now: float) -> str:
    job = entry.job
    what = str(job.sdist) if job.kind == "wheel" else f"{job.sdist} ({job.kind})"
    return f"{job.state:<8} {what:<40} {_detail(entry, names, now)} ({job.id[:12]}, {entry.target})"


def _detail(entry: JobUnderWay, names: dict[str, str], now: float) -> str:
    job = entry.job
    match job.state:
        case JobState.RUNNING:
            return f"for {duration(now - job.started_at)} on {entry.worker}"
        case JobState.QUEUED:
            return f"for {duration(now - job.queued_at)}"
        case _:
            return f"for {named([names.get(id_, id_[:12]) for id_ in job.waits_for])}"


def _request_line(request: OpenRequest, now: float) -> str:
    marked = ", cancelled" if request.cancelled else ""
    what = f"{request.jobs} jobs ({request.kind})"
    return (
        f"request  {request.id[:12]:<40} {what} since {duration(now - request.accepted_at)}{marked} ({request.target})"
    )


def _failure_line(job: JobStatus, now: float) -> str:
    reason = job.failure.message.partition("\n")[0] if job.failure else "for no reason that is known"
    return f"failed   {job.sdist!s:<40} {duration(now - job.finished_at)} ago ({job.id[:12]}): {reason:.200}"


def _worker_line(worker: LivingWorker) -> str:
    record = worker.record
    state = "drains" if record.drains else f"{record.slots} slots"
    served = ", ".join(f"{target.name} ({target.revision[:12]})" for target in record.targets) or "its own machine"
    told = f"{state}, sandbox {record.sandbox}, version {record.version}, seen {duration(worker.seen_s)} ago"
    return f"worker   {record.name:<40} {told}: {served}"


def duration(seconds: float) -> str:
    """A time span as people say it: the two largest units that it has."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"
