"""A bell: many wait in one process for news of a stream in Redis, which one connection of theirs reads.

News may be missed, as by somebody who was just reading: whoever waits looks again after a while in any case.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

from redis.asyncio import Redis
from redis.exceptions import RedisError

_READ_S = 5.0
_PAUSE_S = 0.5


class Bell:
    """Rings for a name whenever an entry of the stream tells it in `field`."""

    def __init__(self, url: str, stream: str, field: str) -> None:
        self._url = url
        self._stream = stream
        self._field = field
        self._waiting: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, set[asyncio.Future[None]]]]
        self._waiting = WeakKeyDictionary()
        self._readers: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Task[None]] = WeakKeyDictionary()

    @contextmanager
    def asked(self, name: str) -> "Iterator[asyncio.Future[None]]":
        """What is done once there is news of `name`, from now on."""
        loop = asyncio.get_running_loop()
        waiting = self._waiting.setdefault(loop, {})
        future: asyncio.Future[None] = loop.create_future()
        waiting.setdefault(name, set()).add(future)
        if loop not in self._readers or self._readers[loop].done():
            self._readers[loop] = loop.create_task(self._read(waiting))
        try:
            yield future
        finally:
            waiting[name].discard(future)
            if not waiting[name]:
                del waiting[name]

    async def close(self) -> None:
        """Stop reading in this event loop."""
        reader = self._readers.pop(asyncio.get_running_loop(), None)
        if reader is not None:
            reader.cancel()
            await asyncio.wait({reader})

    async def _read(self, waiting: dict[str, set["asyncio.Future[None]"]]) -> None:
        """Read the stream for as long as somebody waits."""
        after = "$"
        async with Redis.from_url(self._url, decode_responses=True, protocol=2, socket_timeout=_READ_S + 5) as redis:
            while waiting:
                try:
                    answer: Any = await redis.xread({self._stream: after}, block=round(_READ_S * 1000), count=1000)
                except RedisError:
                    await asyncio.sleep(_PAUSE_S)
                    continue
                entries = answer[0][1] if answer else []
                after = entries[-1][0] if entries else after
                for name in {entry.get(self._field, "") for _, entry in entries}:
                    for future in waiting.get(name, ()):
                        if not future.done():
                            future.set_result(None)


async def patiently(future: "asyncio.Future[None]", timeout_s: float) -> None:
    """Wait until it is done, and no longer than that."""
    await asyncio.wait({future}, timeout=timeout_s)
