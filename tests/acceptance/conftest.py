"""The command as users run it: a home of its own, an upstream index on loopback, everything else real."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support.upstream import Upstream


@dataclass(frozen=True, kw_only=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(kw_only=True)
class Home:
    """A user's home, and the command `wheelfarm` in it."""

    root: Path
    upstream: Upstream
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def store(self) -> Path:
        return self.root / "data" / "wheelfarm"

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("WHEELFARM_", "UV_", "PIP_"))}
        kept.pop("VIRTUAL_ENV", None)
        folders = {"XDG_DATA_HOME": "data", "XDG_CACHE_HOME": "cache", "XDG_RUNTIME_DIR": "run", "HOME": "."}
        mine = {name: str(self.root / folder) for name, folder in folders.items()}
        return {**kept, **mine, "WHEELFARM_INDEX": self.upstream.url, **self.settings}

    def start(self, *words: str | Path, environment: Mapping[str, str] | None = None) -> "subprocess.Popen[str]":
        """The command, running, in a process group of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "wheelfarm", *map(str, words)],
            env={**self.environment, **(environment or {})},
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
        )

    def run(self, *words: str | Path, environment: Mapping[str, str] | None = None, timeout_s: float = 120) -> Done:
        """Run the command to its end."""
        process = self.start(*words, environment=environment)
        try:
            out, err = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            pytest.fail(f"wheelfarm {' '.join(map(str, words))} did not end:\n{out}\n{err}\n{self.farm_log()}")
        return Done(code=process.returncode, out=out, err=err)

    def farm_log(self) -> str:
        return "\n".join(path.read_text(errors="replace") for path in self.root.glob("run/*/*/farm.log"))

    def processes(self) -> dict[int, str]:
        """Everything that runs with this home in its environment, its command line or, in a sandbox, its mounts: pid
        and command line."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                words = (folder / "cmdline").read_bytes()
                told = words + (folder / "environ").read_bytes() + (folder / "mountinfo").read_bytes()
            except OSError:
                continue
            if int(folder.name) != os.getpid() and str(self.root).encode() in told and words:
                found[int(folder.name)] = words.replace(b"\0", b" ").decode(errors="replace").strip()
        return found

    def pid_of(self, part: str) -> int:
        """The process whose command line holds `part`."""
        return next(pid for pid, words in self.processes().items() if part in words)

    def wheel_names(self) -> list[str]:
        """The file names on the flat pages of the store."""
        return sorted(path.name for path in self.store.glob("wheels/*/*.whl"))


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    """A fresh home; whatever its commands started must be gone a second after they ended."""
    root = Path(tempfile.mkdtemp(prefix="wf-"))
    for folder in ("data", "cache", "run"):
        (root / folder).mkdir(mode=0o700)
    with Upstream() as upstream:
        made = Home(root=root, upstream=upstream)
        yield made
        left = wait_until(lambda: not made.processes(), 3.0)
        leftovers = made.processes()
        for pid in leftovers:
            os.kill(pid, signal.SIGKILL)
    shutil.rmtree(root, ignore_errors=True)
    assert left, f"left running: {leftovers}"


def wait_until(condition: Any, timeout_s: float) -> bool:
    """Whether a condition came true in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
