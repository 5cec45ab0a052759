"""Server-sent events (WHATWG HTML, 9.2): written no faster than they are read, and not to who has stopped reading."""

import asyncio
import logging
from collections.abc import AsyncIterator

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

logger = logging.getLogger(__name__)

KEEP_ALIVE = b": still here\n\n"
KEEP_ALIVE_S = 15.0
PATIENCE_S = 30.0
"""For how long somebody may not read before the connection is cut; the last id that was read leads back in."""


def event(name: str, data: str, *, id_: str = "") -> bytes:
    """One event. `data` holds no carriage return; its lines come out on the other side as they are."""
    lines = "".join(f"data: {line}\n" for line in data.split("\n"))
    return (f"id: {id_}\n" if id_ else "").encode() + f"event: {name}\n{lines}\n".encode()


class EventStream(Response):
    """Sends events as they come. What is not read yet is in the kernel's buffers and in one piece here, no more."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[bytes], *, patience_s: float = PATIENCE_S) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._events = events
        self._patience_s = patience_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until there are no more events, or nobody reads them."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        sending = asyncio.create_task(self._send(send))
        leaving = asyncio.create_task(_left(receive))
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        finally:
            for task in (sending, leaving):
                task.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)

    async def _send(self, send: Send) -> None:
        try:
            async for piece in self._events:
                body: Message = {"type": "http.response.body", "body": piece, "more_body": True}
                await asyncio.wait_for(send(body), self._patience_s)
        except TimeoutError:
            logger.info("connection cut: its events are not read")
            return
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
