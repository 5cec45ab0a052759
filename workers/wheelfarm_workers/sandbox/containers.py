"""Sandboxes of containers, by podman or docker: the same as bubblewrap's, where an engine starts them.

A container's root is what bubblewrap would show: the target's root filesystem, or the host's /usr, folder by folder and
read-only. Docker, which takes images alone, is given one of the root filesystem's archive. Nothing is ever pulled.
Where podman runs as root, each slot has two users of its own: one is root of the container's user namespace, and
builds are the other.
"""

import itertools
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from uuid import uuid4

from wheelfarm.errors import SandboxUnavailable
from wheelfarm_workers.clearing import remove_tree
from wheelfarm_workers.sandbox import Mount, Root, SandboxResult, SandboxRun
from wheelfarm_workers.sandbox.container_line import (
    INSIDE_UID,
    deadline_words,
    frame,
    furniture,
    inside_words,
    isolation_words,
    mapped_user,
    mount_words,
    top_level,
)
from wheelfarm_workers.sandbox.engines import LABEL, Engine, chosen_runtime, engine_environment, explain_engine
from wheelfarm_workers.sandbox.link import SpawnerLink, cancelled_result
from wheelfarm_workers.sandbox.protocol import Bind, Furniture, Start
from wheelfarm_workers.sandbox.seccomp import seccomp_profile
from wheelfarm_workers.sandbox.shown import (
    ETC,
    GROUP,
    PASSWD,
    failed_probe,
    host_entries,
    own_prefix,
    own_returncode,
    root_entries,
)
from wheelfarm_workers.sandbox.slot_users import Claim, SlotUsers
from wheelfarm_workers.sandbox.slots import Slots
from wheelfarm_workers.sandbox.sources import find_sources, interpreter_parts, lend, require_readable
from wheelfarm_workers.sandbox.stage import is_readable

_HEARD_BYTES = 16 << 10
_ENGINES_OWN = ("hostname", "hosts", "resolv.conf")


class ContainerSandbox:
    """The back end of an engine, with `slots` runs at once; results on their way are files in `work_dir`. `worker` is
    what the label wheelfarm.worker of its containers says."""

    def __init__(self, engine: Engine, slots: int, work_dir: Path, *, runtime: str = "") -> None:
        self.name = engine.name
        self._engine = engine
        self._runtime = chosen_runtime(engine, runtime)
        self._slots = Slots(slots)
        self._users = SlotUsers(slots) if os.getuid() == 0 else None
        self._work_dir = work_dir
        self._link = SpawnerLink(work_dir, use_cgroups=False)
        self._numbers = itertools.count()
        self.worker = uuid4().hex
        self._claim = Claim(_claim_of(self.worker))
        self._files = ContainerFiles(work_dir)

    def run(self, run: SandboxRun, *, log: Callable[[bytes], None], cancelled: threading.Event) -> SandboxResult:
        """See `Sandbox.run`. Raises SandboxUnavailable if the run can't be started."""
        with self._slots.hold(cancelled) as slot:
            if slot is None:
                return cancelled_result(self._work_dir)
            uid = self._users[slot] if self._users else None
            with lend(run.mounts, uid):
                result = self._attended(self._start(run, uid), run, log, cancelled)
        return replace(result, returncode=own_returncode(result.returncode))

    def probe(self) -> None:
        """See `Sandbox.probe`. Containers that workers have left who are dead are removed."""
        self._require_limits()
        self._remove_left_over()
        if self._engine.takes_folders and (said := failed_probe(self)) is not None:
            raise explain_engine(self._engine, said)

    def close(self) -> None:
        """See `Sandbox.close`."""
        self._link.close()
        for frame_left in self._work_dir.glob(f"wheelfarm-{self.worker}-*"):  # by a spawner that was killed
            remove_tree(frame_left)
        self._claim.release()
        self._files.remove()
        if self._users:
            self._users.release()

    def _attended(
        self, start: Start, run: SandboxRun, log: Callable[[bytes], None], cancelled: threading.Event
    ) -> SandboxResult:
        """The result of a run; what the engine said of one that it could not start goes into the error."""
        said = bytearray()

        def listen(chunk: bytes) -> None:
            said.extend(chunk[: _HEARD_BYTES - len(said)])
            log(chunk)

        try:
            return self._link.run(start, input=run.input, log=listen, cancelled=cancelled)
        except SandboxUnavailable as error:
            raise explain_engine(self._engine, said.decode(errors="replace") or error.message) from error

    def _require_limits(self) -> None:
        """Raise SandboxUnavailable where the engine may not hold containers to their memory and processes."""
        if not self._engine.takes_folders:
            told = self._ask("info", "--format", "{{.MemoryLimit}} {{.PidsLimit}}")
            lacks = "false" in told
        elif os.getuid() == 0:
            self._ask("version")
            return  # if it may not, the probe fails
        else:
            told = self._ask("info", "--format", "{{.Host.CgroupsVersion}} {{.Host.CgroupControllers}}")
            lacks = not {"v2", "memory", "pids"} <= set(told.replace("[", " ").replace("]", " ").split())
        if lacks:
            raise SandboxUnavailable(
                f"{self.name} can't hold containers of this user to their memory and number of processes: its info "
                f"tells {told}.",
                hint="That takes cgroups of version 2, delegated to the user (systemd: Delegate=yes), or root.",
            )

    def _remove_left_over(self) -> None:
        """Remove the containers of workers that don't live."""
        listed = self._ask("ps", "--all", "--filter", f"label={LABEL}", "--format", "{{.Names}}").split()
        for worker, names in itertools.groupby(sorted(listed), key=_worker_of):
            if Claim.is_free(_claim_of(worker)):
                with suppress(SandboxUnavailable):  # another worker that starts was faster
                    self._ask("rm", "--force", "--volumes", *names)

    def _ask(self, *words: str) -> str:
        return self._engine.ask(self._runtime, *words)

    def _start(self, run: SandboxRun, uid: int | None) -> Start:
        name = f"wheelfarm-{self.worker}-{next(self._numbers)}"
        stage = self._link.connect().stage if self._engine.takes_folders else ""
        stage = f"{stage}/{name}" if stage else ""
        folder = f"{stage or self._work_dir}/{name}"
        system = tuple(self._files.system(run, uid) if self._engine.takes_folders else self._files.users(run, uid))
        sources, binds = self._sources((*system, *run.mounts), stage, uid)
        if self._engine.takes_folders:
            made = frame(run, (*system, *run.mounts), dict(self._files.links(run)), folder)
        else:
            made = furniture(run, run.mounts, folder)
        words = (
            *("--name", name, "--label", f"{LABEL}={self.worker}"),
            *isolation_words(run.limits),
            *("--security-opt", f"seccomp={self._files.seccomp}"),
            *itertools.chain.from_iterable(
                mount_words(sources[mount.source], mount) for mount in (*system, *run.mounts)
            ),
            *(self._podmans(run, uid, made) if self._engine.takes_folders else self._dockers(run, uid, made)),
            *inside_words(run, self._engine.init),
        )
        return Start(
            argv=self._engine.run_words(self._runtime, words),
            environment=engine_environment(os.environ),
            limits=run.limits,
            directory=folder,  # where conmon, podman's companion, leaves a file when it hears of want of memory
            stage=stage,
            binds=binds,
            furniture=made,
            container=name,
            epilogue=self._engine.epilogue(name, self._runtime),
        )

    def _sources(
        self, mounts: tuple[Mount, ...], stage: str, uid: int | None
    ) -> tuple[dict[Path, str], tuple[Bind, ...]]:
        """Where the engine finds what is mounted. Docker's daemon is root and finds everything."""
        wanted = {mount.source: mount.writable for mount in mounts}
        if self._engine.takes_folders:
            return find_sources(wanted, stage, uid)
        return {path: os.path.realpath(path) for path in wanted}, ()

    def _podmans(self, run: SandboxRun, uid: int | None, made: Furniture) -> Iterator[str]:
        yield from (*deadline_words(run.limits), *mapped_user(uid), "--rootfs", made.folder, "/bin/sh")

    def _dockers(self, run: SandboxRun, uid: int | None, made: Furniture) -> Iterator[str]:
        if run.root is None:
            raise SandboxUnavailable(
                "docker runs root filesystems alone, and this target stands on this machine's /usr.",
                hint="Define it with another --from, or with --sandbox bubblewrap or podman.",
            )
        for name in top_level(made, run.mounts):
            yield from mount_words(f"{made.folder}/{name}", Mount(source=Path(made.folder, name), target=f"/{name}"))
        user = os.getuid() if uid is None else uid
        yield from ("--user", f"{user}:{user}", "--entrypoint", "/bin/sh", self._image(run.root))

    def _image(self, root: Root) -> str:
        """The id of the image of a root filesystem, which is made of its archive where it is not there."""
        name = f"wheelfarm-root:{root.sha256}"
        look = ("image", "inspect", "--format", "{{.Id}}", name)
        with suppress(SandboxUnavailable):
            return self._ask(*look)
        self._ask("import", str(root.archive), name)
        return self._ask(*look)


class ContainerFiles:
    """What containers are shown that lies nowhere as it is: their users, and an /etc that engines can mount into."""

    def __init__(self, work_dir: Path) -> None:
        self._work_dir = work_dir
        self._folder: Path | None = None
        self._lock = threading.Lock()

    @property
    def seccomp(self) -> Path:
        """The profile of system calls."""
        return self._made("seccomp.json", lambda path: _write(path, content=seccomp_profile()))

    def system(self, run: SandboxRun, uid: int | None) -> Iterator[Mount]:
        """The mounts of a run's system: the root filesystem's folders, or the host's and the interpreter's."""
        if run.root is not None:
            for name, link in root_entries(run.root.folder):
                if not link and name != "etc" and (uid is None or is_readable(run.root.folder / name)):
                    yield Mount(source=run.root.folder / name, target=f"/{name}")
            yield Mount(source=self._etc(run.root), target="/etc")
        else:
            for name, link in host_entries(Path("/")):
                if not link:
                    yield Mount(source=Path("/", name), target=f"/{name}")
            for path in (Path("/etc", name) for name in ETC):
                if path.exists():
                    yield Mount(source=path, target=str(path))
            yield from self.users(run, None)
        if (prefix := own_prefix(run)) is not None:
            if uid is not None:
                require_readable(*interpreter_parts(prefix))
            yield Mount(source=prefix, target=str(prefix))

    def links(self, run: SandboxRun) -> Iterator[tuple[str, str]]:
        """The links at the top level of a run's system."""
        entries = host_entries(Path("/")) if run.root is None else root_entries(run.root.folder)
        return ((name, link) for name, link in entries if link)

    def users(self, run: SandboxRun, uid: int | None) -> Iterator[Mount]:
        """The files that name the run's user, who has the number `uid` inside where that is given."""
        number = str(INSIDE_UID if uid is None else uid)
        for name, content in (("passwd", PASSWD), ("group", GROUP)):
            text = content.replace(str(INSIDE_UID).encode(), number.encode())
            path = self._made(f"{name}-{number}", partial(_write, content=text))
            yield Mount(source=path, target=f"/etc/{name}")

    def remove(self) -> None:
        """Remove them."""
        if self._folder is not None:
            remove_tree(self._folder)

    def _etc(self, root: Root) -> Path:
        def copy(path: Path) -> None:
            shutil.copytree(root.folder / "etc", path, symlinks=True, copy_function=_copy_readable)
            path.chmod(0o755)
            for name, content in (("passwd", PASSWD), ("group", GROUP), *((name, b"") for name in _ENGINES_OWN)):
                (path / name).unlink(missing_ok=True)
                _write(path / name, content=content)

        return self._made(f"etc-{root.sha256[:40]}", copy)

    def _made(self, name: str, make: Callable[[Path], None]) -> Path:
        """A file or folder of that name, made when it is first asked for."""
        with self._lock:
            if self._folder is None:
                self._folder = Path(mkdtemp(prefix="containers-", dir=self._work_dir))
                self._folder.chmod(0o755)
            path = self._folder / name
            if not path.exists():
                unfinished = path.with_name(f".{name}")
                make(unfinished)
                unfinished.replace(path)
            return path


def _write(path: Path, *, content: bytes) -> None:
    path.write_bytes(content)
    path.chmod(0o644)


def _copy_readable(source: str, target: str) -> None:
    """Copy a file; one that this user may not read is none of a build's either."""
    with suppress(PermissionError):
        shutil.copy2(source, target)


def _worker_of(container: str) -> str:
    return container.split("-")[1] if container.count("-") > 1 else ""


def _claim_of(worker: str) -> str:
    return f"wheelfarm-containers-{worker}"
