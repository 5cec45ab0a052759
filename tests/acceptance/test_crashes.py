"""Several commands on one farm, and the farm's parts killed under them: every wheel is built, and published once."""

import os
import re
import signal
from collections import Counter

from tests.acceptance.conftest import PATIENCE_S, Home, wait_until
from tests.support.projects import Project

SLOW = "import time; time.sleep(3)"
CHAIN = (
    Project(name="base", build_code=SLOW),
    Project(name="middle", build_requires=["base"], build_code=SLOW),
    Project(name="top", build_requires=["middle"], requires_dist=["base"], build_code=SLOW),
)
CHAINS_WHEELS = [f"{project.name}-1.0-1-py3-none-any.whl" for project in CHAIN]


def wait_for_build(home: Home, name: str) -> None:
    """Wait until that project of the chain, or by now one after it, is being built: those before are there, and a
    sandbox runs."""
    before = [project.name for project in CHAIN].index(name)
    assert wait_until(lambda: len(home.wheel_names()) >= before and home.sandboxes()), home.wheel_names()


def builds_begun(home: Home) -> Counter[str]:
    """How often the farm's log says of each project that a build of it began."""
    return Counter(re.findall(r"build begins.*sdist='(\w+)==", home.farm_log_at_rest()))


def test_command_worker_and_broker_killed_in_turn_cost_no_wheel(home: Home) -> None:
    home.upstream.add(*CHAIN)
    first = home.start("install", "--venv", home.root / "env", "top")
    wait_for_build(home, "base")
    first.send_signal(signal.SIGKILL)
    first.communicate(timeout=PATIENCE_S)
    home.come_to_rest()

    second = home.start("install", "--venv", home.root / "env", "top")
    wait_for_build(home, "base")
    os.kill(home.pid_of("wheelfarm_workers host"), signal.SIGKILL)
    wait_for_build(home, "middle")
    os.kill(home.pid_of("valkey.sock"), signal.SIGKILL)
    wait_for_build(home, "top")
    os.kill(home.pid_of("wheelfarm_services"), signal.SIGKILL)
    out, err = second.communicate(timeout=PATIENCE_S)

    assert second.returncode == 0, err + home.farm_log()
    assert sorted(out.split()) == ["base==1.0", "top==1.0"]
    assert home.wheel_names() == CHAINS_WHEELS
    home.come_to_rest()
    page = home.flat_pages()[0].read_text()
    assert [page.count(f">{name}<") for name in CHAINS_WHEELS] == [1, 1, 1]


def test_command_goes_on_when_the_one_that_started_the_farm_is_killed(home: Home) -> None:
    home.upstream.add(*CHAIN)
    first = home.start("install", "--venv", home.root / "one", "middle")
    wait_for_build(home, "base")
    second = home.start("install", "--venv", home.root / "two", "top")

    wait_for_build(home, "middle")
    first.send_signal(signal.SIGKILL)
    first.communicate(timeout=PATIENCE_S)
    out, err = second.communicate(timeout=PATIENCE_S)

    assert second.returncode == 0, err + home.farm_log()
    assert sorted(out.split()) == ["base==1.0", "top==1.0"]
    assert home.wheel_names() == CHAINS_WHEELS


def test_commands_of_overlapping_sets_build_what_they_share_once(home: Home) -> None:
    home.upstream.add(*CHAIN, Project(name="other", build_requires=["base"], build_code=SLOW))
    processes = [home.start("install", "--venv", home.root / name, name) for name in ("top", "middle", "other")]

    ended = [process.communicate(timeout=PATIENCE_S) for process in processes]

    assert [process.returncode for process in processes] == [0, 0, 0], ended
    assert builds_begun(home) == {"base": 1, "middle": 1, "top": 1, "other": 1}
