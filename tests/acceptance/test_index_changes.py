"""`wheelfarm yank`, `unyank`, `quarantine`, `delete`: what the pages in the store say then, and what is built again."""

import json
from typing import Any

from tests.acceptance.conftest import Home
from tests.support.projects import Project


def files(home: Home) -> list[Any]:
    (page,) = home.store.glob("simple/*/app/index.json")
    return list(json.loads(page.read_bytes())["files"])


def test_what_was_built_is_yanked_quarantined_and_deleted_with_a_reason(home: Home) -> None:
    home.upstream.add(Project(name="app", uploaded="2024-05-01T10:00:00Z"))
    assert home.run("build", "app", "--out", home.root / "out").code == 0
    (file,) = files(home)
    assert file["upload-time"] == "2024-05-01T10:00:00.000000Z"

    done = home.run("yank", "App==1.0", "--reason", "it deletes files")
    assert done.code == 0, done.err
    assert done.out.startswith("yanked app-1.0-1-py3-none-any.whl on host-")
    assert [file["yanked"] for file in files(home)] == ["it deletes files"]
    assert home.run("unyank", "app==1.0", "--reason", "it was the disk").code == 0
    assert [file["yanked"] for file in files(home)] == [False]

    assert home.run("quarantine", "app", "--reason", "malware?").code == 0
    assert files(home) == []
    assert home.run("quarantine", "app", "--lift", "--reason", "none").code == 0
    assert len(files(home)) == 1

    done = home.run("delete", "--json", "app==1.0", "--reason", "broken")
    assert list(done.json["files"].values()) == [["app-1.0-1-py3-none-any.whl"]]
    assert (files(home), home.wheel_names()) == ([], [])
    assert home.run("build", "app", "--out", home.root / "again").code == 0
    assert [file["filename"] for file in files(home)] == ["app-1.0-2-py3-none-any.whl"]
    assert home.wheel_names() == ["app-1.0-2-py3-none-any.whl"]
    (state,) = home.store.glob("states/app.json")
    actions = [(event["action"], event["reason"]) for event in json.loads(state.read_bytes())["events"]]
    assert actions[-1] == ("delete", "broken")
    assert len(actions) == 5


def test_what_can_not_be_changed_is_told_with_the_reason(home: Home) -> None:
    refused = home.run("yank", "app==1.0", "--reason", "x")
    assert refused.code == 33
    assert "No index of the farm has a wheel of app 1.0." in refused.err
    assert "Write it as app==1.0" in home.run("yank", "app", "--reason", "x").err
    assert "--reason" in home.run("delete", "app==1.0").err
