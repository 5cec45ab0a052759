"""Resolving where only builds can tell the metadata: the resolution goes on with what is known."""

import json
import signal

import pytest

from tests.acceptance.conftest import Home, wait_until
from tests.support.projects import Project


def test_resolution_goes_on_while_the_longest_build_tells_its_metadata(home: Home) -> None:
    home.upstream.add(
        Project(name="app", requires_dist=["slow", "quick"]),
        Project(name="slow", static=False, build_code="import time; time.sleep(12)"),
        Project(name="quick", static=False, requires_dist=["deep"]),
        Project(name="deep", static=False),
    )

    done = home.run("install", "--venv", home.root / "env", "app", environment={"WHEELFARM_SLOTS": "2"})

    assert done.code == 0, done.err
    assert sorted(done.out.split()) == ["app==1.0", "deep==1.0", "quick==1.0", "slow==1.0"]
    manifests = [json.loads(path.read_bytes()) for path in home.store.glob("manifests/*.json")]
    built_at = {manifest["wheel"]["name"]: manifest["provenance"]["built_at"] for manifest in manifests}
    assert built_at["deep"] < built_at["slow"]  # what only quick's metadata names did not wait for the longest build


@pytest.mark.parametrize("words", [["./mine"], ["--retry", "library", "slow"]], ids=["tree", "retry"])
def test_what_is_surely_wanted_is_built_while_metadata_is_computed(home: Home, words: list[str]) -> None:
    home.upstream.add(
        Project(name="library"), Project(name="slow", static=False, build_code="import time; time.sleep(600)")
    )
    Project(name="mine", requires_dist=["library", "slow"]).tree(home.root / "mine")
    command = home.start("build", *words, environment={"WHEELFARM_SLOTS": "2"})

    assert wait_until(lambda: "library-1.0-1-py3-none-any.whl" in home.wheel_names(), 60), home.farm_log()
    command.send_signal(signal.SIGINT)
    command.communicate(timeout=60)

    assert command.returncode == 130
