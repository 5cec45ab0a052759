"""200 sdists through a farm whose workers, broker, services and store are killed and cut off at random meanwhile."""

import json
import os
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.acceptance.conftest import Home
from tests.support.chaos import Chaos, Outcome, chaos, outcome_of
from tests.support.fleet import separate_farm
from tests.support.projects import Project

PROJECTS = 200
WORKERS = ("w1", "w2", "w3")
LEASE_S = 3.0


def seed() -> int:
    """Of this run; WHEELFARM_TEST_SEED repeats one."""
    return int(os.environ.get("TEST_SEED") or random.SystemRandom().randrange(1 << 32))


def generated(count: int, rng: random.Random) -> list[Project]:
    """Projects each of which may need some of those before it to be built, as many do of a few."""
    names = [f"p{number:03d}" for number in range(count)]
    return [
        Project(
            name=name,
            build_requires=sorted(set(rng.choices(names[max(0, number - 40) : number], k=rng.choice([0, 0, 1, 2]))))
            if number
            else [],
            build_code=f"import time; time.sleep({rng.choice([0, 0, 0.1, 0.3])})",
        )
        for number, name in enumerate(names)
    ]


def run_through(home: Home, raging: Chaos, projects: Sequence[Project]) -> tuple[Outcome, list[dict[str, str]]]:
    """Have all projects built by one command while harm is done; what became of it, and the wheels that it got."""
    home.upstream.add(*projects)
    home.settings |= raging.farm.client
    raging.start()
    command = home.start("build", "--json", *(project.name for project in projects))
    out, err = raging.run_through(command, flush_at=len(projects) // 2, calm_at=len(projects))
    print(raging.told())
    assert command.returncode == 0, f"{err[-3000:]}\n{raging.farm.logs()[-20000:]}"
    raging.farm.end()
    outcome = outcome_of(raging.farm.root / "store", (raging.farm.parts[name].said for name in raging.workers))
    return outcome, json.loads(out)["wheels"]


def require_all(outcome: Outcome, wheels: Sequence[dict[str, str]], projects: Sequence[Project]) -> None:
    """Every wheel is there once, its bytes as recorded, and none was built to its end twice."""
    names = [f"{project.name}-1.0-1-py3-none-any.whl" for project in projects]
    assert sorted(Path(wheel["path"]).name for wheel in wheels) == names
    assert list(outcome.wheels) == names
    assert outcome.wrong == ()
    assert outcome.built_to_the_end_twice == []
    print(f"begun {sum(outcome.begun.values())}, done {sum(outcome.done.values())}, of {len(projects)}")


@pytest.mark.chaos
def test_every_wheel_is_built_once_whatever_dies(home: Home) -> None:
    root = home.root / "farm"
    root.mkdir()
    number = seed()
    projects = generated(PROJECTS, random.Random(number))
    settings = {"WHEELFARM_LEASE_S": str(LEASE_S), "WHEELFARM_DRAIN_S": "1"}
    with (
        separate_farm(root, home.upstream.url, **settings) as farm,
        chaos(farm, WORKERS, seed=number, every_s=(1.5, 4.0)) as raging,
    ):
        home.settings["WHEELFARM_SANDBOX"] = raging.farm.settings["WHEELFARM_SANDBOX"] = "none"
        outcome, wheels = run_through(home, raging, projects)
    require_all(outcome, wheels, projects)


@pytest.mark.chaos
def test_every_wheel_is_built_once_in_real_sandboxes(home: Home) -> None:
    root = home.root / "farm"
    root.mkdir()
    number = seed()
    projects = generated(20, random.Random(number))
    settings = {"WHEELFARM_LEASE_S": str(LEASE_S), "WHEELFARM_DRAIN_S": "1"}
    with (
        separate_farm(root, home.upstream.url, **settings) as farm,
        chaos(farm, WORKERS[:2], seed=number, every_s=(1.5, 4.0)) as raging,
    ):
        outcome, wheels = run_through(home, raging, projects)
    require_all(outcome, wheels, projects)
