"""Resolving where only builds can tell the metadata: the resolution goes on with what is known."""

import json

from tests.acceptance.conftest import Home
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
