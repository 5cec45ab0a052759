"""Resolving where only builds can tell the metadata: the resolution goes on with what is known."""

import signal

import pytest

from tests.acceptance.conftest import PATIENCE_S, Home, wait_until
from tests.support.projects import Project


def test_resolution_goes_on_while_the_longest_build_tells_its_metadata(home: Home) -> None:
    home.upstream.add(
        Project(name="app", requires_dist=["slow", "quick"]),
        Project(name="slow", static=False, build_code="import time; time.sleep(3000)"),
        Project(name="quick", static=False, requires_dist=["deep"]),
        Project(name="deep", static=False),
    )

    command = home.start("install", "--venv", home.root / "env", "app", environment={"WHEELFARM_SLOTS": "2"})

    # what only quick's metadata names does not wait for the longest build
    assert wait_until(lambda: "deep-1.0-1-py3-none-any.whl" in home.wheel_names()), home.told()
    assert "slow-1.0-1-py3-none-any.whl" not in home.wheel_names()
    command.send_signal(signal.SIGINT)
    command.communicate(timeout=PATIENCE_S)
    assert command.returncode == 130


@pytest.mark.parametrize("words", [["./mine"], ["--retry", "library", "slow"]], ids=["tree", "retry"])
def test_what_is_surely_wanted_is_built_while_metadata_is_computed(home: Home, words: list[str]) -> None:
    home.upstream.add(
        Project(name="library"), Project(name="slow", static=False, build_code="import time; time.sleep(3000)")
    )
    Project(name="mine", requires_dist=["library", "slow"]).tree(home.root / "mine")
    command = home.start("build", *words, environment={"WHEELFARM_SLOTS": "2"})

    assert wait_until(lambda: "library-1.0-1-py3-none-any.whl" in home.wheel_names()), home.told()
    command.send_signal(signal.SIGINT)
    command.communicate(timeout=PATIENCE_S)

    assert command.returncode == 130
