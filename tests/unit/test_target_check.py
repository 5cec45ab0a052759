"""What is said of root filesystems whose Python the farm can't build for."""

import io
import json
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest

from wheelfarm.errors import BadInterpreter
from wheelfarm.target import INTERPRETER_PROBE
from wheelfarm_workers.sandbox import Ending, SandboxResult, SandboxRun
from wheelfarm_workers.target_check import facts_of


class Saying:
    """A sandbox in which every command says the same."""

    name = "saying"

    def __init__(self, said: str) -> None:
        self._said = said

    def run(self, run: SandboxRun, *, log: Callable[[bytes], None], cancelled: threading.Event) -> SandboxResult:
        log(self._said.encode())
        return SandboxResult(ending=Ending.EXITED, returncode=0, result=io.BytesIO(), duration_s=0.1)

    def probe(self) -> None:
        pass

    def close(self) -> None:
        pass


def facts(**changes: str) -> str:
    said = subprocess.run([sys.executable, "-c", INTERPRETER_PROBE], capture_output=True, text=True, check=True).stdout
    return json.dumps({**json.loads(said), **changes})


def refusal(said: str) -> BadInterpreter:
    with pytest.raises(BadInterpreter) as refused:
        facts_of(None, "/usr/bin/python3", Saying(said))
    return refused.value


def test_python_that_is_too_old_is_refused_with_the_farms_own_as_a_way_out() -> None:
    refused = refusal(facts(version="3.9.2"))
    assert "CPython 3.9.2, and builds run on 3.10 or later" in refused.message
    assert "--interpreter" in refused.hint


def test_python_of_another_machine_is_refused_with_what_emulates_it() -> None:
    refused = refusal("bwrap: execvp /usr/bin/python3: Exec format error\n")
    assert "for another kind of machine than this one" in refused.message
    assert "apt-get install qemu-user-static binfmt-support" in refused.hint


def test_root_filesystem_without_a_python_is_refused_with_what_to_install() -> None:
    refused = refusal("bwrap: execvp /usr/bin/python3: No such file or directory\n")
    assert "no Python that runs at /usr/bin/python3" in refused.message
    assert "python3-dev" in refused.hint
