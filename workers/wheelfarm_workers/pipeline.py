"""The pipeline: one job from its sdist to a published wheel, phase by phase.

stage > plan > environment > build in the sandbox > check > publish. A phase takes a complete value and returns the
next. A job whose build requirements are not there yet is suspended, not waited for: `Hold.require` raises Suspended,
and when the job is claimed again its earlier phases answer at once from the store and the worker's caches.
"""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from wheelfarm.errors import BuildFailed, FarmUnavailable
from wheelfarm.farm import Farm
from wheelfarm.job import Job, JobKind
from wheelfarm.wheel import BuiltWheel
from wheelfarm_services import layout
from wheelfarm_services.static_metadata import resolving_fields
from wheelfarm_services.store import Store
from wheelfarm_services.wheel_index import Manifest, WheelIndex
from wheelfarm_workers.build import BUILD_ENVIRONMENT, Builder
from wheelfarm_workers.driver import Driver
from wheelfarm_workers.hold import Hold
from wheelfarm_workers.inputs import Inputs
from wheelfarm_workers.plan import Planner
from wheelfarm_workers.publish import check_answer, publish
from wheelfarm_workers.sandbox import Limits, Sandbox

_ROUNDS = 4
"""How often a backend may ask for more before its build is given up."""


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
        self._cache = cache
        self._made_by = {"driver": driver.digest, "sandbox": sandbox.name}
        inputs = Inputs(store, farm, cache / "sdists")
        facts = {
            **self._made_by,
            "tag_policy": "native",
            "environment": BUILD_ENVIRONMENT,
            "config_settings": {},
            "patches": [],
            "source_date_epoch": "newest member of the sdist",
        }
        self._planner = Planner(store=store, wheels=wheels, farm=farm, inputs=inputs, cache=cache, facts=facts)
        self._builder = Builder(sandbox=sandbox, driver=driver, inputs=inputs, cache=cache, limits=limits)

    def run(self, job: Job, hold: Hold) -> dict[str, Any]:
        """Do a job; safe to repeat. Returns what the ledger keeps as its result.

        Raises Suspended, JobCancelled, or the reason why the job failed.
        """
        if job.kind is JobKind.METADATA:
            self._compute_metadata(job, hold)
            return {}
        return self._build_wheel(job, hold).to_json()

    def _compute_metadata(self, job: Job, hold: Hold) -> None:
        """Metadata that only the backend can tell is its wheel's, which is wanted anyway: no work is done twice."""
        key = layout.built_metadata(job.sdist.sha256, job.target_revision)
        if self._store.size(key) is None:
            wheel = self._wheel_of(replace(job, kind=JobKind.WHEEL), hold)
            metadata = self._store.get(layout.wheel_metadata(wheel.sha256, wheel.filename)) or b""
            self._store.put(key, resolving_fields(metadata))

    def _wheel_of(self, job: Job, hold: Hold) -> BuiltWheel:
        """The wheel that another job builds."""
        manifest = self._wheels.find(job)
        if manifest is None:
            hold.require([job])
            manifest = self._wheels.find(job)
        if manifest is None:
            raise FarmUnavailable(f"The wheel of {job.sdist} is done and yet not in the store.")
        return manifest.wheel

    def _build_wheel(self, job: Job, hold: Hold) -> BuiltWheel:
        if (manifest := self._wheels.find(job)) is not None:
            return self._enlisted(manifest)
        staged = self._planner.stage(job)
        for _ in range(_ROUNDS):
            planned = self._planner.plan(staged, hold)
            if (manifest := self._wheels.manifest(planned.plan.build_key)) is not None:
                self._wheels.record_plan(job, planned.plan)
                return self._enlisted(manifest)
            answer = self._builder.build(planned, hold)
            with answer.body:
                planned = self._planner.with_answer(planned, answer.requires)
                if answer.facts["outcome"] == "built":
                    with TemporaryDirectory(dir=self._cache, prefix="build-") as work:
                        checked = check_answer(planned.staged, answer, Path(work))
                        return publish(self._wheels, planned, checked, answer, Path(work), self._made_by)
            staged = planned.staged
        raise BuildFailed(f"The backend of {job.sdist} asked for other requirements {_ROUNDS} times over.")

    def _enlisted(self, manifest: Manifest) -> BuiltWheel:
        """A wheel that was committed before; a crash may have kept it from its index."""
        self._wheels.enlist(manifest)
        return manifest.wheel
