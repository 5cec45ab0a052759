"""A farm for a team on one machine: broker, services and workers under one supervisor, until it is told to end.

It is the embedded farm with lasting parts: the broker keeps what it was told, the API has an address of its own, the
workers serve targets of their own. Commands of this machine that use the same store attach to it by themselves.
"""

import contextlib
import fcntl
import os
import secrets
import signal
import socket
import sys
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from wheelfarm.broker import broker_command
from wheelfarm.embedded import RuntimeFolder, rules_of, runtime_folder
from wheelfarm.errors import InputError
from wheelfarm.files import open_lock
from wheelfarm.keeper import Keeper, listen_for_commands
from wheelfarm.listening import Address
from wheelfarm.parts import environment_of
from wheelfarm.settings import Settings
from wheelfarm.supervision import Part, say_on_stderr

_HURRIED_S = 5.0
"""How much longer than its grace a worker may take to end: it has sandboxes to end and jobs to hand back."""
_ANYWHERE = ("0.0.0.0", "::")  # noqa: S104  (asked for by whoever types it)


@dataclass(frozen=True, kw_only=True, slots=True)
class TeamFarm:
    """What `wheelfarm up` was asked for. `folder` is private to the user, and holds the token and the broker's data."""

    settings: Settings
    address: Address
    targets: tuple[str, ...]
    workers: int
    folder: Path

    @property
    def token_file(self) -> Path:
        return self.folder / "token"

    def run(self) -> None:
        """Run the farm until SIGTERM or SIGINT; a second one hurries its workers. Raises what keeps it from running."""
        if self.address.path:
            raise InputError("A whole farm has to listen on HOST:PORT.", hint="wheelfarm services can do unix:PATH")
        with alone_in(self.folder), self.address.bind() as api:
            runtime = runtime_folder(self.settings.store, os.environ)
            listener = _claim_store(runtime, self.settings.store)
            port = api.getsockname()[1]
            token = self.settings.token or read_or_make_token(self.token_file)
            host = "127.0.0.1" if self.address.host in _ANYWHERE else self.address.host
            url = f"http://{replace(self.address, host=host, port=port)}"
            rules = rules_of(self.settings)
            keeper = Keeper(folder=runtime, listener=listener, url=url, token=token, rules=rules, lasting=True)
            settings = replace(self.settings, url=url, token=token, broker=self.settings.broker or self._broker)
            self._heed_signals(keeper)
            threading.Thread(target=self._announce, args=(url, port), daemon=True).start()
            grace = [("worker", settings.drain_s + _HURRIED_S), ("services", 2.0), ("broker", 10.0)]
            keeper.run(self._parts(settings, api), grace_s=grace)

    @property
    def _broker(self) -> str:
        return f"redis+socket://{self._broker_socket}"

    @property
    def _broker_socket(self) -> Path:
        return runtime_folder(self.settings.store, os.environ).broker_socket

    def _parts(self, settings: Settings, api: socket.socket) -> Iterator[Part]:
        environment = {**environment_of(settings), "PYTHONUNBUFFERED": "1"}
        if not self.settings.broker:
            data = self.folder / "broker"
            data.mkdir(mode=0o700, exist_ok=True)
            log = settings.logs / "broker.log" if settings.logs.name else None
            command = broker_command(self._broker_socket, data, durable=True, log=log)
            yield Part(name="broker", command=command, environment=environment)
        yield Part(
            name="services",
            command=(sys.executable, "-m", "wheelfarm_services", "--json", "--fd", str(api.fileno())),
            environment=environment,
            inherited=(api.fileno(),),
        )
        targets = [word for target in self.targets for word in ("--target", target)]
        for number in range(1, self.workers + 1):
            name = f"{socket.gethostname()[:60]}-{api.getsockname()[1]}-{number}"
            yield Part(
                name=f"worker {number}",
                command=(sys.executable, "-m", "wheelfarm_workers", "--json", *targets),
                environment={**environment, "WHEELFARM_WORKER": name, **metrics_of(settings, number)},
            )

    def _heed_signals(self, keeper: Keeper) -> None:
        def told_to_end(number: int, _: object) -> None:
            for one in (signal.SIGTERM, signal.SIGINT):
                signal.signal(one, lambda *_: keeper.supervisor.signal("worker", signal.SIGTERM))
            say_on_stderr("the farm ends: its workers finish what they can, or hand it back; once more hurries them")
            sys.exit(0)

        for one in (signal.SIGTERM, signal.SIGINT):
            signal.signal(one, told_to_end)

    def _announce(self, url: str, port: int) -> None:
        """Tell where the farm is, once it answers; its socket takes connections before."""
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/healthz", timeout=60):  # noqa: S310
            for line in self.told(port):
                print(line, file=sys.stderr, flush=True)

    def told(self, port: int) -> Iterator[str]:
        """What its users need to know; the token itself is told to nobody."""
        host = socket.gethostname() if self.address.host in _ANYWHERE else self.address.host
        url = f"http://{replace(self.address, host=host, port=port)}"
        yield f"the farm answers at {url}"
        yield from ["", "Whoever shall use it needs these two lines, the second with the token in it:"]
        yield f"  export WHEELFARM_URL={url}"
        if self.settings.token:
            yield "  export WHEELFARM_TOKEN=…    (the one that this farm was started with)"
        else:
            yield f'  export WHEELFARM_TOKEN="$(cat {self.token_file})"'
        if self.address.is_local:
            yield from ["", "Only this machine reaches it; for others: wheelfarm up --listen 0.0.0.0:8080, behind TLS."]
        yield ""


def metrics_of(settings: Settings, number: int) -> dict[str, str]:
    """Where a worker tells its metrics: services have the port that the settings name, workers those after it."""
    if not settings.metrics:
        return {}
    address = Address.parse(settings.metrics)
    return {"WHEELFARM_METRICS": str(replace(address, port=address.port + number))}


def read_or_make_token(path: Path) -> str:
    """The farm's token, made on its first start, in a file for its owner alone. Raises InputError for one that others
    can read, or that another user has put there."""
    with contextlib.suppress(FileExistsError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
    token, status = path.read_text().strip(), path.stat()
    if status.st_uid != os.getuid() or status.st_mode & 0o077 or len(token) < 32:
        raise InputError(
            f"{path} is not yours alone to read, or holds no token.",
            hint=f"Remove it, for a new token to be made: rm {path}",
        )
    return token


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold the farm's folder, made if need be. Raises InputError where another farm has it, or another user laid it, or
    a link, in our way."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _require_own(folder)
    with _opened_lock(folder / "lock") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"Another farm runs in {folder}.", hint="End it, or give this one another store and --folder."
            ) from None
        yield


def _require_own(folder: Path) -> None:
    """Raise InputError for a folder that another user made, or a link of another's; root is given volumes of others."""
    mine = (0, os.getuid())
    if folder.lstat().st_uid not in mine and (os.getuid() or folder.is_symlink()):
        raise InputError(f"{folder} belongs to another user.", hint="Name a folder of your own: --folder DIR")


def _opened_lock(lock: Path) -> BinaryIO:
    """Raises InputError where a link stands in the lock's place."""
    try:
        return open_lock(lock)
    except OSError as error:
        raise InputError(f"{lock} can't be opened: {error.strerror}.", hint="Remove what lies there.") from error


def _claim_store(runtime: RuntimeFolder, store: str) -> socket.socket:
    """The socket by which this machine's commands find the farm of the store. Raises InputError where one runs."""
    with runtime.lock.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(str(runtime.socket)) == 0:
                raise InputError(
                    f"A farm runs for the store {store} already.",
                    hint="One that commands started ends with the last of them. Or use that one: wheelfarm status",
                )
        return listen_for_commands(runtime)
