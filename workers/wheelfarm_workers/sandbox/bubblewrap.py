"""Sandboxes of bubblewrap: own namespaces, the host's /usr or a root filesystem read-only, writable places in bounded
tmpfs."""

import itertools
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from wheelfarm.errors import SandboxUnavailable
from wheelfarm_workers.sandbox import Limits, Mount, SandboxResult, SandboxRun
from wheelfarm_workers.sandbox.diagnosis import diagnose, read_kernel_settings
from wheelfarm_workers.sandbox.link import SpawnerLink, cancelled_result
from wheelfarm_workers.sandbox.protocol import Bind, Descriptor, Start, Word
from wheelfarm_workers.sandbox.seccomp import seccomp_program
from wheelfarm_workers.sandbox.slot_users import SlotUsers
from wheelfarm_workers.sandbox.slots import Slots
from wheelfarm_workers.sandbox.stage import is_reachable, is_readable

_SHM_BYTES = 64 << 20
_PASSWD = b"builder:x:1000:1000::/build:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n"
_GROUP = b"builder:x:1000:\nnogroup:x:65534:\n"
_ETC = ("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives")
_NOT_OF_ROOTS = frozenset(
    (
        *("dev", "proc", "sys", "tmp", "run", "root", "home", "boot", "mnt", "media", "srv", "lost+found"),
        *("build", "driver", "env", "in", "tree", "w"),
    )
)
_ENVIRONMENT = {
    "PATH": "/env/bin:/usr/local/bin:/usr/bin:/bin",
    "HOME": "/build",
    "LANG": "C.UTF-8",
    "TZ": "UTC",
    "WHEELFARM_ROOT": "",
}
_PROBE = "import os; os.write(int(os.environ['WHEELFARM_RESULT_FD']), b'it works')"


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
                files = (self._seccomp, _PASSWD, _GROUP)
                result = self._link.run(start, input=run.input, files=files, log=log, cancelled=cancelled)
        return replace(result, returncode=_own_returncode(result.returncode))

    def probe(self) -> None:
        """See `Sandbox.probe`: runs this interpreter on the production line."""
        interpreter = os.path.realpath(sys.executable)
        run = SandboxRun(
            argv=(interpreter, "-I", "-S", "-c", _PROBE),
            input=b"",
            interpreter_prefix=Path(sys.base_prefix),
            limits=Limits(wall_s=30, memory_bytes=1 << 30),
        )
        log: list[bytes] = []
        ended = self.run(run, log=log.append, cancelled=threading.Event())
        with ended.result as file:
            if file.read() != b"it works":
                raise diagnose(b"".join(log).decode(errors="replace"), read_kernel_settings(Path("/proc/sys")))

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
    environment: dict[str, Word] = {**_ENVIRONMENT, **run.environment, "WHEELFARM_RESULT_FD": Descriptor.RESULT}
    return (
        *("--unshare-user", "--uid", "1000", "--gid", "1000", "--disable-userns"),
        *("--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup"),
        *("--info-fd", Descriptor.INFO),
        *("--hostname", "builder", "--die-with-parent", "--new-session", "--cap-drop", "ALL", "--clearenv"),
        *_each("--setenv", environment.items()),
        *base,
        *("--proc", "/proc", "--dev", "/dev"),
        *_tmpfs("/dev/shm", _SHM_BYTES),  # noqa: S108 - the sandbox's own
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
    words: list[Word] = ["--ro-bind", "/usr", "/usr"]
    for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        path = root / name
        if path.is_symlink():
            words += ["--symlink", str(path.readlink()), f"/{name}"]
        elif path.is_dir():
            words += ["--ro-bind", f"/{name}", f"/{name}"]
    words += ["--dir", "/etc"]
    for name in _ETC:
        words += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
    words += ["--perms", "0644", "--file", Descriptor.PASSWD, "/etc/passwd"]
    words += ["--perms", "0644", "--file", Descriptor.GROUP, "/etc/group"]
    return tuple(words)


def root_words(folder: Path, found_at: str) -> tuple[Word, ...]:
    """What a sandbox shows of a root filesystem, which bwrap finds at `found_at`: all of its top level but what the
    sandbox has of its own and what holds nothing of a system's."""
    words: list[Word] = []
    for path in sorted(folder.iterdir()):
        if path.is_symlink():
            words += ["--symlink", str(path.readlink()), f"/{path.name}"]
        elif path.is_dir() and path.name not in _NOT_OF_ROOTS:
            words += ["--ro-bind", f"{found_at}/{path.name}", f"/{path.name}"]
    if (folder / "etc").is_dir():
        words += ["--perms", "0644", "--ro-bind-data", Descriptor.PASSWD, "/etc/passwd"]
        words += ["--perms", "0644", "--ro-bind-data", Descriptor.GROUP, "/etc/group"]
    return tuple(words)


@contextmanager
def lend(mounts: tuple[Mount, ...], uid: int | None) -> Iterator[None]:
    """Give the writable directories to the run's user for its time; what it leaves in them stays that user's."""
    lent = [mount.source for mount in mounts if mount.writable and uid is not None]
    for path in lent:
        os.chown(path, uid or 0, uid or 0)
    try:
        yield
    finally:
        for path in lent:
            os.chown(path, os.getuid(), os.getgid())
            path.chmod(0o755)


def _sources(run: SandboxRun, folder: str, uid: int | None) -> tuple[dict[Path, str], tuple[Bind, ...]]:
    """Where bwrap finds each source, and what has to be staged in `folder` for that."""
    wanted = {mount.source: mount.writable for mount in run.mounts}
    if run.root is not None:
        wanted[run.root.folder] = False
    if (prefix := _own_prefix(run)) is not None:
        wanted[prefix] = False
        if uid is not None:
            _require_readable(*_interpreter_parts(prefix))
    sources: dict[Path, str] = {}
    binds: list[Bind] = []
    for path, writable in wanted.items():
        real = Path(os.path.realpath(path))
        if uid is not None and not writable:
            _require_readable(real)
        if uid is None or is_reachable(real):
            sources[path] = str(real)
        else:
            binds.append(Bind(source=str(real), name=str(len(binds)), writable=writable))
            sources[path] = f"{folder}/{binds[-1].name}"
    if binds and not folder:
        raise SandboxUnavailable(
            f"{binds[0].source} can't be reached by the sandboxes' users, and this root may not mount it elsewhere.",
            hint="Give the worker CAP_SYS_ADMIN, run it as another user than root, or keep the files elsewhere.",
        )
    return sources, tuple(binds)


def _require_readable(*paths: Path) -> None:
    for path in paths:
        if not is_readable(path):
            raise SandboxUnavailable(f"{path} can't be read by the sandboxes' users.", hint=f"chmod -R o+rX {path}")


def _interpreter_parts(prefix: Path) -> list[Path]:
    """What a sandbox needs of an interpreter, as far as it is where interpreters have it."""
    parts = (prefix, prefix / "bin", prefix / "lib", prefix / "bin" / "python3")
    return [path.resolve() for path in parts if path.exists()]


def _own_returncode(returncode: int) -> int:
    """bwrap passes on a death by signal as a shell does, as 128 + signal; here that is -signal."""
    return 128 - returncode if 128 < returncode <= 192 else returncode


def _own_prefix(run: SandboxRun) -> Path | None:
    """The interpreter's prefix where what the sandbox shows of a system does not hold it."""
    prefix = run.interpreter_prefix
    return None if prefix is None or (run.root is None and prefix.is_relative_to("/usr")) else prefix


def _prefix_words(run: SandboxRun, sources: Mapping[Path, str]) -> tuple[str, ...]:
    prefix = _own_prefix(run)
    return () if prefix is None else ("--ro-bind", sources[prefix], str(prefix))


def _mount_words(mount: Mount, sources: Mapping[Path, str]) -> tuple[str, ...]:
    return ("--bind" if mount.writable else "--ro-bind", sources[mount.source], mount.target)


def _tmpfs(path: str, size_bytes: int) -> tuple[str, ...]:
    return ("--perms", "1777", "--size", str(size_bytes), "--tmpfs", path)


def _each(option: str, values: Iterable[tuple[Word, ...]]) -> Iterator[Word]:
    for words in values:
        yield option
        yield from words
