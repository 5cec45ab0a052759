"""The embedded farm: the distributed one with small parts, kept by one process a store while a command uses it.

The first command starts the keeper under a lock; later ones attach. An attached command is an open connection to the
keeper's socket, which the kernel closes however the command ends; with the last connection the farm ends.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import select
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from wheelfarm.errors import FarmUnavailable, WheelfarmError, error_from_json
from wheelfarm.known_policy import local_recipes
from wheelfarm.parts import environment_of, is_installed
from wheelfarm.settings import Settings

_SOCKET_PATH_BYTES = 100
_ENDS_S = 0.02
"""How long a farm that ends is left alone before it is seen whether it has ended."""
_RULES = (
    "WHEELFARM_INDEX",
    "WHEELFARM_OFFLINE",
    "WHEELFARM_POLICY",
    "WHEELFARM_RECIPES",
    "WHEELFARM_SANDBOX",
    "WHEELFARM_TARGETS",
    "WHEELFARM_UPSTREAMS",
)
"""Not WHEELFARM_ON_DEMAND: no command's result depends on it, so those that lack it may use a farm that has it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RuntimeFolder:
    """Where a store's farm keeps its lock, its sockets and its log: private to the user, short enough for sockets."""

    path: Path

    @property
    def lock(self) -> Path:
        return self.path / "lock"

    @property
    def socket(self) -> Path:
        return self.path / "keeper.sock"

    @property
    def broker_socket(self) -> Path:
        return self.path / "valkey.sock"

    @property
    def port(self) -> Path:
        """Holds the port of the last farm: uv's cache goes by URL, so the next one listens there again."""
        return self.path / "port"

    @property
    def log(self) -> Path:
        return self.path / "farm.log"


class EmbeddedFarm:
    """A command's attachment to the farm of its store."""

    def __init__(self, connection: socket.socket, hello: Mapping[str, Any]) -> None:
        self._connection = connection
        self.url = str(hello["url"])
        self.token = str(hello["token"])

    def check(self) -> None:
        """Raise what the keeper has to tell: a part of the farm that does not start, or the keeper's own end."""
        if select.select([self._connection], [], [], 0)[0]:
            raise _told(self._connection.recv(65536))


@contextlib.contextmanager
def attached(settings: Settings) -> Iterator[EmbeddedFarm]:
    """Attach to the store's farm, starting it where none runs. Raises the reason when it does not start."""
    folder = runtime_folder(settings.store, os.environ)
    while True:
        with _connect(settings, folder) as connection:
            if (farm := _greeted(connection, rules_of(settings))) is not None:
                yield farm
                return
        time.sleep(_ENDS_S)


@contextlib.contextmanager
def attached_if_running(settings: Settings) -> Iterator[EmbeddedFarm | None]:
    """Attach to the store's farm where one runs; None where it would have to be started."""
    folder = runtime_folder(settings.store, os.environ)
    with contextlib.ExitStack() as stack:
        with folder.lock.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            connection = stack.enter_context(socket.socket(socket.AF_UNIX))
            runs = connection.connect_ex(str(folder.socket)) == 0
        yield _greeted(connection) if runs else None


def rules_of(settings: Settings) -> dict[str, str]:
    """The settings that decide what the farm of a store may take from where, and how it builds; with the contents of
    recipes, which a farm reads as it starts."""
    environment = environment_of(settings)
    rules = {name: environment.get(name, "") for name in _RULES}
    return {**rules, "WHEELFARM_RECIPES": rules["WHEELFARM_RECIPES"] + local_recipes(settings)}


def _greeted(connection: socket.socket, rules: Mapping[str, str] | None = None) -> EmbeddedFarm | None:
    """The farm that answers a new connection; None for one that ends, for the commands that it was for have left.
    Raises FarmUnavailable where it goes by other rules."""
    hello = _read_line(connection)
    if "ends" in hello:
        return None
    if "error" in hello:
        raise error_from_json(hello)
    if rules is not None and (other := [name for name in rules if hello["rules"][name] != rules[name]]):
        raise FarmUnavailable(
            f"Another command of this store is using its farm with another {' and '.join(other)}.",
            hint="Wait until it has ended, give both the same settings, or use another WHEELFARM_STORE.",
        )
    return EmbeddedFarm(connection, hello)


def runtime_folder(store: str, environment: Mapping[str, str]) -> RuntimeFolder:
    """The runtime folder of a store, made if need be. Raises FarmUnavailable when somebody else owns it."""
    base = Path(environment.get("XDG_RUNTIME_DIR") or "")
    name = f"wheelfarm-{os.getuid()}"
    if not (base.is_absolute() and base.is_dir()) or len(str(base)) > _SOCKET_PATH_BYTES - 40:
        base = Path(tempfile.gettempdir())
    if len(str(base)) > _SOCKET_PATH_BYTES - 40:
        base = Path("/tmp")  # noqa: S108  (a private folder is made in it, and its owner is checked)
    path = base / name / hashlib.sha256(store.encode()).hexdigest()[:12]
    for folder in (path.parent, path):
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
            raise FarmUnavailable(
                f"{folder} is not a private folder of yours, so the farm keeps no socket in it.",
                hint="Remove it, or set XDG_RUNTIME_DIR to a folder that only you can enter.",
            )
    return RuntimeFolder(path=path)


def _connect(settings: Settings, folder: RuntimeFolder) -> socket.socket:
    with folder.lock.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(str(folder.socket))
        except (FileNotFoundError, ConnectionRefusedError):
            _start_keeper(settings, folder)
            connection.connect(str(folder.socket))
        return connection


def _start_keeper(settings: Settings, folder: RuntimeFolder) -> None:
    """Start the keeper in a session of its own and wait until it listens."""
    if not is_installed("all"):
        raise FarmUnavailable(
            "This installation is the client alone, and WHEELFARM_URL names no farm.",
            hint="Set WHEELFARM_URL, or install the farm's parts: pip install 'wheelfarm[all]'",
        )
    reading, writing = os.pipe()
    with folder.log.open("wb") as log:
        subprocess.Popen(
            [sys.executable, "-m", "wheelfarm.keeper", str(folder.path), str(writing)],
            env=environment_of(replace(settings, metrics="")),  # commands come and go; `wheelfarm up` has metrics
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[writing],
            start_new_session=True,
        )
    os.close(writing)
    import wheelfarm.farm  # noqa: F401  (what is needed next takes as long to import as the keeper to start)

    with os.fdopen(reading) as pipe:
        told = pipe.read()
    if told != "listening\n":
        reason = folder.log.read_text(errors="replace")[-2000:].strip()
        raise FarmUnavailable(f"The farm of this machine did not start:\n{reason}", hint=f"Its log: {folder.log}")


def _read_line(connection: socket.socket) -> dict[str, Any]:
    data = b""
    while not data.endswith(b"\n"):
        chunk = connection.recv(65536)
        if not chunk:
            raise _told(data)
        data += chunk
    hello: dict[str, Any] = json.loads(data)
    return hello


def _told(data: bytes) -> WheelfarmError:
    try:
        return error_from_json(json.loads(data))
    except ValueError:
        return FarmUnavailable(
            "The farm of this machine ended.", hint="Finished wheels are kept: run the command again."
        )
