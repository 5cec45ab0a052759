"""A copy of the store of a running farm is all that a new one needs."""

import shutil
from contextlib import suppress

from tests.acceptance.conftest import Home
from tests.support.fleet import SeparateFarm, separate_farm
from tests.support.projects import Project
from wheelfarm_services.ledger import redis_client


def test_farm_is_restored_from_a_copy_of_its_store_alone(home: Home) -> None:
    home.upstream.add(Project(name="helper"), Project(name="app", build_requires=["helper"]))
    first, second = home.root / "first", home.root / "second"
    first.mkdir()
    second.mkdir()
    with separate_farm(first, home.upstream.url) as farm:
        _start(home, farm)
        built = home.run("build", "app", "--json")
        assert built.code == 0, built.err + farm.logs()
        shutil.copytree(first / "store", second / "store", copy_function=_copy)  # while everything runs

    shutil.rmtree(home.root / "cache" / "wheelfarm", ignore_errors=True)
    asked = len(home.upstream.requests)
    with separate_farm(second, home.upstream.url, WHEELFARM_OFFLINE="1") as farm:
        _start(home, farm)
        again = home.run("build", "app", "--json")
        assert again.code == 0, again.err + farm.logs()
        with redis_client(farm.broker) as redis:
            assert not redis.hexists("{wheelfarm}:count", "done"), "nothing is built again"
            assert redis.keys("{wheelfarm}:j:*") == []
    sha256s = [[wheel["sha256"] for wheel in done.json["wheels"]] for done in (built, again)]
    assert sha256s[0] == sha256s[1]
    assert len(sha256s[0]) == 1
    assert len(home.upstream.requests) == asked


def _copy(source: str, target: str) -> None:
    """Copy a file, or what is there no more when its turn comes leave out, as rsync does."""
    with suppress(FileNotFoundError):
        shutil.copy2(source, target)


def _start(home: Home, farm: SeparateFarm) -> None:
    farm.start_broker()
    farm.start_services()
    farm.serve("w1", "--slots", "1")
    home.settings |= farm.client
