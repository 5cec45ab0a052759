"""The fleet in real Redis servers: who is listed, for how long, and what is told to those who ask in vain."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.values import make_target, make_worker_record
from tests.support.waiting import wait_until
from wheelfarm.errors import FarmUnavailable, NoWorker
from wheelfarm_services.fleet import Fleet
from wheelfarm_services.ledger import redis_client
from wheelfarm_services.store import DirectoryStore
from wheelfarm_services.targets import ServedTargets, define, queue_of

HERE, OTHER = make_target("host-cp311-00000001"), make_target("host-cp312-00000002")


@pytest.fixture
def fleet(redis_url: str) -> Iterator[Fleet]:
    with redis_client(redis_url) as redis:
        yield Fleet(redis)


def test_workers_are_listed_by_name_as_they_told_last(fleet: Fleet) -> None:
    first, second = make_worker_record("a", HERE), make_worker_record("b", HERE, OTHER)
    fleet.tell(second, for_s=60)
    fleet.tell(first, for_s=60)
    fleet.tell(replace(first, drains=True), for_s=60)
    assert [worker.record for worker in fleet.workers()] == [replace(first, drains=True), second]
    fleet.leave("a")
    assert [worker.record.name for worker in fleet.workers()] == ["b"]


def test_silent_worker_is_forgotten(fleet: Fleet) -> None:
    fleet.tell(make_worker_record(), for_s=0.05)
    assert wait_until(lambda: fleet.workers() == [])


def test_target_that_nobody_serves_is_told_with_those_that_are(fleet: Fleet, tmp_path: Path) -> None:
    targets = ServedTargets(DirectoryStore.create(tmp_path), fleet)
    with pytest.raises(NoWorker, match="Served: nothing, for no worker lives"):
        targets.require_served(HERE)
    fleet.tell(make_worker_record("a", HERE), for_s=60)
    targets.require_served(HERE)
    with pytest.raises(NoWorker, match=rf"{OTHER.name}.*Served: {HERE.name} \(revision eeeeeeeeeeee\)"):
        targets.require_served(OTHER)
    with pytest.raises(NoWorker) as other_toolchain:
        targets.require_served(replace(HERE, revision="f" * 64))
    assert "another toolchain" in other_toolchain.value.hint


def test_clients_define_no_target_of_a_fleet(fleet: Fleet, tmp_path: Path) -> None:
    store = DirectoryStore.create(tmp_path)
    targets = ServedTargets(store, fleet)
    fleet.tell(make_worker_record("a", HERE), for_s=60)
    define(store, HERE)
    targets.register(replace(HERE, python="/tmp/evil", queue="x"))
    assert targets.known(HERE.name, HERE.revision) == replace(HERE, queue=queue_of(HERE))
    with pytest.raises(NoWorker):
        targets.register(OTHER)


def test_redis_that_does_not_answer_is_told_as_such(tmp_path: Path) -> None:
    with redis_client(f"redis+socket://{tmp_path}/absent") as redis, pytest.raises(FarmUnavailable):
        Fleet(redis).workers()
