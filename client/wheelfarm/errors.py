"""Everything that can go wrong, one class a cause: its exit code and one message.

A message says what happened, to what, and what to do next. Libraries raise; only entry points print, log or choose
a status. Across the API an error travels as `{"error": code, "message": …, "hint": …}` and is raised again on the
other side, so a class's `code` and `exit_code` are part of the interface: never renumber.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from wheelfarm.job import JobStatus
    from wheelfarm.wheel import BuiltWheel


class WheelfarmError(Exception):
    """The root of the tree; `code` names the class on the wire, `exit_code` is the command's."""

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1
    status: ClassVar[int] = 500

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def to_json(self) -> dict[str, str]:
        """The error as the API and the ledger carry it."""
        return {"error": self.code, "message": self.message, "hint": self.hint}


class InputError(WheelfarmError):
    """What was asked for can't be read or is not accepted."""

    code, exit_code, status = "input", 2, 400


class DirectReferenceRefused(InputError):
    """A requirement names a URL or a path; the farm builds sdists of its source index only."""

    code, exit_code = "direct-reference", 3


class NoEnvironment(WheelfarmError):
    """There is no environment to install into."""

    code, exit_code = "no-environment", 4


class OptionRefused(InputError):
    """An option of pip's or uv's that the farm can't honour, such as an editable install."""

    code, exit_code = "option-refused", 5


class BadTree(InputError):
    """A local tree or archive is no project, or can't be sent to the farm."""

    code, exit_code = "bad-tree", 6


class BadInterpreter(InputError):
    """What was named as an interpreter is none that can be built for."""

    code, exit_code = "bad-interpreter", 7


class TooLarge(InputError):
    """What was sent is larger than the farm takes."""

    code, exit_code, status = "too-large", 8, 413


class NoSolution(WheelfarmError):
    """No set of sdists satisfies the requirements."""

    code, exit_code, status = "no-solution", 10, 422


class UnknownProject(NoSolution):
    """The source index has no project of that name."""

    code, exit_code = "unknown-project", 11


class MetadataUnsettled(NoSolution):
    """Built wheels told other metadata than was resolved with, again and again."""

    code, exit_code = "metadata-unsettled", 16


class PolicyRefused(NoSolution):
    """The farm's policy does not let it in."""

    code, exit_code = "policy", 17
    remedy: ClassVar[str] = (
        "Ask for another version, or whoever runs the farm for an exception. The policy: wheelfarm policy show"
    )


class SetNotClosed(NoSolution):
    """Wheels of a lock require what it does not have."""

    code, exit_code = "not-closed", 18


class NoSdist(NoSolution):
    """The project has versions, but none of the acceptable ones has an sdist."""

    code, exit_code = "no-sdist", 12


class UpstreamError(WheelfarmError):
    """An upstream index answered with anything but the page, the file or 404."""

    code, exit_code, status = "upstream", 13, 502


class HashMismatch(WheelfarmError):
    """Bytes are not the ones that were promised."""

    code, exit_code, status = "hash-mismatch", 14, 422


class BadSdist(WheelfarmError):
    """An sdist can't be read or tries to leave its folder."""

    code, exit_code, status = "bad-sdist", 15, 422


class BadInterpreterArchive(WheelfarmError):
    """An archive can't be kept as a Python distribution."""

    code, exit_code, status = "bad-python", 19, 422


class LockOutdated(WheelfarmError):
    """A lock is not what its requirements lead to now."""

    code, exit_code = "lock-outdated", 48


class BuildFailed(WheelfarmError):
    """The build backend failed."""

    code, exit_code, status = "build-failed", 20, 422


class BuildTimeout(WheelfarmError):
    """The build ran past its time limit."""

    code, exit_code, status = "build-timeout", 21, 422


class BuildLimitExceeded(WheelfarmError):
    """The build went past its memory, disk or log limit."""

    code, exit_code, status = "build-limit", 22, 422


class BadWheel(WheelfarmError):
    """What the backend made is not the wheel that was asked for."""

    code, exit_code, status = "bad-wheel", 23, 422


class BrokenWheel(BadWheel):
    """The wheel was built, and can't be loaded or fails its recipe's test."""

    code, exit_code, status = "broken-wheel", 26, 422


class BuildCycle(WheelfarmError):
    """Projects need each other to be built."""

    code, exit_code, status = "build-cycle", 24, 422


class JobCancelled(WheelfarmError):
    """Somebody cancelled the job."""

    code, exit_code, status = "cancelled", 25, 409


class FarmUnavailable(WheelfarmError):
    """A part of the farm (API, Redis, store) can't be reached or went away."""

    code, exit_code, status = "farm-unavailable", 30, 503


class CorruptObject(FarmUnavailable):
    """An object of the store has other bytes than were put there."""

    code, exit_code, status = "corrupt-object", 36, 500


class DiskFull(FarmUnavailable):
    """A disk of the farm (the store's, a worker's, the resolver's) is full: no waiting helps, somebody has to act."""

    code, exit_code, status = "disk-full", 37, 507


class SandboxUnavailable(WheelfarmError):
    """Builds can't be isolated on this machine."""

    code, exit_code, status = "sandbox-unavailable", 31, 503


class SystemPackagesMissing(WheelfarmError):
    """A recipe asks for packages that the target's system has not been given."""

    code, exit_code, status = "system-packages-missing", 27, 422


class WorkerLost(FarmUnavailable):
    """The workers that ran a job died, again and again."""

    code, exit_code = "worker-lost", 32


class NoWorker(FarmUnavailable):
    """No living worker builds for the target that was asked for."""

    code, exit_code = "no-worker", 39


class NotFound(WheelfarmError):
    """The farm has no such job, request or file."""

    code, exit_code, status = "not-found", 33, 404


class MachineUnfit(WheelfarmError):
    """This machine lacks something without which no package can be built or installed."""

    code, exit_code = "machine-unfit", 35


class OtherIndexAsked(WheelfarmError):
    """An installer is configured to ask others than the farm, or not the farm."""

    code, exit_code = "other-index", 45


class Unauthorized(WheelfarmError):
    """The farm does not know who asks: no token, or one that is wrong, expired or revoked."""

    code, exit_code, status = "unauthorized", 41, 401


class Forbidden(WheelfarmError):
    """The farm knows who asks, and the token does not allow it."""

    code, exit_code, status = "forbidden", 42, 403


class TooManyRequests(WheelfarmError):
    """The token is used too often, or its tenant has as many open jobs as it may; later it may be asked again."""

    code, exit_code, status = "too-many-requests", 43, 429

    def __init__(self, message: str, *, hint: str = "", retry_after_s: float = 1.0) -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s


class Conflict(WheelfarmError):
    """The id is taken by something else."""

    code, exit_code, status = "conflict", 44, 409


class UnfitTarget(WheelfarmError):
    """The environment to install into does not take the wheels of the target."""

    code, exit_code = "unfit-target", 47


class InstallFailed(WheelfarmError):
    """The installer refused the farm's wheels."""

    code, exit_code = "install-failed", 40


class ProtocolError(FarmUnavailable):
    """The farm answered with something that this client does not understand."""

    code, exit_code = "protocol", 34


def _tree(cls: type[WheelfarmError]) -> dict[str, type[WheelfarmError]]:
    found = {cls.code: cls}
    for child in cls.__subclasses__():
        found |= _tree(child)
    return found


def error_from_json(value: Mapping[str, object]) -> WheelfarmError:
    """The error that `WheelfarmError.to_json` wrote, as an instance of its class; unknown codes give the root."""
    cls = _tree(WheelfarmError).get(str(value.get("error", "")), WheelfarmError)
    return cls(str(value.get("message", "")), hint=str(value.get("hint", "")))


class RequestFailed(Exception):
    """Jobs of a request failed; `error` is the first one's reason, `jobs` all of them. `wheels` are those that were
    built all the same, where that was asked for."""

    def __init__(self, jobs: "Sequence[JobStatus]", wheels: "Sequence[BuiltWheel]" = ()) -> None:
        failure = jobs[0].failure
        self.jobs = tuple(jobs)
        self.wheels = tuple(wheels)
        self.error = error_from_json(failure.to_json()) if failure else WheelfarmError("A job failed without a reason.")
        super().__init__(self.error.message)
