from dataclasses import replace
from pathlib import Path

import pytest
from packaging.version import Version

from tests.support.values import make_built_wheel, make_job, make_sdist
from wheelfarm.job import Failure, FailureClass
from wheelfarm_services import layout
from wheelfarm_services.build_system import BuildSystem
from wheelfarm_services.failures import Failures
from wheelfarm_services.store import DirectoryStore
from wheelfarm_services.wheel_index import Plan, PlannedRequirement
from wheelfarm_workers.fallback import FirstTries, FirstTry, both_failed, era_fallback, newest_until

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
    assert tries.begin(JOB, LEGACY, plan(), replace(BROKEN, error="broken-wheel")) is None
    store.delete(layout.sdist_record(JOB.sdist.sha256))
    assert tries.begin(JOB, LEGACY, plan(), BROKEN) is None


@pytest.mark.parametrize(
    ("then", "python", "constraint"),
    [
        ("57.0", "3.11.2", "setuptools<=57.0"),
        ("12.0", "3.11.2", "setuptools<=44.1.1"),
        ("12.0", "3.8.2", "setuptools<=40.8.0"),
        ("57.0", "3.12.1", "setuptools<=66.1.0"),
        ("70.0", "3.12.1", "setuptools<=70.0"),
    ],
)
def test_other_try_has_the_newest_of_its_time_that_the_python_runs(then: str, python: str, constraint: str) -> None:
    found = era_fallback(FIRST, Version(then), python)
    assert found is not None
    assert found.constraint == constraint
    assert "It is broken" in found.reason
    assert "2015-03-04" in found.reason


def test_newest_until_a_time_is_final_listed_and_runs_on_the_python() -> None:
    def file(version: str, time: str, **more: object) -> dict[str, object]:
        return {"filename": f"setuptools-{version}.tar.gz", "upload-time": time, **more}

    files = [
        file("9.0", "2014-01-01T00:00:00Z"),
        file("10.0", "2015-01-01T00:00:00Z"),
        file("10.1b1", "2015-01-02T00:00:00Z"),
        file("10.2", "2015-01-03T00:00:00Z", yanked="broken"),
        file("10.3", "2015-01-04T00:00:00Z", **{"requires-python": "<3"}),
        file("10.4", ""),
        file("11.0", "2016-01-01T00:00:00Z"),
    ]

    assert newest_until(files, "2015-06-01T00:00:00Z", "3.11.2") == Version("10.0")
    assert newest_until(files, "2013-06-01T00:00:00Z", "3.11.2") == Version("0")
    assert newest_until([file("1.0", "")], "2015-06-01T00:00:00Z", "3.11.2") is None


def test_no_other_try_with_the_setuptools_that_failed() -> None:
    assert era_fallback(FIRST, Version("80.1"), "3.11.2") is None
    assert era_fallback(replace(FIRST, setuptools="60.0"), Version("57.0"), "3.12.1") is None
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
