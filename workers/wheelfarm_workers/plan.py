"""Stage and plan: what an sdist says of how it is built, and the exact wheels that its environment will hold."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from wheelfarm.errors import FarmUnavailable
from wheelfarm.farm import Farm
from wheelfarm.job import Job, JobKind, Sdist
from wheelfarm.resolution import MetadataPending, resolve
from wheelfarm.target import Target
from wheelfarm_services import layout
from wheelfarm_services.build_system import BuildSystem, checked_requirements, read_build_system
from wheelfarm_services.sdist_head import SdistHead, read_head
from wheelfarm_services.store import Store
from wheelfarm_services.wheel_index import Plan, PlannedRequirement, WheelIndex, build_key
from wheelfarm_workers.hold import Hold
from wheelfarm_workers.inputs import Inputs


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


class Planner:
    """Stages sdists and plans their builds; `facts` are what else decides a wheel's bytes on this worker."""

    def __init__(
        self, *, store: Store, wheels: WheelIndex, farm: Farm, inputs: Inputs, cache: Path, facts: Mapping[str, object]
    ) -> None:
        self._store = store
        self._wheels = wheels
        self._farm = farm
        self._inputs = inputs
        self._cache = cache
        self._facts = facts
        self._targets: dict[str, Target] = {}

    def stage(self, job: Job) -> StagedSdist:
        """Bring the job's sdist here and read its head, nothing unpacked. Raises BadSdist."""
        path = self._inputs.sdist(job.sdist)
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

    def plan(self, staged: StagedSdist, hold: Hold) -> PlannedBuild:
        """Settle the build requirements, static and dynamic solved together, and see that they are built.

        Raises Suspended while they are not.
        """
        recorded = self._wheels.plan(staged.job)
        if recorded is not None and self._build_key(staged, recorded.requirements) == recorded.build_key:
            return PlannedBuild(staged=staged, plan=recorded)
        jobs = [replace(staged.job, kind=JobKind.WHEEL, sdist=sdist) for sdist in self._resolve(staged, hold)]
        requirements = self._found(jobs)
        if len(requirements) < len(jobs):
            hold.require(jobs)
            requirements = self._found(jobs)
        if len(requirements) < len(jobs):
            raise FarmUnavailable(f"A build requirement of {staged.job.sdist} is done and yet not in the store.")
        return self._planned(staged, requirements)

    def with_answer(self, planned: PlannedBuild, asked: Sequence[str]) -> PlannedBuild:
        """The plan with what the backend really asked for, which is remembered for the sdist and target.

        Raises BadSdist or DirectReferenceRefused for something that no backend may ask for.
        """
        staged = planned.staged
        checked_requirements(staged.job.sdist, asked)
        if staged.asked is None or set(staged.asked) != set(asked):
            key = layout.hook_requirements(staged.job.sdist.sha256, staged.target.revision)
            self._store.put(key, json.dumps(sorted(asked)).encode())
        return self._planned(replace(staged, asked=tuple(asked)), planned.plan.requirements)

    def _planned(self, staged: StagedSdist, requirements: Sequence[PlannedRequirement]) -> PlannedBuild:
        plan = Plan(build_key=self._build_key(staged, requirements), requirements=tuple(requirements))
        return PlannedBuild(staged=staged, plan=plan)

    def _found(self, jobs: Sequence[Job]) -> list[PlannedRequirement]:
        manifests = [(job, self._wheels.find(job)) for job in jobs]
        return [PlannedRequirement(sdist=job.sdist, wheel=found.wheel) for job, found in manifests if found is not None]

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
            requirements=sorted(requirement.wheel.sha256 for requirement in requirements),
            asked=sorted(staged.asked or ()),
            recipe=staged.job.recipe,
            replica=staged.job.replica,
            **self._facts,
        )

    def _target(self, job: Job) -> Target:
        if job.target_revision not in self._targets:
            data = self._store.get(layout.target(job.target, job.target_revision))
            if data is None:
                raise FarmUnavailable(f"The store has no target {job.target} in revision {job.target_revision[:16]}.")
            self._targets[job.target_revision] = Target.from_json(json.loads(data))
        return self._targets[job.target_revision]
