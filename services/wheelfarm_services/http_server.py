"""The HTTP server of the services: uvicorn, which ends event streams when it ends, and lets connections be dropped."""

import socket
import struct
from typing import cast

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from wheelfarm_services.event_stream import ABORT, EventStreams

_MOST_CONNECTIONS = 4000
"""What comes beyond that is answered 503 at once, for each follower of a log keeps one."""

_WITHOUT_LINGERING = struct.pack("ii", 1, 0)


class HttpServer(uvicorn.Server):
    """Serves an application and its event streams until SIGTERM or SIGINT."""

    def __init__(self, app: ASGIApp, streams: EventStreams, *, log_level: str = "warning") -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=_Protocol,
                log_level=log_level,
                access_log=False,
                lifespan="off",
                ws="none",
                timeout_graceful_shutdown=1,
                limit_concurrency=_MOST_CONNECTIONS,
            )
        )
        self._streams = streams

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen. What is written is sent at once: an answer's head and body are written apart, and the body would wait
        for the head to be acknowledged, 40 ms (RFC 896). asyncio sees to that only for sockets made with a protocol."""
        for listener in sockets or ():
            if listener.family != socket.AF_UNIX:
                listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)  # those accepted inherit it
        await super().startup(sockets)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the streams, then what else is answered."""
        self._streams.end()
        await super().shutdown(sockets)


class _Protocol(HttpToolsProtocol):
    def on_message_begin(self) -> None:
        super().on_message_begin()
        cast(dict[str, object], self.scope)[ABORT] = self._drop

    def _drop(self) -> None:
        """End the connection at once, also for the kernel, which would keep what is not read for its reader."""
        connection = self.transport.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _WITHOUT_LINGERING)
        self.transport.abort()
