"""Addresses to listen on: HOST:PORT or a unix socket, each refused with a reason where it can't be had."""

import ipaddress
import os
import socket
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from wheelfarm.errors import InputError

DEFAULT_ADDRESS = "127.0.0.1:8080"
_UNIX = "unix:"
_BACKLOG = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class Address:
    """A host and a port, or the `path` of a unix socket."""

    host: str = ""
    port: int = 0
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Read `HOST:PORT`, `[IPV6]:PORT` or `unix:PATH`. Raises InputError."""
        if text.startswith(_UNIX) and len(text) > len(_UNIX):
            return cls(path=str(Path(text.removeprefix(_UNIX)).absolute()))
        try:
            parts = urlsplit(f"//{text}")
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port = None, None
        if not host or port is None or parts.netloc != text or "@" in text:
            raise InputError(f"{text!r} is no address to listen on.", hint="Accepted: HOST:PORT or unix:PATH")
        return cls(host=host, port=port)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{_UNIX}{self.path}" if self.path else f"{host}:{self.port}"

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        if self.path or self.host == "localhost":
            return True
        with suppress(ValueError):
            return ipaddress.ip_address(self.host).is_loopback
        return False

    def require_safe(self, token: str) -> None:
        """Raise InputError where everybody on the network would be answered."""
        if not token and not self.is_local:
            raise InputError(
                f"The API would answer whoever reaches {self}.",
                hint="Set WHEELFARM_TOKEN to a long secret, or listen on 127.0.0.1.",
            )

    def bind(self) -> socket.socket:
        """A socket that listens there. Raises InputError when the address is taken or not of this machine."""
        try:
            if self.path:
                return _bind_unix(self.path)
            family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
            return socket.create_server((self.host, self.port), family=family, backlog=_BACKLOG)
        except OSError as error:
            hint = "Another program listens there: end it, or choose another address with --listen."
            taken = error.errno in (98, 48)
            raise InputError(f"Can't listen on {self}: {error.strerror}.", hint=hint if taken else "") from error


def _bind_unix(path: str) -> socket.socket:
    """A socket file for this user and its group; one that nobody listens on any more is replaced."""
    listener = socket.socket(socket.AF_UNIX)
    with suppress(FileNotFoundError), socket.socket(socket.AF_UNIX) as probe:
        if stat.S_ISSOCK(os.stat(path).st_mode) and probe.connect_ex(path) != 0:  # noqa: PTH116
            Path(path).unlink()
    listener.bind(path)
    Path(path).chmod(0o660)
    listener.listen(_BACKLOG)
    return listener
