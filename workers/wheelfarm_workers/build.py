"""Environment and build: trees made once a wheel, laid together, and the driver run in a sandbox upon them."""

import errno
import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

from wheelfarm.errors import BadWheel, BuildFailed, BuildLimitExceeded, BuildTimeout, FarmUnavailable, JobCancelled
from wheelfarm.job import Job, JobKind, Sdist
from wheelfarm.recipe import Recipe
from wheelfarm.target import Target
from wheelfarm.wheel import BuiltWheel
from wheelfarm_services.build_system import version_environment
from wheelfarm_services.sdist_head import bad_archive
from wheelfarm_workers.driver import MOUNTED_AT, Driver
from wheelfarm_workers.environment import Tree, TreeCache, compose, tree_key, write_configuration
from wheelfarm_workers.hold import Hold
from wheelfarm_workers.inputs import Inputs
from wheelfarm_workers.plan import PlannedBuild, StagedSdist
from wheelfarm_workers.sandbox import Ending, Limits, Mount, Sandbox, SandboxResult, SandboxRun

BUILD_ENVIRONMENT = {
    "PYTHONHASHSEED": "0",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PIP_NO_INDEX": "1",
    "PIP_CONFIG_FILE": "/dev/null",
}
_ANSWER_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What the driver answered: its outcome ("built" or "missing" requirements), its facts, and the wheel's bytes."""

    facts: dict[str, Any]
    body: BinaryIO
    duration_s: float

    @property
    def requires(self) -> list[str]:
        """What `get_requires_for_build_wheel` returned, as far as it applies to the target."""
        return list(self.facts["requires"])


class Builder:
    """Runs the driver: once a wheel to make a tree of it, and for each build."""

    def __init__(
        self, *, sandbox: Sandbox, driver: Driver, inputs: Inputs, cache: Path, limits: Limits, cores: int
    ) -> None:
        self._sandbox = sandbox
        self._cores = cores
        self._driver = driver
        self._inputs = inputs
        self._cache = cache
        self._limits = limits
        self._trees = TreeCache(cache / "trees")

    def build(self, planned: PlannedBuild, hold: Hold) -> Answer:
        """Build a planned wheel. Raises the reason when the driver did neither build nor ask for more."""
        staged = planned.staged
        limits = self.limits(staged.recipe, hold.attempt)
        trees = [self._tree(requirement.wheel, staged.target, hold) for requirement in planned.plan.requirements]
        environment = compose(trees, staged.target, write_configuration(staged.target, self._cache))
        run = SandboxRun(
            argv=(environment.python, "-s", self._driver.script),
            input=self._task(staged),
            interpreter_prefix=Path(staged.target.prefix),
            limits=limits,
            mounts=(
                Mount(source=self._driver.folder, target=MOUNTED_AT),
                Mount(source=staged.path, target="/in/sdist"),
                *(
                    Mount(source=self._inputs.patch(sha256), target=f"/in/{number}.patch")
                    for number, sha256 in enumerate(staged.recipe.patches)
                ),
                *environment.mounts,
            ),
            directories=environment.directories,
            symlinks=environment.symlinks,
            environment=_environment(staged),
        )
        hold.log(_heading(planned).encode())
        result = self._sandbox.run(run, log=hold.log, cancelled=hold.cancelled)
        answer = read_answer(result, str(staged.job.sdist), limits)
        try:
            _require_built(staged, answer, limits)
        except BaseException:
            answer.body.close()
            raise
        return answer

    def limits(self, recipe: Recipe, attempt: int) -> Limits:
        """What a build may use: the recipe's limits or else the worker's, twice as much when it is tried again."""
        asked, times = recipe.limits, 1 if attempt < 2 else 2
        return replace(
            self._limits,
            wall_s=times * (asked.timeout_s or self._limits.wall_s),
            memory_bytes=times * ((asked.memory_mib or 0) << 20 or self._limits.memory_bytes),
            build_bytes=times * ((asked.disk_mib or 0) << 20 or self._limits.build_bytes),
        )

    def _task(self, staged: StagedSdist) -> bytes:
        task = {
            "do": "build",
            "make": "sdist" if staged.job.kind is JobKind.SDIST else "wheel",
            "filename": staged.job.sdist.filename,
            "build_system": {
                "backend": staged.build_system.backend,
                "backend_path": list(staged.build_system.backend_path),
            },
            "config_settings": dict(staged.recipe.config_settings),
            "patches": len(staged.recipe.patches),
            "complete": staged.recipe.build_requirements is not None,
            "cores": staged.recipe.limits.cores or self._cores,
        }
        return json.dumps(task).encode()

    def _tree(self, wheel: BuiltWheel, target: Target, hold: Hold) -> Tree:
        key = tree_key(wheel, target, self._driver.digest)
        with self._trees.lock(key):
            if not self._trees.path(key).exists():
                self._make_tree(key, wheel, target, hold)
        return Tree(wheel=wheel, folder=self._trees.path(key))

    def _make_tree(self, key: str, wheel: BuiltWheel, target: Target, hold: Hold) -> None:
        folder = self._trees.begin(key)
        task = {"do": "tree", "name": wheel.name, "filename": wheel.filename, "site_packages": target.site_packages}
        said = bytearray()
        with TemporaryDirectory(dir=self._cache, prefix="wheel-") as work:
            path = Path(work) / wheel.filename
            self._inputs.copy_wheel(wheel, path)
            run = SandboxRun(
                argv=(target.python, "-I", "-S", self._driver.script),
                input=json.dumps(task).encode(),
                interpreter_prefix=Path(target.prefix),
                limits=self._limits,
                mounts=(
                    Mount(source=self._driver.folder, target=MOUNTED_AT),
                    Mount(source=path, target=f"/in/{wheel.filename}"),
                    Mount(source=folder, target="/tree", writable=True),
                ),
                environment={"PYTHONHASHSEED": "0"},
            )
            result = self._sandbox.run(run, log=said.extend, cancelled=hold.cancelled)
        answer = read_answer(result, f"unpacking {wheel.filename}", self._limits)
        answer.body.close()
        if answer.facts.get("outcome") == "full":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._cache))
        if answer.facts.get("outcome") != "made":
            raise FarmUnavailable(f"{wheel.filename} can't be unpacked: {said[-2000:].decode(errors='replace')}")
        self._trees.finish(key, folder)


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


def _environment(staged: StagedSdist) -> dict[str, str]:
    told = version_environment(staged.job.sdist, staged.head)
    return {**BUILD_ENVIRONMENT, **told, **staged.recipe.environment}


def _heading(planned: PlannedBuild) -> str:
    staged = planned.staged
    used = ", ".join(requirement.wheel.filename for requirement in planned.plan.requirements) or "nothing"
    return f"wheelfarm: building {staged.job.sdist} for {staged.target.name} with {used}\n"


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
        case Ending.LOG_LIMIT | Ending.RESULT_LIMIT:
            raise BuildLimitExceeded(f"{what} wrote more than a build may ({ending}) and was ended.")
        case Ending.LOST:
            raise FarmUnavailable(f"{what} was lost with the process that ran it.")


def _require_built(staged: StagedSdist, answer: Answer, limits: Limits) -> None:
    """Raise the driver's reason unless it built or asks for requirements; the answer's shape is checked, too."""
    facts, sdist = answer.facts, staged.job.sdist
    if facts.get("outcome") == "refused":
        raise bad_archive(sdist, str(facts.get("reason", ""))[:2000])
    if facts.get("outcome") == "full":
        raise _disk_full(sdist, facts.get("folder"), limits)
    if facts.get("outcome") == "unexpected":
        raise _unexpected(staged.job, facts.get("filename"), facts.get("found"))
    if facts.get("outcome") not in ("built", "missing"):
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
