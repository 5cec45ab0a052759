"""The worker's end of the spawner: starts it and hands it commands."""

import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from wheelfarm.errors import SandboxUnavailable
from wheelfarm_workers.sandbox import Ending, SandboxResult, processes
from wheelfarm_workers.sandbox.attendance import KILLED, Attendance, open_ends
from wheelfarm_workers.sandbox.protocol import (
    NO_CGROUPS,
    REPORT_BYTES,
    STATUS,
    Hello,
    Report,
    Start,
    decode_hello,
    encode,
)

_BEGIN_S = 30.0
_END_S = 10.0
_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH")

Log = Callable[[bytes], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Session:
    """A spawner and what it said of itself."""

    process: subprocess.Popen[bytes]
    control: socket.socket
    hello: Hello

    def end(self) -> None:
        _end(self.process, self.control)


class SpawnerLink:
    """The spawner of one back end, started when it is needed first and again after its death."""

    def __init__(self, work_dir: Path, *, use_cgroups: bool) -> None:
        self._work_dir = work_dir
        self._use_cgroups = use_cgroups
        self._lock = threading.Lock()
        self._session: _Session | None = None
        self._is_closed = False

    def connect(self) -> Hello:
        """What the spawner says of itself. Raises SandboxUnavailable if none can be started."""
        with self._lock:
            return self._living_session().hello

    def run(
        self, start: Start, *, input: bytes, files: tuple[bytes, ...] = (), log: Log, cancelled: threading.Event
    ) -> SandboxResult:
        """Have the command run and attend it to its end; `files` become the descriptors from SECCOMP on.

        Raises SandboxUnavailable if it could not be started.
        """
        result = tempfile.TemporaryFile(dir=self._work_dir)  # noqa: SIM115 - the caller closes it
        try:
            report = self._attend(start, (input, *files), log, result, cancelled)
            result.seek(0)
        except BaseException:
            result.close()
            raise
        return SandboxResult(
            ending=report.ending, returncode=report.returncode, result=result, duration_s=report.duration_s
        )

    def close(self) -> None:
        """End the spawner and so all of its runs; no new one is started."""
        with self._lock:
            self._is_closed = True
            self._drop()

    def _hand_over(self, descriptors: list[int]) -> None:
        """Send a start message. If the spawner dies meanwhile, the run's channel will tell."""
        with self._lock, suppress(BrokenPipeError, ConnectionResetError):
            socket.send_fds(self._living_session().control, [b"start"], descriptors)

    def _living_session(self) -> _Session:
        """The session, a new one if the spawner has died; to be called and used under the lock."""
        if self._session and self._session.process.poll() is not None:
            self._drop()
        if self._is_closed:
            raise SandboxUnavailable("The sandboxes of this worker are closed, for it is ending.")
        if self._session is None:
            self._session = _begin(use_cgroups=self._use_cgroups)
        return self._session

    def _drop(self) -> None:
        if self._session:
            self._session.end()
            self._session = None

    def _attend(
        self, start: Start, files: tuple[bytes, ...], log: Log, result: BinaryIO, cancelled: threading.Event
    ) -> Report:
        ours, theirs = open_ends()
        with ExitStack() as stack:
            stack.callback(ours.close)
            with ExitStack() as handed_over:
                handed_over.callback(theirs.close)
                message, stdin, *others = [_memory_file(content, handed_over) for content in (encode(start), *files)]
                descriptors = [message, theirs.channel.fileno(), stdin, theirs.log, theirs.result, *others]
                self._hand_over(descriptors)
            end = partial(_end_what_is_left, start)
            attendance = Attendance(ours, start.limits, log=log, result=result, clean_up_lost=end)
            try:
                report = attendance.until_report(cancelled)
            except BaseException:
                attendance.abandon()
                raise
        if report.trouble:
            raise SandboxUnavailable(f"The sandbox can't be started: {report.trouble}")
        return report


def cancelled_result(work_dir: Path) -> SandboxResult:
    """The result of a run that was cancelled before it had a slot."""
    file = tempfile.TemporaryFile(dir=work_dir)  # noqa: SIM115 - the caller closes it
    return SandboxResult(ending=Ending.CANCELLED, returncode=KILLED, result=file, duration_s=0.0)


def _end_what_is_left(start: Start) -> None:
    """End what a run has left whose spawner died, and which the kernel does not."""
    if start.marker:
        processes.kill_all(processes.marked_pids(start.marker))
    if start.container:
        environment = {name: str(value) for name, value in start.environment.items()}
        subprocess.run(
            start.epilogue, env={**environment, STATUS: "0"}, stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
        processes.kill_all(processes.named_pids(start.container))


def _memory_file(content: bytes, stack: ExitStack) -> int:
    """A descriptor at position 0 of a file in memory. Every reader needs its own: they would share the position."""
    fd = os.memfd_create("wheelfarm")
    stack.callback(os.close, fd)
    os.write(fd, content)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _begin(*, use_cgroups: bool) -> _Session:
    """Start a spawner, in a session of its own and without the worker's environment, and hear its greeting."""
    control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    options = [] if use_cgroups else [NO_CGROUPS]
    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "wheelfarm_workers.sandbox.spawner", str(theirs.fileno()), *options],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
            env={**environment, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
    control.settimeout(_BEGIN_S)
    try:
        packet = control.recv(REPORT_BYTES)
    except OSError:
        packet = b""
    if not packet:
        _end(process, control)
        raise SandboxUnavailable(
            "The process that starts the sandboxes ended before it was ready.",
            hint="Its traceback is in the worker's output; report it as a bug.",
        )
    control.settimeout(None)
    return _Session(process=process, control=control, hello=decode_hello(packet))


def _end(process: subprocess.Popen[bytes], control: socket.socket) -> None:
    control.close()
    try:
        process.wait(_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
