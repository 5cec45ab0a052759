"""Prebuilt wheels: a job whose source is a wheel of upstream that policy names is checked and published, not built."""

import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from packaging.tags import Tag, compatible_tags, cpython_tags, platform_tags

from wheelfarm.job import Job
from wheelfarm.target import Target, native_tags
from wheelfarm.wheel import BuiltWheel
from wheelfarm_services.policy_book import PolicyBook
from wheelfarm_services.store import Store
from wheelfarm_services.wheel_index import Plan, WheelIndex, build_key
from wheelfarm_workers.inputs import Inputs
from wheelfarm_workers.publish import commit
from wheelfarm_workers.targets import TargetBook
from wheelfarm_workers.wheel_check import check_wheel


class PrebuiltWheels:
    """Publishes what the policy excepts."""

    def __init__(self, *, store: Store, wheels: WheelIndex, inputs: Inputs, targets: TargetBook, work: Path) -> None:
        self._policies = PolicyBook(store)
        self._wheels = wheels
        self._inputs = inputs
        self._targets = targets
        self._work = work

    def publish(self, job: Job) -> BuiltWheel:
        """The wheel of a job as published: upstream's but for its build tag.

        Raises PolicyRefused unless an exception for it is in force, BadWheel when it is not for the job's target or not
        what it says.
        """
        exception = self._policies.policy.prebuilt_for(job.sdist, self._policies.now())
        target = self._targets.target(job)
        checked = check_wheel(self._inputs.sdist(job), exception.filename, job.sdist, acceptable_tags(target))
        plan = Plan(build_key=build_key(prebuilt=exception.sha256, target=target.revision), requirements=())
        provenance = {"prebuilt": exception.to_json(), "built_at": int(time.time())}
        with TemporaryDirectory(dir=self._work, prefix="prebuilt-") as work:
            return commit(self._wheels, job, target, plan, checked, Path(work), provenance)


def acceptable_tags(target: Target) -> frozenset[Tag]:
    """The tags that a prebuilt wheel may carry: a built one's, and those of this machine's libc, where the target's
    interpreter runs (PEP 600, 656)."""
    if target.machine != os.uname().machine:
        return native_tags(target)
    platforms = [*platform_tags()]
    major, minor = (int(part) for part in target.python_version.split(".")[:2])
    return native_tags(target) | {
        *cpython_tags((major, minor), abis=[target.abi], platforms=platforms),
        *compatible_tags((major, minor), interpreter=f"cp{major}{minor}", platforms=platforms),
    }
