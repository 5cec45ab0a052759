"""Check and publish: the wheel verified, stamped with its build tag, and put where it is found."""

import hashlib
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from wheelfarm.job import Job
from wheelfarm.revision import MetadataRevision
from wheelfarm.target import Target, native_tags
from wheelfarm.wheel import BuiltWheel
from wheelfarm_services.wheel_index import Manifest, Plan, WheelIndex
from wheelfarm_workers.answer import Answer
from wheelfarm_workers.finishing import Fit
from wheelfarm_workers.plan import PlannedBuild, StagedSdist
from wheelfarm_workers.trial import Trial
from wheelfarm_workers.wheel_check import CheckedWheel, check_wheel
from wheelfarm_workers.wheel_stamp import stamp


def check_answer(staged: StagedSdist, answer: Answer, work: Path) -> CheckedWheel:
    """The wheel of an answer, copied into `work` and checked. Raises BadWheel."""
    path = work / "unstamped.whl"
    with answer.body, path.open("wb") as copy:
        shutil.copyfileobj(answer.body, copy, 1 << 20)
    return check_wheel(path, str(answer.facts["filename"]), staged.job.sdist, native_tags(staged.target))


def publish(
    wheels: WheelIndex,
    planned: PlannedBuild,
    checked: CheckedWheel,
    answer: Answer,
    work: Path,
    driver: str,
    fit: Fit | None,
    trial: Trial | None,
    revision: MetadataRevision,
) -> BuiltWheel:
    """Publish a checked wheel under a name of its own and return what stands: safe to repeat, and to be raced for.

    For the provenance, `driver` is that one's digest, `fit` what the wheel needs, `trial` what was seen of it, and
    `revision` that of the sdist's metadata.
    """
    job = planned.staged.job
    provenance = {
        "driver": driver,
        "fit": fit.to_json() if fit else None,
        "trial": trial.to_json() if trial else None,
        "sandbox": planned.staged.target.sandbox,
        "derived_root": planned.staged.derived,
        "source_date_epoch": answer.facts["source_date_epoch"],
        "built_at": int(time.time()),
        "duration_s": round(answer.duration_s, 3),
        "build_system": {**asdict(planned.staged.build_system), "asked": planned.staged.asked},
        "metadata": revision.to_json(),
        "source": {name: planned.staged.listed.get(name) for name in ("url", "upstream", "passed_over", "upload_time")},
        "recipe": planned.staged.recipe.to_json() if job.recipe else None,
    }
    return commit(wheels, job, planned.staged.target, planned.plan, checked, work, provenance)


def commit(
    wheels: WheelIndex,
    job: Job,
    target: Target,
    plan: Plan,
    checked: CheckedWheel,
    work: Path,
    provenance: Mapping[str, object],
) -> BuiltWheel:
    """The same for a wheel that is checked, however it came here; `provenance` comes beside job, plan and target."""
    plan = wheels.record_plan(job, plan)
    if (committed := wheels.manifest(plan.build_key)) is not None:
        wheels.enlist(committed)
        return committed.wheel
    stamped = checked.path.rename(work / checked.filename) if job.is_local else _stamped(wheels, job, checked, work)
    whole = {"job": job.to_json(), "plan": plan.to_json(), "target": target.to_json(), **provenance}
    manifest = _manifest(job, checked, stamped, whole)
    return wheels.publish(plan.build_key, manifest, stamped, checked.metadata).wheel


def _stamped(wheels: WheelIndex, job: Job, checked: CheckedWheel, work: Path) -> Path:
    """The wheel under a name of its own on its target's index. One of a local sdist keeps what its backend named it."""
    filename, build_tag = wheels.claim_name(job.target, checked.filename, checked.sha256)
    stamp(checked.path, build_tag, work / filename)
    return work / filename


def _manifest(job: Job, checked: CheckedWheel, stamped: Path, provenance: dict[str, object]) -> Manifest:
    with stamped.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    wheel = BuiltWheel(
        name=job.sdist.name,
        version=job.sdist.version,
        filename=stamped.name,
        sha256=sha256,
        size=stamped.stat().st_size,
    )
    return Manifest(
        wheel=wheel,
        unstamped_sha256=checked.sha256,
        metadata_sha256=hashlib.sha256(checked.metadata).hexdigest(),
        requires_python=checked.requires_python,
        target=job.target,
        provenance=provenance,
    )
