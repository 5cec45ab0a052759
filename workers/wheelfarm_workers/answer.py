"""What the driver answers from inside the sandbox, and what it means when it doesn't."""

import json
from dataclasses import dataclass
from typing import Any, BinaryIO

from wheelfarm.errors import BuildFailed, BuildLimitExceeded, BuildTimeout, FarmUnavailable, JobCancelled
from wheelfarm_workers.sandbox import Ending, Limits, SandboxResult

_ANSWER_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What the driver answered: its outcome ("built", "missing" requirements, or "unprepared" where no
    hook tells metadata alone), its facts, and the wheel's bytes."""

    facts: dict[str, Any]
    body: BinaryIO
    duration_s: float

    @property
    def requires(self) -> list[str]:
        """What `get_requires_for_build_wheel` returned, as far as it applies to the target."""
        return list(self.facts["requires"])


def read_answer(result: SandboxResult, what: str, limits: Limits) -> Answer:
    """The driver's answer. Raises the reason when the run ended otherwise than by answering."""
    try:
        _require_exited(result.ending, what, limits)
        facts = json.loads(result.result.readline(_ANSWER_BYTES) or b"null")
    except ValueError:
        facts = None
    except BaseException:
        result.result.close()
        raise
    if not isinstance(facts, dict):
        result.result.close()
        raise BuildFailed(f"{what}: the build ended without an answer (exit status {result.returncode}).")
    return Answer(facts=facts, body=result.result, duration_s=result.duration_s)


def _require_exited(ending: Ending, what: str, limits: Limits) -> None:
    match ending:
        case Ending.EXITED:
            return
        case Ending.CANCELLED:
            raise JobCancelled(f"{what} was cancelled.")
        case Ending.TIMEOUT:
            raise BuildTimeout(
                f"{what} was still running after {limits.wall_s:g} s and was ended.",
                hint="Give it more with WHEELFARM_BUILD_TIMEOUT_S or a recipe, or see in its log what it waits for.",
            )
        case Ending.MEMORY:
            raise BuildLimitExceeded(
                f"{what} needed more than {limits.memory_bytes >> 20} MiB of memory and was ended.",
                hint="Give it more with WHEELFARM_BUILD_MEMORY_MIB or a recipe.",
            )
        case Ending.LOG_LIMIT:
            raise BuildLimitExceeded(
                f"{what} wrote more than {limits.log_bytes >> 20} MiB of log and was ended.",
                hint="Where compiler warnings fill it, let a recipe turn them off, as in environment.CXXFLAGS = '-w'.",
            )
        case Ending.RESULT_LIMIT:
            raise BuildLimitExceeded(f"{what} made more than {limits.result_bytes >> 20} MiB of wheel and was ended.")
        case Ending.LOST:
            raise FarmUnavailable(f"{what} was lost with the process that ran it.")
