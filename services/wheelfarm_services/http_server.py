"""The HTTP server of the services: uvicorn, which ends event streams when it ends, and lets connections be dropped.

A proxy in front does more, but whoever reaches the port without one, and without a token, must not be able to hold
connections or memory for long.
"""

import asyncio
import socket
import struct
from functools import partial
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from wheelfarm_services.event_stream import ABORT, EventStreams

_MOST_CONNECTIONS = 4000
"""What comes beyond that is answered 503 at once, for each follower of a log keeps one."""

_HEAD_BYTES = 64 << 10
_HEAD_S = 20.0
_HEAD, _JOINED_BYTES = b"HTTP/", 64 << 10
_WITHOUT_LINGERING = struct.pack("ii", 1, 0)


class HttpServer(uvicorn.Server):
    """Serves an application and its event streams until SIGTERM or SIGINT.

    A connection is dropped where the head of a request is larger than 64 KiB or not whole within `head_s` seconds, or
    where a body goes on for so long after it was answered.
    """

    def __init__(
        self, app: ASGIApp, streams: EventStreams, *, log_level: str = "warning", head_s: float = _HEAD_S
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=cast(type[asyncio.Protocol], partial(_Protocol, head_s=head_s)),
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


class JoiningTransport:
    """A transport that sends the head of an answer together with what follows it in the same turn of the event loop:
    one piece costs the kernel, and the client's, half of what two do."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head = b""
        self.is_closing = transport.is_closing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if self._head:
            head, self._head = self._head, b""
            if len(data) > _JOINED_BYTES:
                self._transport.write(head)
            else:
                data = head + data
        elif data.startswith(_HEAD):
            self._head = data
            self._loop.call_soon(self._flush)
            return
        self._transport.write(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)


class _Protocol(HttpToolsProtocol):
    def __init__(self, *words: Any, head_s: float, **named: Any) -> None:
        super().__init__(*words, **named)
        self._head_s = head_s
        self._head_bytes = 0
        self._in_body = False
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(cast(asyncio.Transport, JoiningTransport(transport, self.loop)))
        self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        self._relax()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if not self._in_body:
            self._head_bytes += len(data)
        super().data_received(data)
        if not self._in_body and self._head_bytes:  # something has begun and is not whole
            self._expect()
        if not self._in_body and self._head_bytes > _HEAD_BYTES:
            self._drop()

    def on_headers_complete(self) -> None:
        self._in_body = True
        self._relax()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_body, self._head_bytes = False, 0
        self._relax()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        if self._in_body:  # of what was refused; the answer is lost if the connection is closed while it comes
            self._expect()
        super().on_response_complete()

    def _expect(self) -> None:
        """Drop the connection unless what begins now, or has begun, comes to its end in time."""
        if self._deadline is None:
            self._deadline = self.loop.call_later(self._head_s, self._drop)

    def _relax(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def on_message_begin(self) -> None:
        super().on_message_begin()
        scope: dict[str, object] = self.scope  # type: ignore[assignment]  # with a key of ours
        scope[ABORT] = self._drop

    def _drop(self) -> None:
        """End the connection at once, also for the kernel, which would keep what is not read for its reader."""
        connection = self.transport.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _WITHOUT_LINGERING)
        self.transport.abort()
