"""The pipeline: one job from its sdist to a published wheel, phase by phase.

stage > plan > environment > build in the sandbox > check > publish. A phase takes a complete value and returns the
next. A job whose build requirements are not there yet is suspended, not waited for: `Hold.require` raises Suspended,
and when the job is claimed again its earlier phases answer at once from the store and the worker's caches.
"""

import hashlib
import json
import logging
import shutil
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO, Protocol

from wheelfarm.errors import (
    BuildFailed,
    BuildLimitExceeded,
    BuildTimeout,
    FarmUnavailable,
    HashMismatch,
    JobCancelled,
)
from wheelfarm.farm import Farm
from wheelfarm.job import Job, JobKind, Sdist
from wheelfarm.resolution import MetadataPending, resolve
from wheelfarm.target import Target, native_tags
from wheelfarm.wheel import BuiltWheel
from wheelfarm_services import layout
from wheelfarm_services.build_system import BuildSystem, checked_requirements, read_build_system
from wheelfarm_services.sdist_head import SdistHead, bad_archive, read_head
from wheelfarm_services.static_metadata import resolving_fields
from wheelfarm_services.store import Store
from wheelfarm_services.wheel_index import Manifest, Plan, PlannedRequirement, WheelIndex, build_key

from wheelfarm_workers.driver import MOUNTED_AT, Driver
from wheelfarm_workers.environment import Tree, TreeCache, compose, tree_key, write_configuration
from wheelfarm_workers.sandbox import Ending, Limits, Mount, Sandbox, SandboxResult, SandboxRun
from wheelfarm_workers.wheel_check import CheckedWheel, check_wheel
from wheelfarm_workers.wheel_stamp import stamp

logger = logging.getLogger(__name__)

_ROUNDS = 4
"""How often a backend may ask for more before its build is given up."""
_ANSWER_BYTES = 1 << 20
_BUILD_ENVIRONMENT = {
    "PYTHONHASHSEED": "0",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PIP_NO_INDEX": "1",
    "PIP_CONFIG_FILE": "/dev/null",
}


class Suspended(Exception):
    """The job waits for others; its slot is free, and it will be claimed again when they have finished."""


class Hold(Protocol):
    """A claimed job's hold on the farm."""

    cancelled: threading.Event

    def require(self, jobs: Sequence[Job]) -> None:
        """Return when all are done; raise Suspended when they are not, and the reason when they can't be."""
        ...

    def log(self, data: bytes) -> None:
        """Add to the build log."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class StagedSdist:
    """A job's sdist on the worker's disk, and what its head says of how it is built."""

    job: Job
    target: Target
    path: Path
    head: SdistHead
    build_system: BuildSystem
    asked: tuple[str, ...] | None
    """What `get_requires_for_build_wheel` is known to answer; None when it has not been asked."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedBuild:
    """A staged sdist with the exact wheels that its environment will hold."""

    staged: StagedSdist
    plan: Plan


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What the driver answered: its outcome and facts, and the wheel's bytes behind them."""

    facts: dict[str, Any]
    body: BinaryIO


class Pipeline:
    """Runs jobs on one worker."""

    def __init__(
        self,
        *,
        store: Store,
        wheels: WheelIndex,
        farm: Farm,
        sandbox: Sandbox,
        driver: Driver,
        cache: Path,
        limits: Limits,
    ) -> None:
        self._store = store
        self._wheels = wheels
        self._farm = farm
        self._sandbox = sandbox
        self._driver = driver
        self._cache = cache
        self._limits = limits
        self._trees = TreeCache(cache / "trees")
        self._targets: dict[str, Target] = {}

    def run(self, job: Job, hold: Hold) -> dict[str, Any]:
        """Do a job; safe to repeat. Returns what the ledger keeps as its result.

        Raises Suspended, JobCancelled, or the reason why the job failed.
        """
        if job.kind is JobKind.METADATA:
            return self._compute_metadata(job, hold)
        return self._build_wheel(job, hold).to_json()

    def _compute_metadata(self, job: Job, hold: Hold) -> dict[str, Any]:
        """Metadata that only the backend can tell is its wheel's, which is wanted anyway: no work is done twice."""
        key = layout.built_metadata(job.sdist.sha256, job.target_revision)
        if self._store.size(key) is None:
            wheel_job = replace(job, kind=JobKind.WHEEL)
            manifest = self._wheels.find(wheel_job)
            if manifest is None:
                hold.require([wheel_job])
                manifest = self._wheels.find(wheel_job)
            if manifest is None:
                raise FarmUnavailable(f"The wheel of {job.sdist} is done and yet not in the store.")
            metadata = self._store.get(layout.wheel_metadata(manifest.wheel.sha256, manifest.wheel.filename)) or b""
            self._store.put(key, resolving_fields(metadata))
        return {}

    def _build_wheel(self, job: Job, hold: Hold) -> BuiltWheel:
        if (manifest := self._wheels.find(job)) is not None:
            self._wheels.enlist(manifest)
            return manifest.wheel
        staged = self._stage(job)
        for _ in range(_ROUNDS):
            planned = self._plan(staged, hold)
            if (manifest := self._wheels.manifest(planned.plan.build_key)) is not None:
                self._wheels.record_plan(job, planned.plan)
                self._wheels.enlist(manifest)
                return manifest.wheel
            with TemporaryDirectory(dir=self._cache, prefix="build-") as work:
                answer = self._run_driver(planned, hold)
                if answer.facts["outcome"] == "missing":
                    staged = self._with_asked(staged, answer.facts["requires"])
                    continue
                self._remember_asked(staged, answer.facts["requires"])
                checked = self._check(staged, answer, Path(work))
                return self._publish(planned, checked, answer, Path(work))
        raise BuildFailed(f"The backend of {job.sdist} asked for other requirements {_ROUNDS} times over.")

    # Stage

    def _stage(self, job: Job) -> StagedSdist:
        path = self._cache / "sdists" / job.sdist.sha256
        if not path.exists():
            self._fetch(job.sdist, path)
        with path.open("rb") as file:
            head = read_head(job.sdist, file)
        target = self._target(job)
        remembered = self._store.get(layout.hook_requirements(job.sdist.sha256, target.revision))
        return StagedSdist(
            job=job,
            target=target,
            path=path,
            head=head,
            build_system=read_build_system(job.sdist, head),
            asked=tuple(json.loads(remembered)) if remembered is not None else None,
        )

    def _fetch(self, sdist: Sdist, path: Path) -> None:
        """Copy an sdist from the store, verified; one that is not there is asked of the source index first."""
        source = self._store.open(layout.sdist(sdist.sha256))
        if source is None:
            self._farm.mirror([sdist])
            source = self._store.open(layout.sdist(sdist.sha256))
        if source is None:
            raise FarmUnavailable(f"{sdist.filename} was mirrored and yet is not in the store.")
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{threading.get_ident()}")
        with source, partial.open("wb") as copy:
            shutil.copyfileobj(source, copy, 1 << 20)
        with partial.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != sdist.sha256:
            partial.unlink()
            raise HashMismatch(f"{sdist.filename} in the store has sha256 {found}, not {sdist.sha256}.")
        partial.chmod(0o644)
        partial.replace(path)

    def _target(self, job: Job) -> Target:
        if job.target_revision not in self._targets:
            data = self._store.get(layout.target(job.target, job.target_revision))
            if data is None:
                raise FarmUnavailable(f"The store has no target {job.target} in revision {job.target_revision[:16]}.")
            self._targets[job.target_revision] = Target.from_json(json.loads(data))
        return self._targets[job.target_revision]

    # Plan

    def _plan(self, staged: StagedSdist, hold: Hold) -> PlannedBuild:
        """Settle the build requirements, static and dynamic solved together, and see that they are built."""
        recorded = self._wheels.plan(staged.job)
        if recorded is not None and self._build_key(staged, recorded.requirements) == recorded.build_key:
            return PlannedBuild(staged=staged, plan=recorded)
        jobs = [replace(staged.job, kind=JobKind.WHEEL, sdist=sdist) for sdist in self._resolve(staged, hold)]
        manifests = [self._wheels.find(job) for job in jobs]
        if not all(manifests):
            hold.require(jobs)
            manifests = [self._wheels.find(job) for job in jobs]
        requirements = tuple(
            PlannedRequirement(sdist=job.sdist, wheel=manifest.wheel)
            for job, manifest in zip(jobs, manifests, strict=True)
            if manifest is not None
        )
        if len(requirements) != len(jobs):
            raise FarmUnavailable(f"A build requirement of {staged.job.sdist} is done and yet not in the store.")
        return PlannedBuild(
            staged=staged,
            plan=Plan(build_key=self._build_key(staged, requirements), requirements=requirements),
        )

    def _resolve(self, staged: StagedSdist, hold: Hold) -> tuple[Sdist, ...]:
        wanted = sorted({*staged.build_system.requires, *(staged.asked or ())})
        while wanted:
            found = resolve(wanted, target=staged.target, farm=self._farm, cache_dir=self._cache / "uv")
            if not isinstance(found, MetadataPending):
                return found.sdists
            hold.require([replace(staged.job, kind=JobKind.METADATA, sdist=sdist) for sdist in found.sdists])
        return ()

    def _build_key(self, staged: StagedSdist, requirements: Sequence[PlannedRequirement]) -> str:
        return build_key(
            sdist=staged.job.sdist.sha256,
            target=staged.target.revision,
            tag_policy="native",
            requirements=sorted(requirement.wheel.sha256 for requirement in requirements),
            asked=sorted(staged.asked) if staged.asked else [],
            driver=self._driver.digest,
            environment=_BUILD_ENVIRONMENT,
            config_settings={},
            patches=[],
            recipe=staged.job.recipe,
            source_date_epoch="newest member of the sdist",
            sandbox=self._sandbox.name,
            replica=staged.job.replica,
        )

    def _with_asked(self, staged: StagedSdist, asked: Sequence[str]) -> StagedSdist:
        checked_requirements(staged.job.sdist, asked)
        self._remember_asked(staged, asked)
        return replace(staged, asked=tuple(asked))

    def _remember_asked(self, staged: StagedSdist, asked: Sequence[str]) -> None:
        if staged.asked is None or set(staged.asked) != set(asked):
            key = layout.hook_requirements(staged.job.sdist.sha256, staged.target.revision)
            self._store.put(key, json.dumps(sorted(asked)).encode())

    # Environment

    def _trees_of(self, planned: PlannedBuild, hold: Hold) -> list[Tree]:
        return [self._tree(requirement.wheel, planned.staged.target, hold) for requirement in planned.plan.requirements]

    def _tree(self, wheel: BuiltWheel, target: Target, hold: Hold) -> Tree:
        key = tree_key(wheel, target, self._driver.digest)
        with self._trees.lock(key):
            if not self._trees.path(key).exists():
                self._make_tree(key, wheel, target, hold)
        return Tree(wheel=wheel, folder=self._trees.path(key))

    def _make_tree(self, key: str, wheel: BuiltWheel, target: Target, hold: Hold) -> None:
        folder = self._trees.begin(key)
        with TemporaryDirectory(dir=self._cache, prefix="wheel-") as work:
            path = Path(work) / wheel.filename
            self._fetch_wheel(wheel, path)
            task = {
                "do": "tree",
                "name": wheel.name,
                "filename": wheel.filename,
                "site_packages": target.site_packages,
            }
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
            said = bytearray()
            result = self._sandbox.run(run, log=said.extend, cancelled=hold.cancelled)
        answer = _read_answer(result, f"unpacking {wheel.filename}", self._limits)
        if answer.facts.get("outcome") != "made":
            raise FarmUnavailable(f"{wheel.filename} can't be unpacked: {said[-2000:].decode(errors='replace')}")
        self._trees.finish(key, folder)

    def _fetch_wheel(self, wheel: BuiltWheel, path: Path) -> None:
        source = self._store.open(layout.wheel(wheel.sha256, wheel.filename))
        if source is None:
            raise FarmUnavailable(f"The wheel {wheel.filename} is gone from the store.")
        digest = hashlib.sha256()
        with source, path.open("wb") as copy:
            while chunk := source.read(1 << 20):
                digest.update(chunk)
                copy.write(chunk)
        if digest.hexdigest() != wheel.sha256:
            raise HashMismatch(f"{wheel.filename} in the store has sha256 {digest.hexdigest()}, not {wheel.sha256}.")
        path.chmod(0o644)

    # Build

    def _run_driver(self, planned: PlannedBuild, hold: Hold) -> Answer:
        staged = planned.staged
        configuration = write_configuration(staged.target, self._cache)
        environment = compose(self._trees_of(planned, hold), staged.target, configuration)
        task = {
            "do": "build",
            "filename": staged.job.sdist.filename,
            "build_system": {
                "backend": staged.build_system.backend,
                "backend_path": list(staged.build_system.backend_path),
            },
            "config_settings": {},
        }
        run = SandboxRun(
            argv=(environment.python, "-s", self._driver.script),
            input=json.dumps(task).encode(),
            interpreter_prefix=Path(staged.target.prefix),
            limits=self._limits,
            mounts=(
                Mount(source=self._driver.folder, target=MOUNTED_AT),
                Mount(source=staged.path, target="/in/sdist"),
                *environment.mounts,
            ),
            directories=environment.directories,
            symlinks=environment.symlinks,
            environment=_BUILD_ENVIRONMENT,
        )
        hold.log(_heading(planned).encode())
        result = self._sandbox.run(run, log=hold.log, cancelled=hold.cancelled)
        answer = _read_answer(result, str(staged.job.sdist), self._limits)
        _require_built(staged, answer)
        return answer

    # Check and publish

    def _check(self, staged: StagedSdist, answer: Answer, work: Path) -> CheckedWheel:
        path = work / "unstamped.whl"
        with answer.body, path.open("wb") as copy:
            shutil.copyfileobj(answer.body, copy, 1 << 20)
        return check_wheel(path, str(answer.facts["wheel"]), staged.job.sdist, native_tags(staged.target))

    def _publish(self, planned: PlannedBuild, checked: CheckedWheel, answer: Answer, work: Path) -> BuiltWheel:
        job = planned.staged.job
        final = replace(planned.staged, asked=tuple(answer.facts["requires"]))
        plan = self._wheels.record_plan(
            job, replace(planned.plan, build_key=self._build_key(final, planned.plan.requirements))
        )
        if (committed := self._wheels.manifest(plan.build_key)) is not None:
            self._wheels.enlist(committed)
            return committed.wheel
        filename, build_tag = self._wheels.claim_name(job.target, checked.filename, checked.sha256)
        stamped = work / filename
        stamp(checked.path, build_tag, stamped)
        with stamped.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        wheel = BuiltWheel(
            name=job.sdist.name,
            version=job.sdist.version,
            filename=filename,
            sha256=sha256,
            size=stamped.stat().st_size,
        )
        manifest = Manifest(
            wheel=wheel,
            unstamped_sha256=checked.sha256,
            metadata_sha256=hashlib.sha256(checked.metadata).hexdigest(),
            requires_python=checked.requires_python,
            target=job.target,
            provenance={
                "job": job.to_json(),
                "plan": plan.to_json(),
                "target": planned.staged.target.to_json(),
                "driver": self._driver.digest,
                "sandbox": self._sandbox.name,
                "source_date_epoch": answer.facts["source_date_epoch"],
            },
        )
        return self._wheels.publish(plan.build_key, manifest, stamped, checked.metadata).wheel


def _heading(planned: PlannedBuild) -> str:
    staged = planned.staged
    used = ", ".join(requirement.wheel.filename for requirement in planned.plan.requirements) or "nothing"
    return f"wheelfarm: building {staged.job.sdist} for {staged.target.name} with {used}\n"


def _read_answer(result: SandboxResult, what: str, limits: Limits) -> Answer:
    """The driver's answer. Raises the reason when the run ended otherwise than by answering."""
    match result.ending:
        case Ending.EXITED:
            pass
        case Ending.CANCELLED:
            raise JobCancelled(f"{what} was cancelled.")
        case Ending.TIMEOUT:
            raise BuildTimeout(
                f"{what} was still running after {limits.wall_s:g} s and was ended.",
                hint="Give it more with WHEELFARM_BUILD_TIMEOUT_S, or look in its log for what it waits for.",
            )
        case Ending.MEMORY:
            raise BuildLimitExceeded(
                f"{what} needed more than {limits.memory_bytes >> 20} MiB of memory and was ended.",
                hint="Give it more with WHEELFARM_BUILD_MEMORY_MIB.",
            )
        case Ending.LOG_LIMIT | Ending.RESULT_LIMIT:
            raise BuildLimitExceeded(f"{what} wrote more than a build may ({result.ending}) and was ended.")
        case Ending.LOST:
            raise FarmUnavailable(f"{what} was lost with the process that ran it.")
    line = result.result.readline(_ANSWER_BYTES)
    try:
        facts = json.loads(line)
    except ValueError:
        facts = None
    if not isinstance(facts, dict):
        raise BuildFailed(f"{what}: the build ended without an answer (exit status {result.returncode}).")
    return Answer(facts=facts, body=result.result)


def _require_built(staged: StagedSdist, answer: Answer) -> None:
    """Raise the driver's reason unless it built or asks for requirements; the answer's shape is checked, too."""
    facts, sdist = answer.facts, staged.job.sdist
    if facts.get("outcome") == "refused":
        raise bad_archive(sdist, str(facts.get("reason", ""))[:2000])
    if facts.get("outcome") not in ("built", "missing"):
        raise BuildFailed(f"The build of {sdist} failed: {str(facts.get('reason', 'no reason given'))[:2000]}")
    if facts.get("pyproject_sha256") != staged.head.pyproject_sha256:
        raise bad_archive(sdist, "its pyproject.toml reads differently as a stream than unpacked")
    requires, epoch = facts.get("requires"), facts.get("source_date_epoch")
    strings = isinstance(requires, list) and len(requires) < 1000 and all(isinstance(entry, str) for entry in requires)
    if not strings or not isinstance(epoch, int) or not isinstance(facts.get("wheel", ""), str):
        raise BuildFailed(f"The build of {sdist} answered with something that no driver says.")
