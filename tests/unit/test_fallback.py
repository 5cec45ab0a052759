from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.values import make_built_wheel, make_job, make_sdist
from wheelfarm.job import Failure, FailureClass
from wheelfarm_services import layout
from wheelfarm_services.build_system import BuildSystem
from wheelfarm_services.failures import Failures
from wheelfarm_services.store import DirectoryStore
from wheelfarm_services.wheel_index import Plan, PlannedRequirement
from wheelfarm_workers.fallback import FirstTries, FirstTry, both_failed, era_fallback

JOB = make_job()
BROKEN = Failure(failure_class=FailureClass.BUILD, error="build-failed", message="It is broken.")
LEGACY = BuildSystem(requires=("setuptools",), backend="setuptools.build_meta:__legacy__", backend_path=())
FIRST = FirstTry(failure=BROKEN, build_key="k", setuptools="80.1", uploaded="2015-03-04T05:06:07Z", failed_at=100.0)


def plan(version: str = "80.1", name: str = "setuptools") -> Plan:
    wheel = make_built_wheel(name, version)
    return Plan(build_key="k", requirements=(PlannedRequirement(sdist=make_sdist(name, version), wheel=wheel),))


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    made = DirectoryStore.create(tmp_path / "store")
    made.put(layout.sdist_record(JOB.sdist.sha256), b'{"upload_time": "2015-03-04T05:06:07Z"}')
    return made


def test_first_try_is_kept_until_the_other_one_ends(store: DirectoryStore) -> None:
    tries = FirstTries(store, clock=lambda: 100.0)

    assert tries.begin(JOB, LEGACY, plan(), BROKEN) == FIRST
    assert tries.find(JOB, 0.0) == FIRST
    assert tries.find(JOB, 101.0) is None  # somebody wanted failures forgotten
    tries.end(JOB)
    assert tries.find(JOB, 0.0) is None


def test_no_other_try_where_setuptools_is_not_to_blame(store: DirectoryStore) -> None:
    tries = FirstTries(store)
    missing = replace(BROKEN, failure_class=FailureClass.MISSING)

    assert tries.begin(JOB, LEGACY, plan(name="flit-core"), BROKEN) is None
    assert tries.begin(JOB, replace(LEGACY, backend="flit_core.buildapi"), plan(), BROKEN) is None
    assert tries.begin(JOB, LEGACY, plan(), missing) is None
    store.delete(layout.sdist_record(JOB.sdist.sha256))
    assert tries.begin(JOB, LEGACY, plan(), BROKEN) is None


@pytest.mark.parametrize(
    ("then", "python", "constraint"),
    [
        ("57.0", "3.11.2", "setuptools<=57.0"),
        ("12.0", "3.11.2", "setuptools<=40.8.0"),
        ("57.0", "3.12.1", "setuptools<=66.1.0"),
        ("70.0", "3.12.1", "setuptools<=70.0"),
    ],
)
def test_other_try_has_the_newest_of_its_time_that_the_python_runs(then: str, python: str, constraint: str) -> None:
    found = era_fallback(FIRST, then, python)
    assert found is not None
    assert found.constraint == constraint
    assert "It is broken" in found.reason
    assert "2015-03-04" in found.reason


def test_no_other_try_with_the_setuptools_that_failed() -> None:
    assert era_fallback(FIRST, "80.1", "3.11.2") is None
    assert era_fallback(replace(FIRST, setuptools="60.0"), "57.0", "3.12.1") is None
    assert both_failed(FIRST, None, "") is BROKEN


def test_failure_is_remembered_for_its_time(store: DirectoryStore) -> None:
    now = [1000.0]
    failures = Failures(store, clock=lambda: now[0])
    failures.remember("r", BROKEN, build_key="k", limits={"wall_s": 1.0}, for_s=50.0)

    found = failures.find("r")
    assert found is not None
    assert (found.failure, found.build_key, found.limits, found.failed_at) == (BROKEN, "k", {"wall_s": 1.0}, 1000.0)
    now[0] = 1051.0
    assert failures.find("r") is None
    assert failures.find("other") is None
