"""What an engine is told of a run, and what the container's root is furnished with."""

import csv
import io
import itertools
import resource
from collections.abc import Iterable, Iterator, Mapping

from wheelfarm_workers.sandbox import Limits, Mount, SandboxRun
from wheelfarm_workers.sandbox.engines import RESULT_FD
from wheelfarm_workers.sandbox.limits import resource_limits, within_own
from wheelfarm_workers.sandbox.protocol import Furniture
from wheelfarm_workers.sandbox.shown import ENVIRONMENT, SHM_BYTES
from wheelfarm_workers.sandbox.slot_users import FIRST_UID, LAST_UID

INSIDE_UID = 1000
_NAMESPACE_ROOTS = LAST_UID + 1 - FIRST_UID
"""How far above a slot's user the one is who is root of its container's user namespace, and of nothing else."""
_SPARE_S = 60
_ULIMITS = {
    resource.RLIMIT_NPROC: "nproc",
    resource.RLIMIT_NOFILE: "nofile",
    resource.RLIMIT_FSIZE: "fsize",
    resource.RLIMIT_MEMLOCK: "memlock",
    resource.RLIMIT_CORE: "core",
    resource.RLIMIT_MSGQUEUE: "msgqueue",
    resource.RLIMIT_RTPRIO: "rtprio",
}
_OF_ENGINES = ("dev", "proc", "sys", "run/secrets", "etc")
_WORKING = ("build", "tmp")
_FILES_OF_ENGINES = ("run/.containerenv", "etc/hostname", "etc/hosts", "etc/resolv.conf")


def frame(run: SandboxRun, mounts: Iterable[Mount], links: Mapping[str, str], folder: str) -> Furniture:
    """A container's root before anything is mounted there: all places that are mounted on, by the engine too, for what
    makes the mounts has no rights to the folder; `links` are the system's own at the top level."""
    own = furniture(run, mounts, folder)
    return Furniture(
        folder=folder,
        directories=(*_OF_ENGINES, *own.directories),
        open=_WORKING,  # some runtimes give a tmpfs the mode of what it is mounted on
        files=(*_FILES_OF_ENGINES, *own.files),
        symlinks={**links, **own.symlinks},
    )


def furniture(run: SandboxRun, mounts: Iterable[Mount], folder: str) -> Furniture:
    """The places of the mounts, and what a run brings along of empty directories and links."""
    places = [(mount.source.is_dir(), _below(mount.target)) for mount in mounts]
    return Furniture(
        folder=folder,
        directories=(*(_below(path) for path in run.directories), *(name for is_dir, name in places if is_dir)),
        files=tuple(name for is_dir, name in places if not is_dir),
        symlinks={_below(path): target for path, target in run.symlinks.items()},
    )


def top_level(furniture: Furniture, mounts: Iterable[Mount]) -> list[str]:
    """The names of the folders at the top of it, but for those that something is mounted on."""
    names = (*furniture.directories, *furniture.files, *furniture.symlinks)
    return sorted({name.partition("/")[0] for name in names} - {_below(mount.target) for mount in mounts})


def isolation_words(limits: Limits) -> tuple[str, ...]:
    """What holds a container in, for engines of both kinds; sizes and numbers as `Limits` has them."""
    ulimits = within_own(resource_limits(limits, other_tasks=0))
    return (
        *("--pull=never", "--network", "none", "--ipc", "private", "--hostname", "builder", "--log-driver", "none"),
        *("--read-only", "--cap-drop", "all", "--security-opt", "no-new-privileges"),
        *("--security-opt", "label=disable", "--stop-timeout", "0", "--workdir", "/build"),
        *("--memory", f"{limits.memory_bytes}b", "--memory-swap", f"{limits.memory_bytes}b"),
        *("--pids-limit", str(limits.processes), "--shm-size", f"{SHM_BYTES}b"),
        *itertools.chain.from_iterable(
            ("--ulimit", f"{_ULIMITS[kind]}={value}:{value}") for kind, value in ulimits.items()
        ),
        *_tmpfs("/tmp", limits.tmp_bytes),  # noqa: S108 - the container's own
        *_tmpfs("/build", limits.build_bytes),
    )


def deadline_words(limits: Limits) -> tuple[str, ...]:
    """Podman's own deadline, for when worker and spawner are both dead."""
    return ("--timeout", str(int(limits.wall_s) + _SPARE_S))


def mapped_user(uid: int | None) -> tuple[str, ...]:
    """Podman's user namespace: the slot's user, or without one the worker's own, is 1000 inside."""
    if uid is None:
        return (f"--userns=keep-id:uid={INSIDE_UID},gid={INSIDE_UID}", "--user", f"{INSIDE_UID}:{INSIDE_UID}")
    maps = (f"0:{uid + _NAMESPACE_ROOTS}:1", f"{INSIDE_UID}:{uid}:1")
    words = itertools.chain.from_iterable((f"--uidmap={one}", f"--gidmap={one}") for one in maps)
    return (*words, "--user", f"{INSIDE_UID}:{INSIDE_UID}")


def mount_words(source: str, mount: Mount) -> tuple[str, ...]:
    """A mount; engines read its parts as a line of CSV."""
    parts = ["type=bind", f"source={source}", f"target={mount.target}", *([] if mount.writable else ["readonly"])]
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(parts)
    return ("--mount", line.getvalue())


def inside_words(run: SandboxRun, init: str) -> Iterator[str]:
    """The shell that is the container's first process, and what it runs: nothing of an engine's environment is left."""
    environment = {**ENVIRONMENT, **run.environment, "WHEELFARM_RESULT_FD": str(RESULT_FD)}
    yield from ("-c", init, "sh", *(f"{name}={value}" for name, value in environment.items()), *run.argv)


def _tmpfs(path: str, size_bytes: int) -> tuple[str, ...]:
    return ("--tmpfs", f"{path}:rw,nosuid,nodev,exec,size={size_bytes},mode=1777")


def _below(path: str) -> str:
    return path.lstrip("/")
