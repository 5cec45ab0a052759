"""Failures: from what was raised to what the ledger keeps, with the class that decides what becomes of it."""

import errno
from dataclasses import replace
from datetime import UTC, datetime

from wheelfarm.errors import (
    BadWheel,
    BuildCycle,
    BuildFailed,
    BuildLimitExceeded,
    BuildTimeout,
    DiskFull,
    FarmUnavailable,
    Forbidden,
    JobCancelled,
    SandboxUnavailable,
    SystemPackagesMissing,
    TooManyRequests,
    Unauthorized,
    UpstreamError,
    WheelfarmError,
)
from wheelfarm.job import Failure, FailureClass
from wheelfarm_workers.finding import Finding, FindingKind
from wheelfarm_workers.hold import CycleClosed
from wheelfarm_workers.log_diagnosis import diagnose_log

_LOG_TAIL_BYTES = 4000
_READ_LOG_BYTES = 1 << 18

MOST_ATTEMPTS = {FailureClass.INFRASTRUCTURE: 3, FailureClass.LIMIT: 2}
"""How often a job is tried, by the class of its failures; once for those that are not here."""

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 120.0


def retry_pause_s(failure_class: FailureClass, attempt: int, chance: float) -> float:
    """How long a job that failed for the `attempt`th time rests before the next one; none unless the farm's own parts
    failed, which take time to come back. Pauses grow by the attempt and spread by `chance` (0 to 1), so that what
    failed together does not come back together."""
    if failure_class is not FailureClass.INFRASTRUCTURE:
        return 0.0
    return min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 4.0 ** (attempt - 1)) * (0.5 + chance)


REMEMBERED_S = {
    FailureClass.INFRASTRUCTURE: 0.0,
    FailureClass.WORKER_LOST: 0.0,
    FailureClass.LIMIT: 600.0,
    FailureClass.DEPENDENCY: 600.0,
    FailureClass.MISSING: 600.0,
    FailureClass.BUILD: 600.0,
    FailureClass.INPUT: 600.0,
    FailureClass.CANCELLED: 0.0,
}
"""How long the ledger answers with a failure, by its class, without asking anybody."""

_DAY_S = 86400.0
STANDS_S = {FailureClass.LIMIT: _DAY_S, FailureClass.MISSING: 7 * _DAY_S, FailureClass.BUILD: 30 * _DAY_S}
"""How long the failure of a build is its answer for as long as no input of it changes."""


class JobFailed(Exception):
    """A job fails for a reason that is written already: one that it needs has failed, or it did itself before."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def failure_of(error: Exception, log: bytes, project: str, *, rooted: str = "") -> Failure:
    """What the ledger keeps of an error, with the end of its log and what that tells of the reason; `rooted` is the
    name of a target that stands on a root filesystem. What is no error of ours is a fault of the farm, and tried
    again."""
    if isinstance(error, JobFailed):
        return error.failure
    if isinstance(error, CycleClosed):
        return failure_of(error.error, log, project)
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return failure_of(disk_full(error), log, project)
    if not isinstance(error, WheelfarmError):
        message = f"The farm failed: {type(error).__name__}: {error}."
        return Failure(failure_class=FailureClass.INFRASTRUCTURE, error=FarmUnavailable.code, message=message[:4000])
    told = isinstance(error, BuildFailed | BuildTimeout | BuildLimitExceeded | BadWheel)
    finding = _finding(error, log, project)
    return Failure(
        failure_class=_CLASSES[finding.kind] if finding else failure_class_of(error),
        error=error.code,
        message=error.message[:8000],
        hint=(error.hint or (finding.hint_for(rooted) if finding else ""))[:8000],
        log_tail=log[-_LOG_TAIL_BYTES:].decode(errors="replace") if told else "",
    )


def disk_full(error: OSError) -> DiskFull:
    """What to tell of an ENOSPC on the worker."""
    return DiskFull(
        f"The disk of the worker is full ({error.filename or 'where its cache is'}).",
        hint="Free some space there, then run the command again: finished wheels are kept.",
    )


_CLASSES = {
    FindingKind.MISSING: FailureClass.MISSING,
    FindingKind.LIMIT: FailureClass.LIMIT,
    FindingKind.BUILD: FailureClass.BUILD,
}


def _finding(error: WheelfarmError, log: bytes, project: str) -> Finding | None:
    """What the log of a failed build, with its reason as the last line, tells of why."""
    if not isinstance(error, BuildFailed):
        return None
    return diagnose_log(f"{log[-_READ_LOG_BYTES:].decode(errors='replace')}\n{error.message}", project)


def failure_class_of(error: WheelfarmError) -> FailureClass:
    """The class of an error, which decides what is retried and for how long the answer stands."""
    match error:
        case FarmUnavailable() | UpstreamError() | SandboxUnavailable() | TooManyRequests():
            return FailureClass.INFRASTRUCTURE
        case Unauthorized() | Forbidden():  # of the worker's own token, which says nothing of the job
            return FailureClass.INFRASTRUCTURE
        case BuildTimeout() | BuildLimitExceeded():
            return FailureClass.LIMIT
        case BuildFailed() | BadWheel():
            return FailureClass.BUILD
        case SystemPackagesMissing():
            return FailureClass.MISSING
        case BuildCycle():
            return FailureClass.DEPENDENCY
        case JobCancelled():
            return FailureClass.CANCELLED
        case _:
            return FailureClass.INPUT


def as_remembered(failure: Failure, failed_at: float) -> Failure:
    """A failure as it is told when it is not made again: nothing that the build depends on has changed."""
    when = datetime.fromtimestamp(failed_at, UTC).strftime("%Y-%m-%d %H:%M UTC")
    told = f"{failure.message} (It failed on {when}, and nothing that it is built from has changed since.)"
    hint = "\n".join(filter(None, (failure.hint, "To build it again all the same: --retry")))
    return replace(failure, message=told, hint=hint)
