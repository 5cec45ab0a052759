"""The process of one thread that starts, watches and ends all sandboxes of a worker.

`python -m wheelfarm_workers.sandbox.spawner FD [--no-cgroups]`, where FD is a unix socket to the worker (see
protocol.py). It is a process of its own because the kernel kills a sandbox when the *thread* that started it ends,
and it ends all of them when the worker is gone, however that died.
"""

import io
import itertools
import os
import re
import resource
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from wheelfarm_workers.clearing import remove_tree
from wheelfarm_workers.sandbox import Ending, linux, processes
from wheelfarm_workers.sandbox.limits import (
    WATCHDOG,
    Cgroup,
    Cgroups,
    RLimits,
    open_cgroups,
    resource_limits,
    set_resource_limits,
)
from wheelfarm_workers.sandbox.protocol import (
    NO_CGROUPS,
    OUT_OF_MEMORY,
    STATUS,
    UNSTARTED,
    Descriptor,
    Hello,
    Report,
    Start,
    Word,
    decode_start,
    encode,
)
from wheelfarm_workers.sandbox.stage import STAGE, clear_away, enter_private_namespace, furnish, lay_out, make_stage

_UNSTARTED = "the container was not started; what the engine said of that is in the log"
_WATCH_S = 0.25
_PACKET_BYTES = 4096
_INIT = re.compile(rb'"child-pid": (\d+)')


@dataclass(kw_only=True, slots=True)
class Running:
    """A run between its start and its report; it is over when all of `watched` (pidfds) have ended."""

    start: Start
    child: subprocess.Popen[bytes]
    channel: socket.socket
    info: io.FileIO
    cgroup: Cgroup | None
    started: float
    ending: Ending = Ending.EXITED
    watched: set[int] = field(default_factory=set)
    epilogue: "Epilogue | None" = None

    @property
    def deadline(self) -> float:
        return self.started + self.start.limits.wall_s

    @property
    def is_watched_over(self) -> bool:
        """Whether nobody else holds it to its memory."""
        return self.cgroup is None and not self.start.container

    @property
    def goes_on(self) -> bool:
        return self.ending is Ending.EXITED and self.child.returncode is None


@dataclass(frozen=True, kw_only=True, slots=True)
class Epilogue:
    """What is run after a run, and the file that it prints to."""

    child: subprocess.Popen[bytes]
    output: int

    def said(self) -> str:
        """What it printed, now that it has ended; to be asked once."""
        self.child.wait()
        with os.fdopen(self.output, "rb") as file:
            file.seek(0)
            return file.read(_PACKET_BYTES).decode(errors="replace").strip()


class Spawner:
    """The loop: every event is a readable descriptor, whose callback is kept with the selector."""

    def __init__(self, control: socket.socket, cgroups: Cgroups | None) -> None:
        self._control = control
        self._cgroups = cgroups
        self._runs: list[Running] = []
        self._numbers = itertools.count()
        self._selector = selectors.DefaultSelector()
        self._selector.register(control, selectors.EVENT_READ, self._read_control)
        self._worker_is_there = True

    def serve(self) -> None:
        """Serve until the worker is gone and all runs have ended."""
        next_watch = time.monotonic()
        while self._worker_is_there or self._runs:
            for key, _ in self._selector.select(self._patience()):
                callback: Callable[[], None] = key.data
                callback()
            now = time.monotonic()
            for running in [run for run in self._runs if run.goes_on and run.deadline <= now]:
                self._kill(running, Ending.TIMEOUT)
            if next_watch <= now:
                next_watch = now + _WATCH_S
                self._watch_memory()

    def _patience(self) -> float | None:
        waits = [run.deadline - time.monotonic() for run in self._runs if run.goes_on]
        waits += [_WATCH_S for run in self._runs if run.goes_on and run.is_watched_over]
        return max(0.0, min(waits)) if waits else None

    def _read_control(self) -> None:
        data, fds, _, _ = socket.recv_fds(self._control, _PACKET_BYTES, len(Descriptor) + 1)
        if not data:
            self._worker_is_there = False
            self._selector.unregister(self._control)
            for running in self._runs:
                self._kill(running, Ending.CANCELLED)
            return
        message, *received = fds
        descriptors = dict(zip(Descriptor, received, strict=False))
        channel = socket.socket(fileno=descriptors.pop(Descriptor.CHANNEL))
        try:
            self._start(message, descriptors, channel)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            _send(channel, Report(trouble=str(error)))
            channel.close()
        finally:
            for fd in (message, *descriptors.values()):
                os.close(fd)

    def _start(self, message: int, descriptors: dict[Descriptor, int], channel: socket.socket) -> None:
        with os.fdopen(message, "rb", closefd=False) as file:
            start = decode_start(file.read())
        cgroup = self._cgroups.make(f"run-{next(self._numbers)}", start.limits) if self._cgroups else None
        try:
            started = time.monotonic()
            if start.stage:
                lay_out(Path(start.stage), start.binds)
            if start.furniture:
                furnish(start.furniture)
            child, info = _spawn(start, descriptors, cgroup)
        except BaseException:
            _tidy(start, cgroup)
            raise
        running = Running(start=start, child=child, channel=channel, info=info, cgroup=cgroup, started=started)
        self._runs.append(running)
        self._watch(running, os.pidfd_open(child.pid))
        self._selector.register(info, selectors.EVENT_READ, partial(self._watch_init, running))
        self._selector.register(channel, selectors.EVENT_READ, partial(self._kill, running, Ending.CANCELLED))

    def _watch(self, running: Running, pidfd: int) -> None:
        running.watched.add(pidfd)
        self._selector.register(pidfd, selectors.EVENT_READ, partial(self._process_ended, running, pidfd))

    def _watch_init(self, running: Running) -> None:
        """Watch init of bwrap's pid namespace: it ends after all who live there, and often after bwrap.

        The pipe stays open, for bwrap has more to say on it and would die of SIGPIPE.
        """
        if running.info.closed or running.info not in self._selector.get_map():  # it was done in this turn
            return
        self._selector.unregister(running.info)
        with suppress(OSError):  # it has ended
            if found := _INIT.search(running.info.read(_PACKET_BYTES) or b""):
                self._watch(running, os.pidfd_open(int(found[1])))

    def _kill(self, running: Running, ending: Ending) -> None:
        """Kill the process group of the child, with bubblewrap's init and so all of its namespace among them."""
        self._stop_listening(running)
        if running.goes_on:
            running.ending = ending
            with suppress(ProcessLookupError):
                os.killpg(running.child.pid, signal.SIGKILL)

    def _process_ended(self, running: Running, pidfd: int) -> None:
        self._selector.unregister(pidfd)
        os.close(pidfd)
        running.watched.remove(pidfd)
        if running.child.poll() is not None:
            self._kill_init(running)
        if not running.watched and running.start.epilogue and running.epilogue is None:
            running.epilogue = _begin_epilogue(running)
            self._watch(running, os.pidfd_open(running.epilogue.child.pid))
        if not running.watched:
            self._kill_survivors(running)
        if not running.watched:
            self._finish(running)

    def _kill_init(self, running: Running) -> None:
        """Kill the namespace's init, which should have died with bwrap, but sleeps for ever if that died early."""
        self._watch_init(running)
        for pidfd in running.watched:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)

    def _kill_survivors(self, running: Running) -> None:
        """Kill what the child left behind, and watch it end."""
        for pid in _survivors(running):
            with suppress(OSError):  # it has ended
                pidfd = os.pidfd_open(pid)
                if pid in _survivors(running):  # so the number had not changed hands when the pidfd was opened
                    self._watch(running, pidfd)
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                else:
                    os.close(pidfd)

    def _finish(self, running: Running) -> None:
        duration_s = time.monotonic() - running.started
        self._runs.remove(running)
        self._stop_listening(running)
        said = running.epilogue.said() if running.epilogue else ""
        trouble = _UNSTARTED if said == UNSTARTED and running.ending is Ending.EXITED else ""
        report = Report(
            ending=_ending(running), returncode=running.child.wait(), duration_s=duration_s, trouble=trouble
        )
        _tidy(running.start, running.cgroup)
        _send(running.channel, report)
        running.channel.close()
        running.info.close()

    def _stop_listening(self, running: Running) -> None:
        with suppress(KeyError, ValueError):  # it was done before, or the channel is closed
            self._selector.unregister(running.channel)

    def _watch_memory(self) -> None:
        for running in self._runs:
            if running.is_watched_over and running.goes_on and _is_too_large(running):
                self._kill(running, Ending.MEMORY)


def _is_too_large(running: Running) -> bool:
    return processes.resident_bytes(running.child.pid) > running.start.limits.memory_bytes


def _survivors(running: Running) -> list[int]:
    start = running.start
    found = running.cgroup.pids() if running.cgroup else []
    found += processes.marked_pids(start.marker) if start.marker else []
    return found + (processes.named_pids(start.container) if start.container else [])


def _ending(running: Running) -> Ending:
    """An exit becomes MEMORY if the kernel killed for want of memory and the command did not get over it."""
    returncode = running.child.wait()
    if running.ending is not Ending.EXITED or returncode == 0:
        return running.ending
    in_container = bool(running.start.container) and returncode == OUT_OF_MEMORY
    in_cgroup = running.cgroup is not None and running.cgroup.ran_out_of_memory()
    return Ending.MEMORY if in_container or in_cgroup else Ending.EXITED


def _begin_epilogue(running: Running) -> Epilogue:
    output = os.memfd_create("wheelfarm")
    environment = {name: str(value) for name, value in running.start.environment.items()}
    child = subprocess.Popen(
        running.start.epilogue,
        env={**environment, STATUS: str(running.child.returncode)},
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    return Epilogue(child=child, output=output)


def _tidy(start: Start, cgroup: Cgroup | None) -> None:
    if cgroup:
        cgroup.remove()
    with suppress(OSError):
        if start.stage:
            clear_away(Path(start.stage))
        elif start.furniture:
            remove_tree(Path(start.furniture.folder))


def _send(channel: socket.socket, message: Report) -> None:
    with suppress(OSError):  # the worker died
        channel.send(encode(message))


def _spawn(
    start: Start, descriptors: dict[Descriptor, int], cgroup: Cgroup | None
) -> tuple[subprocess.Popen[bytes], io.FileIO]:
    """The process, and the pipe on which bwrap says what it started."""
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        return _execute(start, {**descriptors, Descriptor.INFO: writer}, cgroup), io.FileIO(reader)
    except BaseException:
        os.close(reader)
        raise
    finally:
        os.close(writer)


def _execute(start: Start, descriptors: dict[Descriptor, int], cgroup: Cgroup | None) -> subprocess.Popen[bytes]:
    words = (*start.argv, *start.environment.values())
    numbers = {word: str(fd) for word, fd in descriptors.items()}
    rlimits = None if start.container else _resource_limits(start, cgroup)
    return subprocess.Popen(
        [_spell(word, numbers) for word in start.argv],
        env={name: _spell(word, numbers) for name, word in start.environment.items()},
        cwd=start.directory,
        stdin=descriptors[Descriptor.INPUT],
        stdout=descriptors[Descriptor.LOG],
        stderr=subprocess.STDOUT,
        pass_fds=[fd for word, fd in descriptors.items() if word in words],
        start_new_session=True,
        umask=0o022,
        preexec_fn=partial(_become, start.uid, cgroup, rlimits, os.getpid()),
    )


def _spell(word: Word, numbers: dict[Descriptor, str]) -> str:
    return numbers[word] if isinstance(word, Descriptor) else word


def _resource_limits(start: Start, cgroup: Cgroup | None) -> RLimits:
    shared = start.uid is None and cgroup is None
    rlimits = resource_limits(start.limits, other_tasks=processes.task_count(os.getuid()) if shared else 0)
    if cgroup:
        del rlimits[resource.RLIMIT_NPROC]  # the cgroup counts the run's processes, this all of the user's
    return rlimits


def _become(uid: int | None, cgroup: Cgroup | None, rlimits: RLimits | None, parent: int) -> None:
    """Turn this forked process into the sandbox's: its cgroup, limits and user, and no life without the spawner. The
    client of an engine, which has no limits of its own, keeps its rights."""
    try:
        if cgroup:
            cgroup.enter()
        if rlimits is not None:
            set_resource_limits(rlimits)
            linux.forgo_privileges()
        if uid is not None:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
        linux.die_with_parent(signal.SIGKILL)  # last: a change of user resets it
    except OSError as error:
        os.write(2, f"wheelfarm: the sandbox can't be started: {error}\n".encode())  # Popen tells no reason
        raise
    if os.getppid() != parent:
        os._exit(1)


def _ignore_signals() -> None:
    """Outlive a terminal's ^C and a service manager's SIGTERM to the group: the worker decides when this ends.

    A handler and not SIG_IGN, which the sandboxes would inherit.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)


def _prepare_stage() -> str:
    if os.getuid() != 0:
        return ""
    try:
        enter_private_namespace()
        make_stage()
    except PermissionError:  # root of a container without CAP_SYS_ADMIN: only what is reachable can be shown
        return ""
    return str(STAGE)


def main(fd: int, *, use_cgroups: bool) -> None:
    """Greet the worker and serve it."""
    _ignore_signals()
    os.umask(0o022)
    control = socket.socket(fileno=fd)
    control.set_inheritable(False)
    stage = _prepare_stage()
    cgroups = open_cgroups() if use_cgroups else None
    memory_limit = f"cgroup v{cgroups.version}" if cgroups else WATCHDOG
    control.send(encode(Hello(memory_limit=memory_limit, stage=stage)))
    Spawner(control, cgroups).serve()
    if cgroups:
        cgroups.remove()


if __name__ == "__main__":
    main(int(sys.argv[1]), use_cgroups=NO_CGROUPS not in sys.argv)
