"""`wheelfarm gc` through the command: what it tells, and that what was built still serves."""

import os
import time

from tests.acceptance.conftest import Home
from tests.support.projects import Project, backend_project

LONG_AGO = time.time() - 100 * 86400


def test_garbage_goes_and_everything_listed_can_be_installed_and_explained(home: Home) -> None:
    home.upstream.add(
        Project(name="app", build_requires=["tinybackend"], backend="tinybackend"),
        Project(name="broken", build_code="raise SystemExit(1)"),
        backend_project(),
    )
    assert home.run("install", "--venv", home.root / "env", "app").code == 0
    assert home.run("build", "broken", "--out", home.root / "out").code != 0
    home.come_to_rest()  # else what was just listed may be gone, or written anew
    for path in home.store.rglob("*"):
        if path.is_file() and path.name[0] != ".":
            os.utime(path, (LONG_AGO, LONG_AGO))
    wheels = home.wheel_names()
    why = home.run("why", "--json", "app").json

    told = home.run("gc", "--dry-run", "--json").json
    assert told["removed"]["logs"]["objects"] > 0
    assert home.run("gc", "--json").json["removed"] == told["removed"]
    assert home.run("gc").out == "nothing to remove\n"

    assert home.wheel_names() == wheels
    after = home.run("why", "--json", "app").json
    assert after["wheel"] == why["wheel"]
    assert after["origins"] == why["origins"]
    again = home.run(
        "install", "--venv", home.root / "other", "app", environment={"WHEELFARM_INDEX": "http://127.0.0.1:9"}
    )
    assert again.code != 0  # the remembered resolution went, so the index is asked
    assert home.run("install", "--venv", home.root / "other", "app").code == 0
    assert home.wheel_names() == wheels
