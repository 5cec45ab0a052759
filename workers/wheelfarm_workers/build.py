"""Environment and build: trees made once a wheel, laid together, and the driver run in a sandbox upon them."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from wheelfarm.errors import BadWheel, BuildFailed, BuildLimitExceeded
from wheelfarm.job import Job, JobKind, Sdist
from wheelfarm.recipe import Recipe
from wheelfarm.target import Target
from wheelfarm.wheel import BuiltWheel
from wheelfarm_services.build_system import version_environment
from wheelfarm_services.metrics import phase
from wheelfarm_services.sdist_head import bad_archive
from wheelfarm_workers.answer import Answer, read_answer
from wheelfarm_workers.driver import MOUNTED_AT, Driver
from wheelfarm_workers.environment import Environment, compose, write_configuration
from wheelfarm_workers.grounds import Grounds
from wheelfarm_workers.hold import Hold
from wheelfarm_workers.inputs import Inputs
from wheelfarm_workers.plan import PlannedBuild, StagedSdist
from wheelfarm_workers.sandbox import Limits, Mount
from wheelfarm_workers.trees import TreeMaker

logger = logging.getLogger(__name__)

BUILD_ENVIRONMENT = {
    "PYTHONHASHSEED": "0",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PIP_NO_INDEX": "1",
    "PIP_CONFIG_FILE": "/dev/null",
}

_NOT_YET_STARTED_S = 3600.0
"""For how long a build may wait for its sandbox, which its trees must outlast."""


class Builder:
    """Runs the driver for each build, upon the trees of what it needs."""

    def __init__(
        self, *, grounds: Grounds, driver: Driver, inputs: Inputs, cache: Path, work: Path, limits: Limits, cores: int
    ) -> None:
        self._grounds = grounds
        self._cores = cores
        self._inputs = inputs
        self._cache = cache
        self._limits = limits
        self._trees = TreeMaker(
            grounds=grounds, driver=driver, inputs=inputs, cache=cache, work=work, limits=limits, cores=cores
        )

    def build(self, planned: PlannedBuild, hold: Hold) -> Answer:
        """Build a planned wheel. Raises the reason when the driver did neither build nor ask for more."""
        staged = planned.staged
        limits = self.limits(staged, hold.attempt)
        for_s = _NOT_YET_STARTED_S + limits.wall_s
        ground = self._grounds.of(staged.target, derived=staged.derived, for_s=for_s)
        with phase("environment"):
            driver = self._trees.driver(staged.target, hold.cancelled, for_s=for_s)
            wheels = [required.wheel for required in planned.plan.requirements]
            environment = self.environment(wheels, staged.target, hold, limits)
        run = ground.command(
            (environment.python, "-s", driver.script),
            input=self._task(staged),
            limits=limits,
            mounts=(
                Mount(source=driver.folder, target=MOUNTED_AT),
                Mount(source=staged.path, target="/in/sdist"),
                *(
                    Mount(source=self._inputs.patch(sha256), target=f"/in/{number}.patch")
                    for number, sha256 in enumerate(staged.recipe.patches)
                ),
                *environment.mounts,
            ),
            directories=environment.directories,
            symlinks=environment.symlinks,
            environment=_environment(staged, ground.environment),
        )
        hold.log(_heading(planned).encode())
        logger.info("build begins", extra={"sdist": str(staged.job.sdist)})
        with phase("build"):
            result = ground.sandbox.run(run, log=hold.log, cancelled=hold.cancelled)
        answer = read_answer(result, str(staged.job.sdist), limits)
        try:
            _require_built(staged, answer, limits)
        except BaseException:
            answer.body.close()
            raise
        return answer

    def environment(self, wheels: Sequence[BuiltWheel], target: Target, hold: Hold, limits: Limits) -> Environment:
        """Wheels laid together, for a run under these limits."""
        trees = self._trees.trees(wheels, target, hold, for_s=_NOT_YET_STARTED_S + limits.wall_s)
        return compose(trees, target, write_configuration(target, self._cache))

    def libraries(self, target: Target, hold: Hold) -> Path:
        """The folder of the driver's libraries, compiled for a target's interpreter."""
        return self._trees.driver(target, hold.cancelled).folder / "lib"

    def prepare(self, target: Target) -> None:
        """Begin what every build for a target needs first."""
        self._trees.prepare(target)

    def limits(self, staged: StagedSdist, attempt: int) -> Limits:
        """What a build may use: the recipe's limits or else the target's or else the worker's, twice as much when it is
        tried again."""
        targets = Recipe(limits=self._grounds.of(staged.target).limits)
        asked, times = targets.merged(staged.recipe).limits, 1 if attempt < 2 else 2
        return replace(
            self._limits,
            wall_s=times * (asked.timeout_s or self._limits.wall_s),
            memory_bytes=times * ((asked.memory_mib or 0) << 20 or self._limits.memory_bytes),
            build_bytes=times * ((asked.disk_mib or 0) << 20 or self._limits.build_bytes),
        )

    def _task(self, staged: StagedSdist) -> bytes:
        task = {
            "do": "build",
            "make": staged.job.kind,
            "filename": staged.job.sdist.filename,
            "build_system": {
                "backend": staged.build_system.backend,
                "backend_path": list(staged.build_system.backend_path),
            },
            "config_settings": dict(staged.recipe.config_settings),
            "patches": len(staged.recipe.patches),
            "complete": staged.recipe.build_requirements is not None,
            "cores": staged.recipe.limits.cores or self._grounds.of(staged.target).limits.cores or self._cores,
        }
        return json.dumps(task).encode()


def _environment(staged: StagedSdist, targets: Mapping[str, str]) -> dict[str, str]:
    told = version_environment(staged.job.sdist, staged.head)
    return {**BUILD_ENVIRONMENT, **targets, **told, **staged.recipe.environment}


def _heading(planned: PlannedBuild) -> str:
    staged = planned.staged
    used = ", ".join(requirement.wheel.filename for requirement in planned.plan.requirements) or "nothing"
    return f"wheelfarm: building {staged.job.sdist} for {staged.target.name} with {used}\n"


def _require_built(staged: StagedSdist, answer: Answer, limits: Limits) -> None:
    """Raise the driver's reason unless it built or tells what it lacks for that; the answer's shape is checked, too."""
    facts, sdist = answer.facts, staged.job.sdist
    if facts.get("outcome") == "refused":
        raise bad_archive(sdist, str(facts.get("reason", ""))[:2000])
    if facts.get("outcome") == "full":
        raise _disk_full(sdist, facts.get("folder"), limits)
    if facts.get("outcome") == "unexpected":
        raise _unexpected(staged.job, facts.get("filename"), facts.get("found"))
    if facts.get("outcome") not in ("built", "missing", "unprepared"):
        raise BuildFailed(f"The build of {sdist} failed: {str(facts.get('reason', 'no reason given'))[:2000]}")
    if facts.get("pyproject_sha256") != staged.head.pyproject_sha256:
        raise bad_archive(sdist, "its pyproject.toml reads differently as a stream than unpacked")
    requires, epoch = facts.get("requires"), facts.get("source_date_epoch")
    strings = isinstance(requires, list) and len(requires) < 1000 and all(isinstance(entry, str) for entry in requires)
    if not strings or not isinstance(epoch, int) or not isinstance(facts.get("filename", ""), str):
        raise BuildFailed(f"The build of {sdist} answered with something that no driver says.")


def _disk_full(sdist: Sdist, folder: object, limits: Limits) -> BuildLimitExceeded:
    if folder == "tmp":
        return BuildLimitExceeded(
            f"The build of {sdist} ran out of disk in /tmp, where it may have {limits.tmp_bytes >> 20} MiB.",
            hint="There is more in /build: let a recipe set TMPDIR to it.",
        )
    return BuildLimitExceeded(
        f"The build of {sdist} ran out of disk in /build, where it may have {limits.build_bytes >> 20} MiB.",
        hint="Give it more with WHEELFARM_BUILD_DISK_MIB or a recipe.",
    )


def _unexpected(job: Job, named: object, found: object) -> BadWheel | BuildFailed:
    what = "sdist" if job.kind is JobKind.SDIST else "wheel"
    made = ", ".join(map(str, found))[:1000] if isinstance(found, list) and found else f"no {what}"
    error = BuildFailed if job.kind is JobKind.SDIST else BadWheel
    return error(
        f"The backend of {job.sdist} says that it made {str(named)[:200]!a}, and what it made is: {made!a}.",
        hint=f"A backend makes one {what} and names it (PEP 517). Nothing was published.",
    )
