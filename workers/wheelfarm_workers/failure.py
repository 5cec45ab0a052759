"""Failures: from what was raised to what the ledger keeps, with the class that decides what becomes of it."""

from wheelfarm.errors import (
    BadWheel,
    BuildCycle,
    BuildFailed,
    BuildLimitExceeded,
    BuildTimeout,
    FarmUnavailable,
    JobCancelled,
    SandboxUnavailable,
    UpstreamError,
    WheelfarmError,
)
from wheelfarm.job import Failure, FailureClass
from wheelfarm_workers.log_diagnosis import diagnose_log

_LOG_TAIL_BYTES = 4000
_READ_LOG_BYTES = 1 << 18

REMEMBERED_S = {
    FailureClass.INFRASTRUCTURE: 0.0,
    FailureClass.WORKER_LOST: 0.0,
    FailureClass.LIMIT: 600.0,
    FailureClass.DEPENDENCY: 600.0,
    FailureClass.BUILD: 3600.0,
    FailureClass.INPUT: 3600.0,
    FailureClass.CANCELLED: 0.0,
}
"""How long a failure answers for the next request of the same job, by its class."""


class JobFailed(Exception):
    """A job fails for a reason that is written already: one that it needs has failed, or it did itself before."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def failure_of(error: Exception, log: bytes, project: str) -> Failure:
    """What the ledger keeps of an error, with the end of its log and what that tells of the reason. What is no error of
    ours is a fault of the farm, and tried again."""
    if isinstance(error, JobFailed):
        return error.failure
    if not isinstance(error, WheelfarmError):
        message = f"The farm failed: {type(error).__name__}: {error}."
        return Failure(failure_class=FailureClass.INFRASTRUCTURE, error=FarmUnavailable.code, message=message[:4000])
    told = isinstance(error, BuildFailed | BuildTimeout | BuildLimitExceeded | BadWheel)
    return Failure(
        failure_class=failure_class_of(error),
        error=error.code,
        message=error.message[:8000],
        hint=(error.hint or _hint(error, log, project))[:8000],
        log_tail=log[-_LOG_TAIL_BYTES:].decode(errors="replace") if told else "",
    )


def _hint(error: WheelfarmError, log: bytes, project: str) -> str:
    """What the log of a failed build, with its reason as the last line, hints at."""
    if not isinstance(error, BuildFailed):
        return ""
    finding = diagnose_log(f"{log[-_READ_LOG_BYTES:].decode(errors='replace')}\n{error.message}", project)
    return finding.hint if finding else ""


def failure_class_of(error: WheelfarmError) -> FailureClass:
    """The class of an error, which decides what is retried and for how long the answer stands."""
    match error:
        case FarmUnavailable() | UpstreamError() | SandboxUnavailable():
            return FailureClass.INFRASTRUCTURE
        case BuildTimeout() | BuildLimitExceeded():
            return FailureClass.LIMIT
        case BuildFailed() | BadWheel():
            return FailureClass.BUILD
        case BuildCycle():
            return FailureClass.DEPENDENCY
        case JobCancelled():
            return FailureClass.CANCELLED
        case _:
            return FailureClass.INPUT
