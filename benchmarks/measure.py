"""Measuring one command: its wall time, and the processor time of everything that it started."""

import ctypes
import os
import resource
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """A command that ended well: wall and processor (user + system) time in seconds, and what it wrote."""

    wall_s: float
    cpu_s: float
    output: str


class CommandFailed(Exception):
    """A command of a benchmark failed; the message has the end of its output."""


def measure(argv: Sequence[str], environment: Mapping[str, str], *, cwd: str) -> Measured:
    """Run a command. Its wall time ends when it does; processor time counts until all that it left behind has ended.

    Raises CommandFailed.
    """
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # orphans become ours, and are waited for
    before, start = _cpu_s(), time.monotonic()
    done = subprocess.run(
        argv, env=environment, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    wall_s = time.monotonic() - start
    _wait_for_orphans()
    if done.returncode != 0:
        raise CommandFailed(f"{' '.join(argv)} ended with {done.returncode}:\n{done.stdout[-3000:]}")
    return Measured(wall_s=wall_s, cpu_s=_cpu_s() - before, output=done.stdout)


def processor_s(pid: int) -> float:
    """The processor time that a process and its living descendants have used, in seconds."""
    used = 0.0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        if folder.name == str(pid):
            used += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        elif fields[1] == str(pid):
            used += processor_s(int(folder.name))
    return used


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _wait_for_orphans() -> None:
    while True:
        try:
            os.wait()
        except ChildProcessError:
            return
