"""The script of the CI snippets, with a farm and without one."""

import subprocess
from pathlib import Path

from tests.acceptance.conftest import Home
from tests.deployment.test_ci_snippets import run_install
from tests.support.fleet import free_port, separate_farm
from tests.support.projects import Project


def test_wheels_come_from_the_farm(home: Home, tmp_path: Path) -> None:
    home.upstream.add(Project(name="app"))
    folder = home.root / "farm"
    folder.mkdir()
    with separate_farm(folder, home.upstream.url) as farm:
        farm.start_broker()
        farm.start_services()
        farm.serve("w1", "--slots", "1")
        home.settings |= farm.client
        done = run_install(tmp_path, "fail", home.environment)
    assert done.returncode == 0, done.stderr
    assert "can't be used" not in done.stderr
    assert _imports(tmp_path)


def test_without_the_farm_the_runner_builds_where_that_is_asked_for(home: Home, tmp_path: Path) -> None:
    home.upstream.add(Project(name="app"))
    away = {"WHEELFARM_URL": f"http://127.0.0.1:{free_port()}", "WHEELFARM_TOKEN": "x"}
    done = run_install(tmp_path, "build", {**home.environment, **away})
    assert done.returncode == 0, done.stderr
    assert "are built here instead, from source" in done.stderr
    assert _imports(tmp_path)


def _imports(folder: Path) -> bool:
    return subprocess.run([folder / "venv" / "bin" / "python", "-c", "import app"], check=False).returncode == 0
