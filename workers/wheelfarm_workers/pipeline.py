"""The pipeline: one job from its sdist to a published wheel, phase by phase.

stage > plan > environment > build in the sandbox > check > test > publish. A phase takes a complete value and returns
the next. A job whose build requirements are not there yet is suspended, not waited for: `Hold.require` raises
Suspended, and when the job is claimed again its earlier phases answer at once from the store and the worker's caches.
"""

from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from wheelfarm.errors import (
    BadWheel,
    BuildFailed,
    BuildLimitExceeded,
    BuildTimeout,
    FarmUnavailable,
    JobCancelled,
    WheelfarmError,
    error_from_json,
)
from wheelfarm.farm import Farm
from wheelfarm.job import Failure, FailureClass, Job, JobKind
from wheelfarm.revision import MetadataRevision
from wheelfarm.wheel import BuiltWheel
from wheelfarm_services import layout
from wheelfarm_services.failures import Failures
from wheelfarm_services.local_sources import LocalSources
from wheelfarm_services.metrics import phase
from wheelfarm_services.recipe_book import RecipeBook
from wheelfarm_services.sdist_metadata import SdistMetadata
from wheelfarm_services.static_metadata import is_about, resolving_fields, static_metadata
from wheelfarm_services.store import Store
from wheelfarm_services.wheel_index import Manifest, Plan, WheelIndex
from wheelfarm_workers.build import BUILD_ENVIRONMENT, Builder
from wheelfarm_workers.driver import Driver
from wheelfarm_workers.failure import STANDS_S, JobFailed, as_remembered, failure_of
from wheelfarm_workers.fallback import FirstTries, FirstTry, both_failed
from wheelfarm_workers.finishing import Finisher
from wheelfarm_workers.grounds import Grounds
from wheelfarm_workers.hold import Hold
from wheelfarm_workers.inputs import Inputs
from wheelfarm_workers.plan import PlannedBuild, Planner, StagedSdist
from wheelfarm_workers.prebuilt import PrebuiltWheels
from wheelfarm_workers.publish import check_answer, publish
from wheelfarm_workers.sandbox import Limits
from wheelfarm_workers.sdist_making import SdistMaker
from wheelfarm_workers.targets import TargetBook
from wheelfarm_workers.trial import Trials

_ROUNDS = 4
"""How often a backend may ask for more before its build is given up."""

_LARGE_SDIST_BYTES = 4 << 20
_METADATA_BYTES = 4 << 20


class FailedBuild(Exception):
    """A planned build was made and failed."""

    def __init__(self, plan: Plan, failure: Failure) -> None:
        super().__init__(failure.message)
        self.plan = plan
        self.failure = failure


class Pipeline:
    """Runs jobs on one worker. `cache` may be shared with other workers of the machine, `work` is its own."""

    def __init__(
        self,
        *,
        store: Store,
        wheels: WheelIndex,
        farm: Farm,
        grounds: Grounds,
        finisher: Finisher,
        trial: Driver,
        driver: Driver,
        targets: TargetBook,
        cache: Path,
        work: Path,
        limits: Limits,
        cores: int,
    ) -> None:
        self._store = store
        self._wheels = wheels
        self._metadata = SdistMetadata(store)
        self._failures = Failures(store)
        self._first_tries = FirstTries(store)
        self._work = work
        self._driver_digest = driver.digest
        self._finisher = finisher
        self._inputs = inputs = Inputs(store, farm, cache / "sdists", work)
        facts = {
            "driver": driver.digest,
            "finisher": finisher.digest,
            "environment": BUILD_ENVIRONMENT,
            "source_date_epoch": "newest member of the sdist",
        }
        self._planner = Planner(
            store=store,
            wheels=wheels,
            recipes=RecipeBook(store),
            farm=farm,
            inputs=inputs,
            targets=targets,
            cache=cache,
            facts=facts,
            grounds=grounds,
        )
        self._builder = Builder(
            grounds=grounds, driver=driver, inputs=inputs, cache=cache, work=work, limits=limits, cores=cores
        )
        self._trials = Trials(store=store, grounds=grounds, builder=self._builder, tools=trial)
        self._prebuilt = PrebuiltWheels(store=store, wheels=wheels, inputs=inputs, targets=targets, work=work)
        self._sdists = SdistMaker(planner=self._planner, builder=self._builder, sources=LocalSources(store), work=work)

    def run(self, job: Job, hold: Hold) -> dict[str, Any]:
        """Do a job; safe to repeat. Returns what the ledger keeps as its result.

        Raises Suspended, JobCancelled, or the reason why the job failed.
        """
        match job.kind:
            case JobKind.METADATA:
                self._compute_metadata(job, hold)
                return {}
            case JobKind.SDIST:
                return asdict(self._sdists.make(job, hold))
            case JobKind.WHEEL:
                return self._build_wheel(job, hold).to_json()

    def _compute_metadata(self, job: Job, hold: Hold) -> None:
        """Metadata that only the backend can tell is its wheel's, which is wanted sooner or later, so no work is done
        twice; but the build of a large sdist is not waited for, unless somebody wants the wheel by now."""
        if self._metadata.told_first(job.sdist, job.target_revision) is None:
            wheel = replace(job, kind=JobKind.WHEEL)
            built = self._wheels.find(wheel) is not None or hold.is_wanted(wheel)
            told = None if built else self._prepared(job, hold)
            if told is None:
                told = self._told_by(self._wheel_of(wheel, hold))
            self._metadata.keep_computed(job.sdist, job.target_revision, told)

    def _prepared(self, job: Job, hold: Hold) -> bytes | None:
        """What the backend of a large sdist tells without a build (PEP 517's `prepare_metadata_for_build_wheel`); None
        where it has no such hook or it fails: then the build tells, or why there is none."""
        if self._inputs.sdist(job).stat().st_size < _LARGE_SDIST_BYTES:
            return None
        staged = self._planner.stage(job)
        for _ in range(_ROUNDS):
            planned = self._planner.plan(staged, hold)
            try:
                answer = self._builder.build(planned, hold)
            except (BuildFailed, BadWheel, BuildTimeout, BuildLimitExceeded):
                return None
            with answer.body:
                staged = self._planner.with_answer(planned, answer.requires).staged
                if answer.facts["outcome"] != "missing":
                    told = answer.body.read(_METADATA_BYTES)
                    return resolving_fields(told) if is_about(job.sdist, told) else None
        return None

    def _wheel_of(self, job: Job, hold: Hold) -> BuiltWheel:
        """The wheel that another job builds."""
        manifest = self._wheels.find(job)
        if manifest is None:
            hold.require([job])
            manifest = self._wheels.find(job)
        if manifest is None:
            hold.forget([job])
            raise FarmUnavailable(f"The wheel of {job.sdist} is done and yet not in the store.")
        return manifest.wheel

    def _build_wheel(self, job: Job, hold: Hold) -> BuiltWheel:
        if (manifest := self._wheels.find(job)) is not None:
            return self._enlisted(manifest)
        if job.sdist.is_prebuilt:
            return self._prebuilt.publish(job)
        staged = self._planner.stage(job)
        self._builder.prepare(staged.target)
        first = self._first_tries.find(job, hold.forced_at)
        if first is not None:
            hold.log(f"wheelfarm: a first try ended so:\n{first.failure.log_tail}\n".encode())
        else:
            try:
                return self._build(staged, hold, recall=True)
            except FailedBuild as failed:
                first = self._first_tries.begin(job, staged.build_system, failed.plan, failed.failure)
                if first is None:
                    raise self._remembered(staged, failed.plan.build_key, failed.failure, hold) from None
        return self._build_again(staged, first, hold)

    def _build(self, staged: StagedSdist, hold: Hold, *, recall: bool = False) -> BuiltWheel:
        """Plan and build. Raises FailedBuild when the build failed; with `recall` JobFailed when it did so before."""
        for _ in range(_ROUNDS):
            planned = self._planner.plan(staged, hold)
            if (manifest := self._wheels.manifest(planned.plan.build_key)) is not None:
                self._wheels.record_plan(staged.job, planned.plan)
                return self._enlisted(manifest)
            if recall:
                self._recall(planned, hold)
            try:
                built, staged = self._run_backend(planned, hold)
            except (BuildFailed, BadWheel, BuildTimeout, BuildLimitExceeded) as error:
                rooted = staged.target.name if staged.target.root else ""
                failure = failure_of(error, hold.whole_log(), staged.job.sdist.name, rooted=rooted)
                raise FailedBuild(planned.plan, failure) from error
            if built is not None:
                return built
        raise BuildFailed(f"The backend of {staged.job.sdist} asked for other requirements {_ROUNDS} times over.")

    def _run_backend(self, planned: PlannedBuild, hold: Hold) -> tuple[BuiltWheel | None, StagedSdist]:
        """The published wheel, or None where the backend asked for more; and what is now known of the sdist."""
        answer = self._builder.build(planned, hold)
        with answer.body:
            planned = self._planner.with_answer(planned, answer.requires)
            if answer.facts["outcome"] != "built":
                return None, planned.staged
            with TemporaryDirectory(dir=self._work, prefix="build-") as work:
                with phase("check"):
                    checked = check_answer(planned.staged, answer, Path(work))
                with phase("finish"):
                    checked, fit = self._finisher.finish(
                        planned.staged, checked, hold, Path(work), source_date_epoch=answer.facts["source_date_epoch"]
                    )
                with phase("test"):
                    trial = self._trials.judge(planned, checked, hold)
                revision = self._settle(planned.staged, resolving_fields(checked.metadata))
                with phase("publish"):
                    wheel = publish(
                        self._wheels, planned, checked, answer, Path(work), self._driver_digest, fit, trial, revision
                    )
                self._settle(planned.staged, self._told_by(wheel))  # another may have been first
                return wheel, planned.staged

    def _settle(self, staged: StagedSdist, told: bytes) -> MetadataRevision:
        """Have a wheel's metadata believed from now on, before anybody can find the wheel. Replicas change nothing."""
        job = staged.job
        if job.replica:
            return MetadataRevision()
        stated = static_metadata(job.sdist, staged.head)
        return self._metadata.settle(job.sdist, job.target_revision, stated=stated, built=told)

    def _told_by(self, wheel: BuiltWheel) -> bytes:
        """What a published wheel tells resolvers."""
        return resolving_fields(self._store.get(layout.wheel_metadata(wheel.sha256, wheel.filename)) or b"")

    def _build_again(self, staged: StagedSdist, first: FirstTry, hold: Hold) -> BuiltWheel:
        """The other try, with the setuptools of the sdist's time. What keeps it from being made is its failure, too."""
        job = staged.job
        fallback = self._planner.fallback(staged, first)
        second = ""
        if fallback is not None:
            hold.log(f"wheelfarm: {fallback.reason}\n".encode())
            try:
                built = self._build(replace(staged, fallback=fallback), hold)
                self._first_tries.end(job)
                return built
            except (FailedBuild, JobFailed, WheelfarmError) as error:
                if _passing(error):
                    raise
                second = str(error)
        failure = both_failed(first, fallback, second)
        self._first_tries.end(job)
        raise self._remembered(staged, first.build_key, failure, hold)

    def _recall(self, planned: PlannedBuild, hold: Hold) -> None:
        """Raise JobFailed where this very build has failed before, and still would as far as anybody knows."""
        staged = planned.staged
        found = self._failures.find(staged.job.request_key)
        if found is None or found.build_key != planned.plan.build_key or found.failed_at < hold.forced_at:
            return
        limits = asdict(self._builder.limits(staged, hold.attempt))
        more = any(limits[name] > value for name, value in found.limits.items())
        if not more or found.failure.failure_class is not FailureClass.LIMIT:
            raise JobFailed(as_remembered(found.failure, found.failed_at))

    def _remembered(self, staged: StagedSdist, build_key: str, failure: Failure, hold: Hold) -> JobFailed:
        """The failure of a build, once it is remembered for as long as its class says."""
        if for_s := STANDS_S.get(failure.failure_class):
            limits = asdict(self._builder.limits(staged, hold.attempt))
            self._failures.remember(staged.job.request_key, failure, build_key=build_key, limits=limits, for_s=for_s)
        return JobFailed(failure)

    def _enlisted(self, manifest: Manifest) -> BuiltWheel:
        """A wheel that was committed before; a crash may have kept it from its index."""
        self._wheels.enlist(manifest)
        return manifest.wheel


def _passing(error: Exception) -> bool:
    """Whether an error says nothing of the build: it was cancelled, or the farm failed it or what it needs."""
    told = error_from_json(error.failure.to_json()) if isinstance(error, JobFailed) else error
    return isinstance(told, FarmUnavailable | JobCancelled)
