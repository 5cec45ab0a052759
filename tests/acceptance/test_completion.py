"""Shell completion: the scripts, and the words that they ask the command for."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent


def run(*words: str, **environment: str) -> str:
    found = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", **environment}
    return subprocess.run(words, env=found, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_script_is_printed_for_each_shell(shell: str) -> None:
    script = run("wheelfarm", "completion", shell)
    assert "_WHEELFARM_COMPLETE" in script
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True)


def test_shell_gets_verbs_and_options() -> None:
    asked = {"COMP_CWORD": "1", "_WHEELFARM_COMPLETE": "bash_complete"}
    assert run("wheelfarm", COMP_WORDS="wheelfarm ins", **asked).split() == ["plain,install"]
    asked["COMP_CWORD"] = "2"
    assert "plain,--keep-going" in run("wheelfarm", COMP_WORDS="wheelfarm build --k", **asked).split()


def test_bash_completes_a_verb() -> None:
    script = 'eval "$(wheelfarm completion bash)"; COMP_WORDS=(wheelfarm doc); COMP_CWORD=1; '
    script += '_wheelfarm_completion wheelfarm doc wheelfarm; echo "${COMPREPLY[@]}"'
    assert run("bash", "-c", script).split() == ["doctor"]
