"""Sandboxes of bubblewrap: own namespaces, the host's /usr or a root filesystem read-only, writable places in bounded
tmpfs."""

import itertools
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from wheelfarm.errors import SandboxUnavailable
from wheelfarm_workers.sandbox import Mount, SandboxResult, SandboxRun
from wheelfarm_workers.sandbox.diagnosis import diagnose, read_kernel_settings
from wheelfarm_workers.sandbox.link import SpawnerLink, cancelled_result
from wheelfarm_workers.sandbox.protocol import Bind, Descriptor, Start, Word
from wheelfarm_workers.sandbox.seccomp import seccomp_program
from wheelfarm_workers.sandbox.shown import (
    ENVIRONMENT,
    ETC,
    GROUP,
    PASSWD,
    SHM_BYTES,
    failed_probe,
    host_entries,
    own_prefix,
    own_returncode,
    root_entries,
)
from wheelfarm_workers.sandbox.slot_users import SlotUsers
from wheelfarm_workers.sandbox.slots import Slots
from wheelfarm_workers.sandbox.sources import find_sources, interpreter_parts, lend, require_readable


class BubblewrapSandbox:
    """The back end `bubblewrap`, with `slots` runs at once; results on their way are files in `work_dir`."""

    name = "bubblewrap"

    def __init__(self, slots: int, work_dir: Path, *, use_cgroups: bool = True) -> None:
        self._slots = Slots(slots)
        self._users = SlotUsers(slots) if os.getuid() == 0 else None
        self._work_dir = work_dir
        self._link = SpawnerLink(work_dir, use_cgroups=use_cgroups)
        self._numbers = itertools.count()
        self._host = host_words(Path("/"))

    @property
    def memory_limit(self) -> str:
        """What holds runs to their memory: "cgroup v1", "cgroup v2" or "watchdog"."""
        return self._link.connect().memory_limit

    def run(self, run: SandboxRun, *, log: Callable[[bytes], None], cancelled: threading.Event) -> SandboxResult:
        """See `Sandbox.run`. Raises SandboxUnavailable if the run can't be started."""
        with self._slots.hold(cancelled) as slot:
            if slot is None:
                return cancelled_result(self._work_dir)
            uid = self._users[slot] if self._users else None
            with lend(run.mounts, uid):
                start = self._start(run, uid)
                files = (self._seccomp, PASSWD, GROUP)
                result = self._link.run(start, input=run.input, files=files, log=log, cancelled=cancelled)
        return replace(result, returncode=own_returncode(result.returncode))

    def probe(self) -> None:
        """See `Sandbox.probe`: runs this interpreter on the production line."""
        if (log := failed_probe(self)) is not None:
            raise diagnose(log, read_kernel_settings(Path("/proc/sys")))

    def close(self) -> None:
        """See `Sandbox.close`."""
        self._link.close()
        if self._users:
            self._users.release()

    @cached_property
    def _seccomp(self) -> bytes:
        return seccomp_program()

    @cached_property
    def _bwrap(self) -> str:
        found = shutil.which("bwrap")
        if found is None:
            raise SandboxUnavailable("bubblewrap is not installed.", hint="apt-get install bubblewrap")
        return found

    def _start(self, run: SandboxRun, uid: int | None) -> Start:
        stage = self._link.connect().stage
        folder = f"{stage}/{next(self._numbers)}" if stage else ""
        sources, binds = _sources(run, folder, uid)
        base = self._host if run.root is None else root_words(run.root.folder, sources[run.root.folder])
        argv = (self._bwrap, *bubblewrap_argv(run, base=base, sources=sources))
        return Start(argv=argv, environment={}, limits=run.limits, uid=uid, stage=folder if binds else "", binds=binds)


def bubblewrap_argv(run: SandboxRun, *, base: tuple[Word, ...], sources: Mapping[Path, str]) -> tuple[Word, ...]:
    """The words after `bwrap`; `sources` says where the prefix and the mounts' sources are found by it, `base` shows
    the system's files.

    The namespaces are listed because `--unshare-all` goes on without those that it can't have.
    """
    limits = run.limits
    environment: dict[str, Word] = {**ENVIRONMENT, **run.environment, "WHEELFARM_RESULT_FD": Descriptor.RESULT}
    return (
        *("--unshare-user", "--uid", "1000", "--gid", "1000", "--disable-userns"),
        *("--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup"),
        *("--info-fd", Descriptor.INFO),
        *("--hostname", "builder", "--die-with-parent", "--new-session", "--cap-drop", "ALL", "--clearenv"),
        *_each("--setenv", environment.items()),
        *base,
        *("--proc", "/proc", "--dev", "/dev"),
        *_tmpfs("/dev/shm", SHM_BYTES),  # noqa: S108 - the sandbox's own
        *("--remount-ro", "/dev"),
        *_tmpfs("/tmp", limits.tmp_bytes),  # noqa: S108 - the sandbox's own
        *_tmpfs("/build", limits.build_bytes),
        *_prefix_words(run, sources),
        *_each("--dir", ((path,) for path in run.directories)),
        *itertools.chain.from_iterable(_mount_words(mount, sources) for mount in run.mounts),
        *_each("--symlink", ((target, path) for path, target in run.symlinks.items())),
        *("--remount-ro", "/", "--chdir", "/build"),
        *("--seccomp", Descriptor.SECCOMP),
        *("--", *run.argv),
    )


def host_words(root: Path) -> tuple[Word, ...]:
    """What a sandbox shows of the host: /usr, what of it the top level has or links to, and the linker's settings."""
    words: list[Word] = []
    for name, link in host_entries(root):
        words += ["--symlink", link, f"/{name}"] if link else ["--ro-bind", f"/{name}", f"/{name}"]
    words += ["--dir", "/etc"]
    for name in ETC:
        words += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
    words += ["--perms", "0644", "--file", Descriptor.PASSWD, "/etc/passwd"]
    words += ["--perms", "0644", "--file", Descriptor.GROUP, "/etc/group"]
    return tuple(words)


def root_words(folder: Path, found_at: str) -> tuple[Word, ...]:
    """What a sandbox shows of a root filesystem, which bwrap finds at `found_at`: all of its top level but what the
    sandbox has of its own and what holds nothing of a system's."""
    words: list[Word] = []
    for name, link in root_entries(folder):
        words += ["--symlink", link, f"/{name}"] if link else ["--ro-bind", f"{found_at}/{name}", f"/{name}"]
    if (folder / "etc").is_dir():
        words += ["--perms", "0644", "--ro-bind-data", Descriptor.PASSWD, "/etc/passwd"]
        words += ["--perms", "0644", "--ro-bind-data", Descriptor.GROUP, "/etc/group"]
    return tuple(words)


def _sources(run: SandboxRun, folder: str, uid: int | None) -> tuple[dict[Path, str], tuple[Bind, ...]]:
    """Where bwrap finds each source, and what has to be staged in `folder` for that."""
    wanted = {mount.source: mount.writable for mount in run.mounts}
    if run.root is not None:
        wanted[run.root.folder] = False
    if (prefix := own_prefix(run)) is not None:
        wanted[prefix] = False
        if uid is not None:
            require_readable(*interpreter_parts(prefix))
    return find_sources(wanted, folder, uid)


def _prefix_words(run: SandboxRun, sources: Mapping[Path, str]) -> tuple[str, ...]:
    prefix = own_prefix(run)
    return () if prefix is None else ("--ro-bind", sources[prefix], str(prefix))


def _mount_words(mount: Mount, sources: Mapping[Path, str]) -> tuple[str, ...]:
    return ("--bind" if mount.writable else "--ro-bind", sources[mount.source], mount.target)


def _tmpfs(path: str, size_bytes: int) -> tuple[str, ...]:
    return ("--perms", "1777", "--size", str(size_bytes), "--tmpfs", path)


def _each(option: str, values: Iterable[tuple[Word, ...]]) -> Iterator[Word]:
    for words in values:
        yield option
        yield from words
