"""What a worker builds for: targets that it defines itself, or those that the commands of its machine registered."""

import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from wheelfarm.errors import FarmUnavailable, InputError
from wheelfarm.installation import environment_to_build_for
from wheelfarm.job import Job
from wheelfarm.settings import Settings
from wheelfarm.target import TARGET_NAME, Target, host_target
from wheelfarm_services.store import Store
from wheelfarm_services.targets import stored_target
from wheelfarm_workers.grounds import Definitions

HOST = "host"


class TargetBook(Protocol):
    def target(self, job: Job) -> Target:
        """The target to build a job for. Raises InputError for one that this worker does not build for."""
        ...


class OwnTargets:
    """A fleet worker's targets, as this machine has them: whatever others say of an interpreter, none but these run.

    Before each job a target is read `again`. One that is not what it was, for a compiler was installed, would give
    wheels that are not what their revision says: `outdated` is called, and the job is left to others.
    """

    def __init__(
        self, targets: Iterable[Target], *, again: Callable[[Target], Target], outdated: Callable[[], None]
    ) -> None:
        self.targets = tuple(targets)
        self._again = again
        self._outdated = outdated

    def target(self, job: Job) -> Target:
        for target in self.targets:
            if (target.name, target.revision) == (job.target, job.target_revision):
                self._require_unchanged(target)
                return target
        served = ", ".join(f"{target.name} (revision {target.revision[:12]})" for target in self.targets)
        raise InputError(
            f"A job for the target {job.target} in revision {job.target_revision[:12]} came to a worker that builds "
            f"for {served} alone.",
            hint="Which workers live, and for what: wheelfarm status",
        )

    def _require_unchanged(self, target: Target) -> None:
        if self._again(target).revision != target.revision:
            self._outdated()
            raise FarmUnavailable(
                f"The compiler, libraries or interpreter of {target.name} changed under a worker, which ends for that.",
                hint="Started again it serves the target as it is now.",
            )


class RegisteredTargets:
    """The targets of an embedded farm, whose commands are run by the worker's own user."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[tuple[str, str], Target] = {}

    def target(self, job: Job) -> Target:
        named = (job.target, job.target_revision)
        if named not in self._known:
            self._known[named] = stored_target(self._store, *named)
        return self._known[named]


def read_again(target: Target, settings: Settings, definitions: Definitions) -> Target:
    """A worker's target as it is now; of a host target remembered for as long as the files that decide it stay the
    same. One that is defined no more has no revision."""
    if target.name.startswith("host-"):
        return host_target(Path(target.python), sandbox=settings.sandbox, memory=settings.cache / "targets")
    try:
        return definitions.target(target.name)
    except InputError:
        return replace(target, revision="")


def own_target(text: str, settings: Settings, definitions: Definitions) -> Target:
    """The target that `--target` names: `host`, this interpreter on this machine, `host:PYTHON`, another one, or a
    defined one's name.

    Raises InputError for anything else, and BadInterpreter.
    """
    kind, _, python = text.partition(":")
    if text == f"{HOST}:" or (kind != HOST and not TARGET_NAME.fullmatch(text)):
        raise InputError(
            f"{text!r} is no target of a worker.",
            hint="Accepted: host, host:PYTHON (a path or a name), or the name of a definition (wheelfarm target list)",
        )
    if kind != HOST:
        return definitions.target(text)
    interpreter = environment_to_build_for(os.environ, python).python if python else Path(sys.executable)
    return host_target(interpreter, sandbox=settings.sandbox, memory=settings.cache / "targets")
