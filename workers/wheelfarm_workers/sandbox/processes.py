"""The processes of a sandbox as /proc shows them."""

import os
import signal
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

_PAGE_BYTES = os.sysconf("SC_PAGESIZE")


def child_pids(parent: int) -> list[int]:
    """The direct children of a process."""
    return [pid for pid, ppid, _ in _processes() if ppid == parent]


def resident_bytes(root: int) -> int:
    """The resident memory of a process and all that descend from it; what they share is counted in each."""
    children: defaultdict[int, list[int]] = defaultdict(list)
    resident: dict[int, int] = {}
    for pid, ppid, pages in _processes():
        children[ppid].append(pid)
        resident[pid] = pages * _PAGE_BYTES
    total, pending = 0, [root]
    while pending:
        pid = pending.pop()
        total += resident.get(pid, 0)
        pending += children[pid]
    return total


def task_count(uid: int) -> int:
    """How many threads a user has, which is what RLIMIT_NPROC counts."""
    count = 0
    for folder in _folders():
        with suppress(OSError):
            if folder.stat().st_uid == uid:
                count += len(list((folder / "task").iterdir()))
    return count


def marked_pids(marker: str) -> list[int]:
    """The living processes that have `marker` (a NAME=value) in their environment."""
    line = os.fsencode(marker)
    found = []
    for folder in _folders():
        with suppress(OSError):
            if line in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return found


def named_pids(word: str) -> list[int]:
    """The living processes that have `word` among those of their command line, and all that descend from them."""
    line = os.fsencode(word)
    found = set()
    for folder in _folders():
        with suppress(OSError):
            if line in (folder / "cmdline").read_bytes().split(b"\0"):
                found.add(int(folder.name))
    return sorted(found.union(*(_descendants(pid) for pid in found)))


def kill_all(pids: Iterable[int]) -> None:
    """Kill them, those that have ended meanwhile excepted."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _descendants(root: int) -> set[int]:
    children: defaultdict[int, list[int]] = defaultdict(list)
    for pid, ppid, _ in _processes():
        children[ppid].append(pid)
    found: set[int] = set()
    pending = [root]
    while pending:
        fresh = set(children[pending.pop()]) - found
        found |= fresh
        pending += fresh
    return found


def _folders() -> Iterator[Path]:
    return (path for path in Path("/proc").iterdir() if path.name.isdecimal())


def _processes() -> Iterator[tuple[int, int, int]]:
    for folder in _folders():
        yield from _process(folder.name)


def _process(name: str) -> Iterator[tuple[int, int, int]]:
    """Pid, parent and resident pages, unless the process is gone (proc_pid_stat(5), fields 4 and 24)."""
    with suppress(OSError):
        fields = Path("/proc", name, "stat").read_bytes().rpartition(b")")[2].split()
        yield int(name), int(fields[1]), int(fields[21])
