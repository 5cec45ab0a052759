"""Snippets for CI: valid to GitHub's and GitLab's schemas, and their script does what it says."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.fleet import free_port

CI = Path(__file__).parents[2] / "docs" / "ci"
SCRIPT = CI / "github" / "install.sh"


@pytest.mark.parametrize(
    ("schema", "name"), [("vendor.github-actions", "github/action.yml"), ("vendor.gitlab-ci", "gitlab.yml")]
)
def test_snippet_is_valid(schema: str, name: str) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, str(CI / name)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_both_run_the_same_script() -> None:
    gitlab = yaml.safe_load((CI / "gitlab.yml").read_text())[".wheelfarm"]["before_script"][1]
    assert gitlab.partition("<<'SCRIPT'\n")[2].partition("\nSCRIPT\n")[0] == SCRIPT.read_text().rstrip()


def test_inputs_reach_the_shell_as_variables_alone() -> None:
    """What is put into a script's text would be run."""
    action: Any = yaml.safe_load((CI / "github" / "action.yml").read_text())
    scripts = [step["run"] for step in action["runs"]["steps"] if "run" in step]
    assert len(scripts) == 2
    assert not [script for script in scripts if "${{" in script]
    assert all(told["description"].endswith(".") for told in action["inputs"].values())


def test_farm_that_is_away_is_told_and_nothing_installed(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    done = run_install(tmp_path, "fail", {"WHEELFARM_URL": url, "WHEELFARM_TOKEN": "secret-of-ci"})
    assert done.returncode == 30
    assert f"the farm at {url} can't be used" in done.stderr
    assert "refused" in done.stderr
    assert "secret-of-ci" not in done.stderr + done.stdout
    assert not (tmp_path / "venv").exists()


def run_install(folder: Path, fallback: str, environment: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
    """Run the script on a requirement of `app` in a folder."""
    (folder / "requirements.txt").write_text("app==1.0\n")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    command = ["sh", str(SCRIPT), str(folder / "requirements.txt"), str(folder / "venv"), fallback]
    given = {**os.environ, **environment, "PATH": path}
    return subprocess.run(command, env=given, capture_output=True, text=True, check=False, timeout=600)
