"""Server-sent events (WHATWG HTML, 9.2): written no faster than they are read, and not to who has stopped reading."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from wheelfarm.errors import TooManyRequests

logger = logging.getLogger(__name__)

KEEP_ALIVE = b": still here\n\n"
KEEP_ALIVE_S = 15.0
PATIENCE_S = 30.0
"""For how long somebody may not read before the connection is cut; the last id that was read leads back in."""

MOST_OF_A_TOKEN = 1000
ABORT = "wheelfarm.abort"
"""Where the server puts into a connection's scope how to drop it."""


def event(name: str, data: str, *, id_: str = "") -> bytes:
    """One event. `data` holds no carriage return; its lines come out on the other side as they are."""
    lines = "".join(f"data: {line}\n" for line in data.split("\n"))
    return (f"id: {id_}\n" if id_ else "").encode() + f"event: {name}\n{lines}\n".encode()


class EventStreams:
    """The event streams that this process has open: so many of one token at most, each of which keeps a connection, and
    all ended when the process is told to end."""

    def __init__(self, *, most: int = MOST_OF_A_TOKEN, patience_s: float = PATIENCE_S) -> None:
        self._most = most
        self.patience_s = patience_s
        self._open: dict[str, set[asyncio.Task[None]]] = {}

    def stream(self, events: AsyncIterator[bytes], token: str) -> "EventStream":
        """An answer of events to the bearer of a token, by its id. Raises TooManyRequests."""
        if len(self._open.get(token, ())) >= self._most:
            raise TooManyRequests(
                f"The token {token!r} follows {self._most} logs and requests already.",
                hint="End some of them first, or ask for the status now and then.",
                retry_after_s=PATIENCE_S,
            )
        return EventStream(events, self, token)

    def end(self) -> None:
        """End all of them, as by their last event: their readers come back elsewhere, with the last id."""
        for task in {task for tasks in self._open.values() for task in tasks}:
            task.cancel()

    @contextmanager
    def counted(self, token: str, task: "asyncio.Task[None]") -> Iterator[None]:
        """Know of a stream of a token's while it is sent."""
        self._open.setdefault(token, set()).add(task)
        try:
            yield
        finally:
            self._open[token].discard(task)
            if not self._open[token]:
                del self._open[token]


class EventStream(Response):
    """Sends events as they come. What is not read yet is in the kernel's buffers and in one piece here, no more."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[bytes], streams: EventStreams, token: str) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._events = events
        self._streams = streams
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until there are no more events, nobody reads them, or the process ends."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        sending = asyncio.create_task(self._send(send))
        leaving = asyncio.create_task(_left(receive))
        with self._streams.counted(self._token, sending):
            try:
                await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
                left = leaving.done()
            finally:
                for task in (sending, leaving):
                    task.cancel()
                ended, _ = await asyncio.gather(sending, leaving, return_exceptions=True)
        if isinstance(ended, TimeoutError):
            logger.info("connection cut: its events are not read")
            await _cut(scope)
        elif isinstance(ended, Exception):
            raise ended
        elif not left:
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send(self, send: Send) -> None:
        async for piece in self._events:
            body: Message = {"type": "http.response.body", "body": piece, "more_body": True}
            await asyncio.wait_for(send(body), self._streams.patience_s)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _cut(scope: Scope) -> None:
    """Drop the connection with all that is not read of it: to close it would be to wait for its reader."""
    if abort := scope.get(ABORT):
        abort()
        await asyncio.sleep(0)  # for the server to hear of it
