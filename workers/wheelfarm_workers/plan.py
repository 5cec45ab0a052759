"""Stage and plan: what an sdist says of how it is built, and the exact wheels that its environment will hold."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from wheelfarm.errors import FarmUnavailable, NoSolution
from wheelfarm.farm import Farm
from wheelfarm.job import DEFAULT_VIEW, Job, JobKind, Sdist
from wheelfarm.recipe import Recipe
from wheelfarm.resolution import MetadataPending, metadata_unsettled
from wheelfarm.target import Target
from wheelfarm_services import layout
from wheelfarm_services.build_system import BuildSystem, checked_requirements, read_build_system
from wheelfarm_services.metrics import phase
from wheelfarm_services.recipe_book import RecipeBook
from wheelfarm_services.sdist_head import SdistHead, SdistHeads
from wheelfarm_services.sdist_records import sdist_record
from wheelfarm_services.store import Store
from wheelfarm_services.wheel_index import Manifest, Plan, PlannedRequirement, WheelIndex, build_key
from wheelfarm_workers.fallback import Fallback, FirstTry, era_fallback, newest_until
from wheelfarm_workers.grounds import Grounds
from wheelfarm_workers.hold import CycleClosed, Hold
from wheelfarm_workers.inputs import Inputs
from wheelfarm_workers.resolutions import Resolutions
from wheelfarm_workers.targets import TargetBook

_EXCLUSIONS = 10
"""How many versions a plan may leave out because to build them would take the wheel that is being planned."""

_METADATA_ROUNDS = 10
"""How often a plan is resolved again because wheels tell other metadata than they were resolved with."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StagedSdist:
    """A job's sdist on the worker's disk, and what its head and its recipe say of how it is built."""

    job: Job
    target: Target
    path: Path
    head: SdistHead
    build_system: BuildSystem
    recipe: Recipe
    asked: tuple[str, ...] | None
    """What `get_requires_for_build_wheel` is known to answer; None when it has not been asked."""
    fallback: Fallback | None = None
    listed: Mapping[str, Any] = field(default_factory=dict)
    """What the source index listed it as."""
    derived: str = ""
    """The sha256 of the root filesystem that has the recipe's system packages, instead of the target's own."""

    @property
    def requirements(self) -> list[str]:
        """The build requirements: the sdist's, static and dynamic, and the recipe's; or the recipe's instead."""
        return list(self.recipe.requirements((*self.build_system.requires, *(self.asked or ()))))

    @property
    def constraints(self) -> tuple[str, ...]:
        """What bounds the build requirements."""
        return (*self.recipe.build_constraints, *((self.fallback.constraint,) if self.fallback else ()))


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedBuild:
    """A staged sdist with the exact wheels that its environment will hold."""

    staged: StagedSdist
    plan: Plan


class Planner:
    """Stages sdists and plans their builds; `facts` are what else decides a wheel's bytes on this worker."""

    def __init__(
        self,
        *,
        store: Store,
        wheels: WheelIndex,
        recipes: RecipeBook,
        farm: Farm,
        inputs: Inputs,
        targets: TargetBook,
        cache: Path,
        facts: Mapping[str, object],
        grounds: Grounds,
    ) -> None:
        self._grounds = grounds
        self._heads = SdistHeads(store)
        self._store = store
        self._wheels = wheels
        self._recipes = recipes
        self._farm = farm
        self._inputs = inputs
        self._resolutions = Resolutions(farm, cache / "uv")
        self._facts = facts
        self._targets = targets
        self._rounds: dict[str, list[set[str]]] = {}

    @phase("stage")
    def stage(self, job: Job) -> StagedSdist:
        """Bring the job's sdist here and read its head, nothing unpacked.

        Raises BadSdist, InputError for a target that is not this worker's, and SystemPackagesMissing.
        """
        target = self._targets.target(job)
        path = self._inputs.sdist(job)
        head = self._heads.read(job.sdist, lambda: path.open("rb"))
        recipe = self._recipes.recipe(job)
        remembered = self._store.get(layout.hook_requirements(job.sdist.sha256, target.revision))
        return StagedSdist(
            job=job,
            target=target,
            path=path,
            head=head,
            build_system=read_build_system(job.sdist, head),
            recipe=recipe,
            derived=self._grounds.derived(target, recipe.system_packages),
            asked=tuple(json.loads(remembered)) if remembered is not None else None,
            listed=sdist_record(self._store, job.sdist),
        )

    @phase("plan")
    def plan(self, staged: StagedSdist, hold: Hold) -> PlannedBuild:
        """Settle the build requirements, static and dynamic solved together, and see that they are built.

        Versions that can't be had without this very wheel are left out. Raises Suspended while something is not built
        yet, BuildCycle where nothing else would do, NoSolution.
        """
        recorded = self._wheels.plan(staged.job)
        if (
            recorded is not None
            and self._build_key(staged, recorded.requirements) == recorded.build_key
            and all(self._wheels.has(requirement.wheel) for requirement in recorded.requirements)
        ):
            return PlannedBuild(staged=staged, plan=recorded)
        closed: list[CycleClosed] = []
        while True:
            constraints = (*staged.constraints, *(f"{one.sdist.name}!={one.sdist.version}" for one in closed))
            try:
                return self._settle(staged, constraints, hold)
            except CycleClosed as cycle:
                closed.append(cycle)
                if len(closed) > _EXCLUSIONS:
                    raise closed[0].error from None
            except NoSolution:
                if closed:
                    raise closed[0].error from None
                raise

    def fallback(self, staged: StagedSdist, first: FirstTry) -> Fallback | None:
        """What an sdist's other try is built under; None where there is nothing else to try."""
        listed = self._farm.sdists("setuptools", staged.target)
        newest = newest_until(listed, first.uploaded, staged.target.python_version)
        return None if newest is None else era_fallback(first, newest, staged.target.python_version)

    def with_answer(self, planned: PlannedBuild, asked: Sequence[str]) -> PlannedBuild:
        """The plan with what the backend really asked for, which is remembered for the sdist and target.

        Raises BadSdist or DirectReferenceRefused for something that no backend may ask for.
        """
        staged = planned.staged
        checked_requirements(staged.job.sdist, asked)
        if staged.asked is None or set(staged.asked) != set(asked):
            key = layout.hook_requirements(staged.job.sdist.sha256, staged.target.revision)
            self._store.put(key, json.dumps(sorted(asked)).encode())
        staged = replace(staged, asked=tuple(asked))
        return self._planned(staged, planned.plan.requirements, planned.plan.constraints)

    def _settle(self, staged: StagedSdist, constraints: tuple[str, ...], hold: Hold) -> PlannedBuild:
        """The plan whose wheels tell the metadata that they were resolved with. Raises MetadataUnsettled."""
        rounds = self._rounds.setdefault(staged.job.request_key, [])
        anew = False
        while len(rounds) < _METADATA_ROUNDS:
            built = self._built(staged, self._resolve(staged, constraints, hold, anew=anew), hold)
            revised = {str(sdist) for sdist, manifest in built if manifest.metadata_revision.revision}
            known = rounds[-1] if rounds else set()
            if revised <= known:
                del self._rounds[staged.job.request_key]
                requirements = [PlannedRequirement(sdist=sdist, wheel=manifest.wheel) for sdist, manifest in built]
                return self._planned(staged, requirements, constraints)
            rounds.append(revised | known)
            anew = True
        raise metadata_unsettled(sorted(self._rounds.pop(staged.job.request_key)[-1]), _METADATA_ROUNDS)

    def _built(self, staged: StagedSdist, sdists: Sequence[Sdist], hold: Hold) -> list[tuple[Sdist, Manifest]]:
        """Build requirements with their manifests. Raises what `Hold.require` raises while one is not built."""
        jobs = [self._job(staged, JobKind.WHEEL, sdist) for sdist in sdists]
        built = self._found(jobs)
        if len(built) < len(jobs):
            hold.require(jobs, tolerant=True)
            built = self._found(jobs)
        if len(built) < len(jobs):
            hold.forget([job for job in jobs if self._wheels.find(job) is None])
            raise FarmUnavailable(f"A build requirement of {staged.job.sdist} is done and yet not in the store.")
        return built

    def _resolve(self, staged: StagedSdist, constraints: Sequence[str], hold: Hold, *, anew: bool) -> tuple[Sdist, ...]:
        while staged.requirements:
            found = self._resolutions.resolve(staged.requirements, constraints, staged.target, anew=anew)
            if not isinstance(found, MetadataPending):
                return found.sdists
            missing = [self._job(staged, JobKind.METADATA, sdist) for sdist in found.sdists]
            hold.require(missing, tolerant=True)
        return ()

    def _planned(
        self, staged: StagedSdist, requirements: Sequence[PlannedRequirement], constraints: Sequence[str]
    ) -> PlannedBuild:
        plan = Plan(
            build_key=self._build_key(staged, requirements),
            requirements=tuple(requirements),
            constraints=tuple(constraints),
            fallback=staged.fallback.reason if staged.fallback else "",
        )
        return PlannedBuild(staged=staged, plan=plan)

    def _job(self, staged: StagedSdist, kind: JobKind, sdist: Sdist) -> Job:
        """The job of a build requirement, with the recipe that applies to it."""
        job = replace(staged.job, kind=kind, sdist=sdist, source_view=DEFAULT_VIEW, replica=0)
        return self._recipes.apply(job, staged.target.python_version)

    def _found(self, jobs: Sequence[Job]) -> list[tuple[Sdist, Manifest]]:
        return [(job.sdist, found) for job in jobs if (found := self._wheels.find(job)) is not None]

    def _build_key(self, staged: StagedSdist, requirements: Sequence[PlannedRequirement]) -> str:
        return build_key(
            sdist=staged.job.sdist.sha256,
            target=staged.target.revision,
            requirements=sorted(requirement.wheel.sha256 for requirement in requirements),
            asked=sorted(staged.asked or ()),
            recipe=staged.recipe.build_digest,
            replica=staged.job.replica,
            local=staged.job.is_local,
            sandbox=staged.target.sandbox,
            tag_policy=staged.target.tag_policy,
            **({"derived": staged.derived} if staged.derived else {}),
            **_facts_for(staged.target, self._facts),
        )


def _facts_for(target: Target, facts: Mapping[str, object]) -> dict[str, object]:
    """What decides the bytes of a target's wheels; what finishes them does so with portable ones alone."""
    return {name: fact for name, fact in facts.items() if name != "finisher" or target.tag_policy == "portable"}
