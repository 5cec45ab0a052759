"""Attending one run: reads what it writes, within bounds, until the spawner reports its end."""

import fcntl
import os
import selectors
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import BinaryIO

from wheelfarm_workers.sandbox import Ending, Limits
from wheelfarm_workers.sandbox.protocol import KILL, REPORT_BYTES, Report, decode_report

KILLED = -9
_POLL_S = 0.1
_CHUNK_BYTES = 64 << 10
_RESULT_PIPE_BYTES = 1 << 20
_DRAIN_READS = 1024
_LAST_BREATH_S = 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Ends:
    """One side of what connects the worker with a run: the channel, and the pipes for the log and for the result."""

    channel: socket.socket
    log: int
    result: int

    def close(self) -> None:
        self.channel.close()
        os.close(self.log)
        os.close(self.result)


def open_ends() -> tuple[Ends, Ends]:
    """The worker's side, not blocking, and the run's."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    log, log_writer = os.pipe()
    result, result_writer = os.pipe()
    with suppress(OSError):  # only faster; users have a quota of pipe memory
        fcntl.fcntl(result, fcntl.F_SETPIPE_SZ, _RESULT_PIPE_BYTES)
    for fd in (log, result):
        os.set_blocking(fd, False)
    return Ends(channel=ours, log=log, result=result), Ends(channel=theirs, log=log_writer, result=result_writer)


class Attendance:
    """The reader of one run. It never waits for EOF of a pipe, which any process left over could hold open.

    `clean_up_lost` is called when the spawner died: it kills what the kernel does not.
    """

    def __init__(
        self,
        ends: Ends,
        limits: Limits,
        *,
        log: Callable[[bytes], None],
        result: BinaryIO,
        clean_up_lost: Callable[[], None],
    ) -> None:
        self._ends = ends
        self._log, self._log_room = log, limits.log_bytes
        self._result, self._result_room = result, limits.result_bytes
        self._verdict: Ending | None = None
        self._clean_up_lost = clean_up_lost
        self._selector = selectors.DefaultSelector()
        self._selector.register(ends.channel, selectors.EVENT_READ)
        self._selector.register(ends.log, selectors.EVENT_READ, self._read_log)
        self._selector.register(ends.result, selectors.EVENT_READ, self._read_result)

    def until_report(self, cancelled: threading.Event) -> Report:
        """Read until the report comes, then what is left in the pipes."""
        with self._selector:
            report = self._read_until_report(cancelled)
            if report.ending is Ending.LOST:
                self._clean_up_lost()
                self._read_until_eof()
            self._drain()
        return replace(report, ending=self._verdict or report.ending)

    def abandon(self) -> None:
        """Have the run killed and wait for its end without reading on."""
        self._stop(Ending.CANCELLED)
        with suppress(OSError):
            self._ends.channel.recv(REPORT_BYTES)

    def _read_until_report(self, cancelled: threading.Event) -> Report:
        while True:
            if cancelled.is_set():
                self._stop(Ending.CANCELLED)
            for key, _ in self._selector.select(_POLL_S):
                if key.data is None:
                    return self._receive()
                if not key.data():
                    self._selector.unregister(key.fd)

    def _receive(self) -> Report:
        try:
            packet = self._ends.channel.recv(REPORT_BYTES)
        except ConnectionResetError:
            packet = b""
        return decode_report(packet) if packet else Report(ending=Ending.LOST, returncode=KILLED)

    def _read_until_eof(self) -> None:
        """Without a spawner only EOF shows that the processes have ended; the kernel kills them about now."""
        self._selector.unregister(self._ends.channel)
        deadline = time.monotonic() + _LAST_BREATH_S
        while self._selector.get_map() and time.monotonic() < deadline:
            for key, _ in self._selector.select(_POLL_S):
                if not key.data():
                    self._selector.unregister(key.fd)

    def _drain(self) -> None:
        for read in (self._read_log, self._read_result):
            for _ in range(_DRAIN_READS):
                try:
                    if not read():
                        break
                except BlockingIOError:
                    break

    def _read_log(self) -> bool:
        """Pass a chunk on; False at EOF."""
        chunk = os.read(self._ends.log, _CHUNK_BYTES)
        if kept := chunk[: self._log_room]:
            self._log(kept)
        self._log_room -= len(kept)
        if len(kept) < len(chunk):
            self._stop(Ending.LOG_LIMIT)
        return bool(chunk)

    def _read_result(self) -> bool:
        """Store a chunk; False at EOF."""
        chunk = os.read(self._ends.result, _CHUNK_BYTES)
        kept = chunk[: self._result_room]
        self._result.write(kept)
        self._result_room -= len(kept)
        if len(kept) < len(chunk):
            self._stop(Ending.RESULT_LIMIT)
        return bool(chunk)

    def _stop(self, verdict: Ending) -> None:
        if self._verdict is None:
            self._verdict = verdict
            with suppress(OSError):  # it has ended
                self._ends.channel.send(KILL)
