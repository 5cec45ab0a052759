"""The keeper of a farm on one machine: its parts under one supervisor, and the commands that are attached to it.

An embedded farm ends when its last command has left, that of `wheelfarm up` when it is told to. Standard library only.
"""

import contextlib
import fcntl
import json
import os
import secrets
import selectors
import signal
import socket
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from wheelfarm.broker import broker_command
from wheelfarm.embedded import RuntimeFolder, rules_of
from wheelfarm.errors import WheelfarmError
from wheelfarm.settings import Settings
from wheelfarm.supervision import Part, Supervisor, say_on_stderr
from wheelfarm.target import HOST_QUEUE

_END_S = 0.5
_GRACE_S = (("services", 10.0),)
"""Services bring pages up to date as they end."""
_LISTENED_S = 1.0


@dataclass(kw_only=True, slots=True)
class Keeper:
    """The farm's parts and the commands attached to it. One that is `lasting` waits for no command."""

    folder: RuntimeFolder
    listener: socket.socket
    url: str
    token: str
    rules: dict[str, str]
    lasting: bool = False
    selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    connections: set[socket.socket] = field(default_factory=set)
    supervisor: Supervisor = field(init=False)
    used: bool = False

    def __post_init__(self) -> None:
        hint = "" if self.lasting else f"Its log: {self.folder.log}"
        self.supervisor = Supervisor(self.selector, lasting=self.lasting, say=say_on_stderr, hint=hint)

    def run(self, parts: Iterable[Part], *, grace_s: Sequence[tuple[str, float]] = ()) -> None:
        """Serve until the last command has left. Returns holding the store's lock, for no other may start before.

        Of a lasting farm a part that can't start is raised.
        """
        self.selector.register(self.listener, selectors.EVENT_READ)
        try:
            for part in parts:
                self.supervisor.start(part)
            while not (self.is_over and self.may_end()):
                for key, _ in self.selector.select(timeout=min(_LISTENED_S, self.supervisor.patience_s())):
                    self.handle(key.fileobj)
                self.supervisor.start_due()
        except WheelfarmError as error:
            self.tell(error)
            if self.lasting:
                raise
        finally:
            self.listener.close()
            self.folder.socket.unlink(missing_ok=True)
            self.supervisor.end(grace_s, rest_s=_END_S)

    @property
    def is_over(self) -> bool:
        """Whether the last command has left."""
        return not self.lasting and self.used and not self.connections

    def handle(self, source: object) -> None:
        """React to one thing that happened: a command came or left, or a part died."""
        if source is self.listener:
            self.greet()
        elif isinstance(source, socket.socket):
            self.forget_who_left()
        elif (part := self.supervisor.part_of(source)) is not None:
            self.supervisor.bury(part)

    def greet(self) -> None:
        """Tell a command that came where the farm is. One that comes after the last has left is told that this farm
        ends: it gets one of its own, by what its settings and their files say now."""
        connection, _ = self.listener.accept()
        self.forget_who_left()
        if self.is_over:
            with connection, contextlib.suppress(OSError):
                connection.sendall(json.dumps({"ends": True}).encode() + b"\n")
            return
        self.connections.add(connection)
        self.selector.register(connection, selectors.EVENT_READ)
        self.used = True
        hello = {"url": self.url, "token": self.token, "rules": self.rules}
        with contextlib.suppress(OSError):  # a command that was killed right after it came
            connection.sendall(json.dumps(hello).encode() + b"\n")

    def forget_who_left(self) -> None:
        for connection in [one for one in self.connections if has_left(one)]:
            self.selector.unregister(connection)
            self.connections.discard(connection)
            connection.close()

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


def embedded_parts(folder: RuntimeFolder, api: socket.socket, url: str, token: str) -> list[Part]:
    """The parts of an embedded farm. It has no clients from before its time: theirs ended with the farm that they were
    attached to."""
    farm = {
        "WHEELFARM_BROKER": f"redis+socket://{folder.broker_socket}",
        "WHEELFARM_URL": url,
        "WHEELFARM_TOKEN": token,
    }
    environment = {**os.environ, **farm, "PYTHONUNBUFFERED": "1"}
    since = ("--embedded-since", str(time.time()))
    return [
        Part(name="broker", command=broker_command(folder.broker_socket, folder.path), environment=environment),
        Part(
            name="services",
            command=(sys.executable, "-m", "wheelfarm_services", "--json", "--fd", str(api.fileno()), *since),
            environment=environment,
            inherited=(api.fileno(),),
        ),
        Part(
            name="worker",
            command=(sys.executable, "-m", "wheelfarm_workers", HOST_QUEUE, "--json"),
            environment={**environment, "WHEELFARM_WORKER": "embedded", "WHEELFARM_DRAIN_S": "0"},
        ),
    ]


def has_left(connection: socket.socket) -> bool:
    """Whether a command, which never says anything, has ended."""
    try:
        return not connection.recv(4096, socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:  # it ended before it read what it was told
        return True


def selectors_ready(listener: socket.socket) -> bool:
    """Whether a connection waits to be accepted."""
    with selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        return bool(selector.select(timeout=0))


def listen_for_commands(folder: RuntimeFolder) -> socket.socket:
    """The keeper's own socket; to be called under the folder's lock."""
    folder.socket.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder.socket))
    listener.listen(64)
    return listener


def listen_on_loopback(folder: RuntimeFolder) -> socket.socket:
    """The API's socket, at the port of the last farm where it is free."""
    try:
        last = int(folder.port.read_text())
        api = socket.create_server(("127.0.0.1", last), backlog=256)
    except (OSError, ValueError, OverflowError):
        api = socket.create_server(("127.0.0.1", 0), backlog=256)
    folder.port.write_text(str(api.getsockname()[1]))
    return api


def main() -> None:
    """`python -m wheelfarm.keeper FOLDER FD`: keep the farm of that runtime folder; "listening" goes to FD."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    folder = RuntimeFolder(path=Path(sys.argv[1]))
    listener, api = listen_for_commands(folder), listen_on_loopback(folder)
    url, token = f"http://127.0.0.1:{api.getsockname()[1]}", secrets.token_urlsafe(32)
    rules = rules_of(Settings.from_environment(os.environ))
    keeper = Keeper(folder=folder, listener=listener, url=url, token=token, rules=rules)
    with os.fdopen(int(sys.argv[2]), "w") as starter:
        starter.write("listening\n")
    try:
        parts = embedded_parts(folder, api, url, token)
    except WheelfarmError as error:
        keeper.tell(error)
        return
    keeper.run(parts, grace_s=_GRACE_S)


if __name__ == "__main__":
    main()
