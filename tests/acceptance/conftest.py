"""The command as users run it: a home of its own, an upstream index on loopback, everything else real."""

import fcntl
import gzip
import json
import os
import pty
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support.upstream import Upstream
from tests.support.waiting import PATIENCE_S, wait_until

__all__ = ["PATIENCE_S", "Done", "Home", "held_farm", "open_home", "wait_until"]

_TOLD = 20_000
"""How many characters of each log a failed test shows."""


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
class Terminal:
    """A command on a pseudo terminal, what it has shown, and what it wrote to stdout."""

    process: "subprocess.Popen[str]"
    descriptor: int
    shown: str = ""
    out: str = ""

    def read_until(self, text: str, timeout_s: float = PATIENCE_S) -> None:
        """Read until a text was shown."""
        deadline = time.monotonic() + timeout_s
        while text not in self.shown:
            if time.monotonic() > deadline or not self._read():
                pytest.fail(f"{text!r} was not shown but {self.shown!r}")

    def read_to_end(self, timeout_s: float = PATIENCE_S) -> int:
        """Read until the command has ended; its exit code."""
        deadline = time.monotonic() + timeout_s
        while self._read():
            if time.monotonic() > deadline:
                pytest.fail(f"the command did not end: {self.shown!r}")
        self.out = self.process.communicate(timeout=PATIENCE_S)[0]
        return self.process.returncode

    def _read(self) -> bool:
        if not select.select([self.descriptor], [], [], 1.0)[0]:
            return True
        try:
            data = os.read(self.descriptor, 65536)
        except OSError:  # Linux tells the end of a pseudo terminal so
            return False
        self.shown += data.decode(errors="replace")
        return bool(data)


@dataclass(kw_only=True)
class Home:
    """A user's home, and the command `wheelfarm` in it."""

    root: Path
    upstream: Upstream
    settings: dict[str, str] = field(default_factory=dict)
    ended: list[str] = field(default_factory=list, repr=False)
    """The commands that were run to their end, each with what it said."""

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

    @property
    def start_words(self) -> list[str]:
        """The command's name."""
        return [sys.executable, "-m", "wheelfarm"]

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

    @contextmanager
    def on_terminal(self, *words: str | Path, environment: Mapping[str, str] | None = None) -> Iterator["Terminal"]:
        """The command, its stderr on a terminal of 80 columns and 24 lines."""
        ours, theirs = pty.openpty()
        fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        with subprocess.Popen(
            [sys.executable, "-m", "wheelfarm", *map(str, words)],
            env={**self.environment, "TERM": "xterm-256color", **(environment or {})},
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=theirs,
            text=True,
            process_group=0,
        ) as process:
            os.close(theirs)
            try:
                yield Terminal(process=process, descriptor=ours)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                os.close(ours)

    def run(self, *words: str | Path, environment: Mapping[str, str] | None = None, timeout_s: float = 300) -> Done:
        """Run the command to its end."""
        process = self.start(*words, environment=environment)
        try:
            out, err = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            pytest.fail(f"wheelfarm {' '.join(map(str, words))} did not end:\n{out}\n{err}")
        self.ended.append(f"$ wheelfarm {' '.join(map(str, words))}\n{out}{err}[{process.returncode}]")
        return Done(code=process.returncode, out=out, err=err)

    def farm_log(self) -> str:
        return "\n".join(path.read_text(errors="replace") for path in self.root.glob("run/*/*/farm.log"))

    def farm_log_at_rest(self) -> str:
        """The farm's log once the farm has ended, so that any line more is of another one."""
        self.come_to_rest()
        return self.farm_log()

    def come_to_rest(self) -> None:
        """Wait until nothing runs any more: farms write on when the last of their commands has ended."""
        assert wait_until(lambda: not self.processes()), self.processes()

    def build_logs(self) -> list[str]:
        """The logs in the store, one a run of a job."""
        chunks: dict[Path, bytes] = {}
        for path in sorted(self.store.glob("logs/**/*.gz")):
            chunks[path.parent] = chunks.get(path.parent, b"") + gzip.decompress(path.read_bytes())
        return [log.decode(errors="replace") for log in chunks.values()]

    def flat_pages(self, count: int = 1) -> list[Path]:
        """The flat pages in the store, one a target, which a farm brings up to date before it ends."""
        found: list[Path] = []

        def are_there() -> bool:
            found[:] = sorted(self.store.glob("flat/*/index.html"))
            return len(found) == count and not list(self.store.glob("stale/*/*"))

        assert wait_until(are_there), found
        return found

    def processes(self) -> dict[int, str]:
        """Everything that runs with this home in its environment, its command line or, in a sandbox, what is mounted:
        pid and command line. (What is mounted on this home, others' sandboxes of the same moment see, too.)"""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                words = (folder / "cmdline").read_bytes()
                told = words + (folder / "environ").read_bytes()
                mounted = [line.split()[3] for line in (folder / "mountinfo").read_bytes().splitlines()]
            except OSError:
                continue
            is_here = str(self.root).encode() in told or any(self.root.name.encode() in path for path in mounted)
            if int(folder.name) != os.getpid() and is_here and words:
                found[int(folder.name)] = words.replace(b"\0", b" ").decode(errors="replace").strip()
        return found

    def pid_of(self, part: str) -> int:
        """The process whose command line holds `part`, when there is one."""
        found: list[int] = []

        def is_there() -> bool:
            found[:] = [pid for pid, words in self.processes().items() if part in words]
            return bool(found)

        assert wait_until(is_there), self.processes()
        return found[0]

    def sandboxes(self) -> list[int]:
        """The processes that build."""
        return [pid for pid, words in self.processes().items() if "inside.py" in words]

    def builds(self) -> bool:
        """Whether a build has come to run."""
        return wait_until(self.sandboxes)

    @contextmanager
    def builds_held(self) -> Iterator[None]:
        """Have a build come to run, and stand still meanwhile, so that it is not over before it shall be."""
        assert self.builds(), self.told()
        held = self.sandboxes()
        _signal(held, signal.SIGSTOP)
        try:
            yield
        finally:
            _signal(held, signal.SIGCONT)

    def told(self) -> str:
        """All that tells why a test failed: what the commands said, what runs, and the logs of the home's farms."""
        processes = "\n".join(f"{pid} {words[:200]}" for pid, words in self.processes().items())
        told = {"commands": "\n".join(self.ended), "processes": processes}
        for folder in ("run/*/*", "farm", "*", "."):
            for path in self.root.glob(f"{folder}/*.log"):
                with suppress(OSError):  # it may be gone by now
                    told[str(path.relative_to(self.root))] = path.read_text(errors="replace")
        return "\n".join(f"== {name}\n{text[-_TOLD:]}" for name, text in told.items() if text)

    def wheel_names(self) -> list[str]:
        """The file names on the flat pages of the store."""
        return sorted(path.name for path in self.store.glob("wheels/*/*.whl"))


@pytest.fixture
def home() -> Iterator[Home]:
    """A fresh home, with an empty upstream index."""
    with Upstream() as upstream, open_home(upstream) as made:
        yield made


@pytest.fixture
def held_home(home: Home) -> Iterator[Home]:
    """A fresh home whose farm runs on between its commands, for tests with several of them."""
    with held_farm(home):
        yield home


@contextmanager
def held_farm(home: Home) -> Iterator[Mapping[str, str]]:
    """Keep the home's farm running between its commands: the addresses of the `farm` and (`url`) of its source index,
    and the `token`."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.support.held_farm"],
        env={**home.environment, "PYTHONPATH": str(Path.cwd())},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin and process.stdout
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.stdin.close()


@contextmanager
def open_home(upstream: Upstream) -> Iterator[Home]:
    """A fresh home; whatever its commands started must be gone soon after they ended."""
    root = Path(tempfile.mkdtemp(prefix="wf-"))
    try:
        for folder in ("data", "cache", "run"):
            (root / folder).mkdir(mode=0o700)
        made = Home(root=root, upstream=upstream)
        _homes.append(made)
        yield made
        left = wait_until(lambda: not made.processes())
        leftovers = made.processes()
        _signal(leftovers, signal.SIGKILL)
    finally:
        _homes[:] = [home for home in _homes if home.root != root]
        shutil.rmtree(root, ignore_errors=True)
    assert left, f"left running: {leftovers}"


_homes: list[Home] = []
"""Those that are open."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What failed is reported with all that its homes have to tell."""
    report = yield
    if report.failed:
        report.sections += [(f"home {home.root}", home.told()) for home in _homes]
    return report


def _signal(pids: Iterable[int], number: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
