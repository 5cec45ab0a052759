"""What holds a run to its limits in the kernel: resource limits, and a cgroup for each run where there are rights."""

import fcntl
import os
import re
import resource
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from wheelfarm_workers.sandbox import Limits

WATCHDOG = "watchdog"
_PREFIX = "wheelfarm-"
_OPEN_FILES = 4096
_LOCKED_BYTES = 64 << 10
_SPARE_TASKS = 1024
_OOM_KILLS = re.compile(r"^oom_kill ([1-9]\d*)$", re.MULTILINE)

RLimits = dict[int, int]


def resource_limits(limits: Limits, *, other_tasks: int) -> RLimits:
    """The limits of setrlimit(2) for each process of a run.

    The kernel counts processes by user: `other_tasks` is how many threads the user of the run has already, none if
    it is the run's own. Those may grow meanwhile, so they get some room, which a fork bomb gets too.
    """
    others = other_tasks + _SPARE_TASKS if other_tasks else 0
    return {
        resource.RLIMIT_NPROC: limits.processes + others,
        resource.RLIMIT_NOFILE: _OPEN_FILES,
        resource.RLIMIT_FSIZE: limits.file_bytes,
        resource.RLIMIT_MEMLOCK: _LOCKED_BYTES,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MSGQUEUE: 0,
        resource.RLIMIT_RTPRIO: 0,
    }


def within_own(values: RLimits) -> RLimits:
    """The limits, or those that this process has itself where they are lower: none may be raised without rights."""
    own = {kind: resource.getrlimit(kind)[1] for kind in values}
    return {
        kind: value if own[kind] == resource.RLIM_INFINITY else min(value, own[kind]) for kind, value in values.items()
    }


def set_resource_limits(values: RLimits) -> None:
    """Put this process under the limits, or under its own where those are lower."""
    for kind, bound in within_own(values).items():
        resource.setrlimit(kind, (bound, bound))


@dataclass(frozen=True, kw_only=True, slots=True)
class Cgroup:
    """The cgroup of one run: one folder, or one for each of the controllers memory and pids in version 1."""

    folders: tuple[Path, ...]

    def enter(self) -> None:
        """Move this process in."""
        for folder in self.folders:
            (folder / "cgroup.procs").write_text("0")

    def pids(self) -> list[int]:
        """The living processes in it that this pid namespace has a number for (others read as 0)."""
        lines = " ".join(_read(self.folders[:1], "cgroup.procs")).split()
        return [pid for line in lines if (pid := int(line)) > 0]

    def ran_out_of_memory(self) -> bool:
        """Whether the kernel has killed a process of it for want of memory."""
        return any(_OOM_KILLS.search(text) for text in _read(self.folders, "memory.oom_control", "memory.events"))

    def remove(self) -> None:
        """Remove the folders; what still runs in them is killed."""
        for folder in self.folders:
            _remove(folder)


@dataclass(frozen=True, kw_only=True, slots=True)
class Cgroups:
    """This process's own cgroup and those of its runs; as long as it lives it holds a lock on the folders."""

    version: int
    folders: tuple[Path, ...]
    locks: tuple[int, ...]

    def make(self, name: str, limits: Limits) -> Cgroup:
        """A new cgroup with the limits on memory, swap included, and on processes."""
        group = Cgroup(folders=tuple(folder / name for folder in self.folders))
        for folder in group.folders:
            folder.mkdir()
            _limit(folder, limits)
        return group

    def remove(self) -> None:
        """Remove all of it."""
        for folder in self.folders:
            _remove_tree(folder)
        for lock in self.locks:
            os.close(lock)


def open_cgroups(proc: Path = Path("/proc/self")) -> Cgroups | None:
    """A cgroup of our own below the one that we run in, without the leftovers of dead processes; None without rights.

    In version 2 processes and controllers can't share a folder, so there it is the nearest ancestor that hands the
    controllers down: for a service of systemd the slice.
    """
    mounts, memberships = (proc / "mountinfo").read_text(), (proc / "cgroup").read_text()
    memory, pids = (own_folder(kind, mounts=mounts, memberships=memberships) for kind in ("memory", "pids"))
    if memory and pids:
        return _claim(1, (memory, pids))
    unified = own_folder("", mounts=mounts, memberships=memberships)
    for folder in (unified, *unified.parents) if unified else ():
        handed_down = " ".join(_read((folder,), "cgroup.subtree_control")).split()
        if {"memory", "pids"} <= set(handed_down) and (claimed := _claim(2, (folder,))):
            return claimed
    return None


def own_folder(controller: str, *, mounts: str, memberships: str) -> Path | None:
    """Where the cgroup of a process is mounted, from its mountinfo and cgroup files; "" asks for version 2."""
    paths = {kind: path for _, kinds, path in _split_memberships(memberships) for kind in kinds.split(",")}
    for root, mount_point, kinds in _cgroup_mounts(mounts):
        if controller in kinds and controller in paths:
            inside = os.path.relpath(paths[controller], root)
            return Path(mount_point) if inside.startswith("..") else Path(mount_point, inside)
    return None


def _split_memberships(text: str) -> Iterator[tuple[str, str, str]]:
    for line in text.splitlines():
        number, kinds, path = line.split(":", 2)
        yield number, kinds, path


def _cgroup_mounts(text: str) -> Iterator[tuple[str, str, list[str]]]:
    """Root, mount point and controllers of each cgroup mount; version 2 has the controller ""."""
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        fstype, _, options = right.split(" ", 2)
        if fstype in ("cgroup", "cgroup2"):
            root, mount_point = left.split()[3:5]
            yield root, mount_point, options.split(",") if fstype == "cgroup" else [""]


def _claim(version: int, parents: tuple[Path, ...]) -> Cgroups | None:
    """Make our folders and lock them, so that no other worker takes them for leftovers."""
    for parent in parents:
        _remove_leftovers(parent)
    folders = tuple(parent / f"{_PREFIX}{os.getpid()}-{time.monotonic_ns()}" for parent in parents)
    locks: list[int] = []
    try:
        for folder in folders:
            folder.mkdir()
            locks.append(os.open(folder, os.O_RDONLY | os.O_DIRECTORY))
            fcntl.flock(locks[-1], fcntl.LOCK_EX)
            if version == 2:
                (folder / "cgroup.subtree_control").write_text("+memory +pids")
    except OSError:
        Cgroups(version=version, folders=folders, locks=tuple(locks)).remove()
        return None
    return Cgroups(version=version, folders=folders, locks=tuple(locks))


def _remove_leftovers(parent: Path) -> None:
    """Remove the folders whose owner is dead: the kernel has let go of its lock."""
    for folder in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove_tree(folder)
            finally:
                os.close(lock)


def _remove_tree(folder: Path) -> None:
    for run in [path for path in folder.glob("*") if path.is_dir()]:
        _remove(run)
    _remove(folder)


def _remove(folder: Path) -> None:
    """Remove one cgroup. The kernel refuses for some moments while killed processes are still on their way out."""
    for _ in range(20):
        try:
            folder.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            for pid in Cgroup(folders=(folder,)).pids():
                with suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.005)
        else:
            return


def _limit(folder: Path, limits: Limits) -> None:
    """Write those limits whose files are here. The order matters: version 1 wants memory before memory and swap."""
    values = {
        "memory.limit_in_bytes": limits.memory_bytes,
        "memory.memsw.limit_in_bytes": limits.memory_bytes,
        "memory.max": limits.memory_bytes,
        "memory.swap.max": 0,
        "memory.oom.group": 1,
        "pids.max": limits.processes,
    }
    for name, value in values.items():
        if (folder / name).exists():
            (folder / name).write_text(str(value))


def _read(folders: Iterable[Path], *names: str) -> Iterator[str]:
    for folder in folders:
        for name in names:
            with suppress(OSError):
                yield (folder / name).read_text()
