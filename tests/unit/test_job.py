import json
from dataclasses import asdict, replace
from typing import Any

import pytest

from tests.support.values import make_job, make_sdist
from wheelfarm.errors import InputError
from wheelfarm.job import Failure, FailureClass, Job, JobKind, JobState, JobStatus, Sdist

JOB = Job(
    kind=JobKind.WHEEL,
    sdist=Sdist(name="app", version="1.0", filename="app-1.0.tar.gz", sha256="ab" * 32),
    target="host-cp311-0badcafe",
    target_revision="cd" * 32,
    queue="host",
)


def test_keys_are_those_that_stores_out_there_hold() -> None:
    assert JOB.request_key == "746ad376e9134460eadb4d619588d1651f06dada962ff2356471fb2c7e6cebdb"
    assert JOB.id == "f756e76fbc9fa6ffb0018e9134b3cadb290b8d5234643b657748a72d60b02706"
    assert replace(JOB, kind=JobKind.METADATA).id == "9dd98a5ea8fc6072f9790c670bcb8dc404d0449e6ff95335d367d486589bb19e"
    assert replace(JOB, replica=1).id == "68f540097ad9ffda68312b289bec69b80d8912005da677f0f1f0ea9d2cef4085"


@pytest.mark.parametrize(
    "other",
    [
        replace(JOB, sdist=replace(JOB.sdist, sha256="ba" * 32)),
        replace(JOB, target="host-cp312-0badcafe"),
        replace(JOB, target_revision="dc" * 32),
        replace(JOB, recipe="ef" * 32),
        replace(JOB, source_view="internal"),
    ],
)
def test_whatever_decides_the_wheel_changes_the_request_key_and_the_id(other: Job) -> None:
    assert other.request_key != JOB.request_key
    assert other.id != JOB.id


def test_kind_and_replica_change_the_id_alone() -> None:
    for other in (replace(JOB, kind=JobKind.METADATA), replace(JOB, replica=1)):
        assert other.request_key == JOB.request_key
        assert other.id != JOB.id


def test_queue_is_where_a_job_runs_and_no_part_of_what_it_is() -> None:
    assert replace(JOB, queue="elsewhere").id == JOB.id


def test_job_survives_its_way_over_the_wire() -> None:
    job = replace(JOB, recipe="ef" * 32, replica=3)
    assert Job.from_json(json.loads(json.dumps(job.to_json()))) == job


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("kind", "image"),
        ("kind", None),
        ("kind", ["wheel"]),
        ("sdist", "app"),
        ("sdist", None),
        ("target", "../host"),
        ("target", ""),
        ("target_revision", "cd" * 31),
        ("queue", "a queue"),
        ("recipe", "x"),
        ("source_view", "Default"),
        ("replica", -1),
        ("replica", 1000),
        ("replica", "1"),
        ("replica", True),
    ],
)
def test_malformed_job_is_refused_by_its_field(field: str, value: Any) -> None:
    with pytest.raises(InputError, match=field):
        Job.from_json({**JOB.to_json(), field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "App"),
        ("name", "a--b"),
        ("name", "-app"),
        ("name", "a/b"),
        ("name", "app\n"),
        ("version", ""),
        ("version", "1.0/2"),
        ("version", "1" * 201),
        ("filename", "app-1.0.tar.bz2"),
        ("filename", "app-1.0.tar.bz2"),
        ("filename", "../app-1.0.tar.gz"),
        ("filename", "app-1.0.tar.gz\n"),
        ("filename", "a p p-1.0.zip"),
        ("sha256", "AB" * 32),
        ("sha256", "ab" * 31),
        ("sha256", 7),
    ],
)
def test_malformed_sdist_is_refused_by_its_field(field: str, value: Any) -> None:
    with pytest.raises(InputError, match=field):
        Sdist.from_json({**asdict(make_sdist()), field: value})


@pytest.mark.parametrize("version", ["1!2.0", "1.0+cc.1", "1.0a1.post2.dev3"])
def test_every_form_of_version_is_accepted(version: str) -> None:
    sdist = make_sdist(version=version)
    assert Sdist.from_json(asdict(sdist)) == sdist


@pytest.mark.parametrize("value", [None, 1, "app", ["app"]])
def test_sdist_that_is_no_object_is_refused(value: Any) -> None:
    with pytest.raises(InputError, match="sdist"):
        Sdist.from_json(value)


def test_status_survives_its_way_over_the_wire() -> None:
    failure = Failure(failure_class=FailureClass.DEPENDENCY, error="build-failed", message="m", cause="c", log_tail="l")
    status = JobStatus(
        id=make_job().id,
        kind=JobKind.METADATA,
        sdist=make_sdist(),
        state=JobState.FAILED,
        attempt=2,
        queued_at=1.5,
        waits_for=("a", "b"),
        failure=failure,
    )
    assert JobStatus.from_json(json.loads(json.dumps(status.to_json()))) == status


def test_only_done_failed_and_cancelled_are_final() -> None:
    assert {state for state in JobState if state.final} == {JobState.DONE, JobState.FAILED, JobState.CANCELLED}
