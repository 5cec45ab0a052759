"""A farm that asks no upstream."""

import signal

from tests.acceptance.conftest import PATIENCE_S, Home
from tests.support.projects import Project


def test_offline_farm_builds_by_what_was_brought_before(home: Home) -> None:
    home.upstream.add(Project(name="app", requires_dist=["library"], build_requires=["tool"]), Project(name="library"))
    home.upstream.add(Project(name="tool"))
    assert home.run("build", "app").code == 0
    home.upstream.add(Project(name="app", version="2.0"))
    asked = len(home.upstream.requests)
    for path in home.store.glob("wheels/*/*"):
        path.unlink()

    done = home.run("install", "--offline", "--venv", home.root / "env", "--upgrade", "app")

    assert done.code == 0, done.err
    assert sorted(done.out.split()) == ["app==1.0", "library==1.0"], "a version that is not here must not be chosen"
    assert len(home.upstream.requests) == asked


def test_what_was_never_brought_is_told_offline(home: Home) -> None:
    done = home.run("install", "--offline", "--venv", home.root / "env", "app")
    assert done.code == 13
    assert "Nothing is known of app" in done.err
    assert home.upstream.requests == []


def test_offline_is_for_the_farm_of_this_machine(home: Home) -> None:
    done = home.run("install", "--offline", "app", environment={"WHEELFARM_URL": "http://farm.example"})
    assert done.code == 2
    assert "WHEELFARM_OFFLINE=1" in done.err


def test_farm_in_use_is_not_taken_for_one_by_other_rules(home: Home) -> None:
    home.upstream.add(Project(name="app", build_code="import time; time.sleep(3000)"), Project(name="library"))
    building = home.start("build", "app")
    assert home.builds()

    done = home.run("build", "--offline", "library")
    building.send_signal(signal.SIGINT)
    building.communicate(timeout=PATIENCE_S)

    assert done.code == 30
    assert "another WHEELFARM_OFFLINE" in done.err
