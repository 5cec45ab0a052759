"""Build logs as the API reads them: by offset, out of Redis while the build runs or ran lately, else out of the store.

`wheelfarm_services.log_writer` tells how they lie there.
"""

import asyncio
import gzip
import re
import threading
from typing import Any
from weakref import WeakKeyDictionary

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from starlette.concurrency import run_in_threadpool

from wheelfarm_services import layout
from wheelfarm_services.bell import Bell
from wheelfarm_services.ledger import redis_py_url
from wheelfarm_services.log_writer import BELL, run_key, stream_key
from wheelfarm_services.store import Store

RUN = re.compile(r"\d{13}-\d{1,6}")
_CONNECTIONS = 16
_PIECES = 4
_PIECE_BYTES = 64 << 10
"""What is held for one follower is some of these at most, whatever it has yet to read."""
_CHUNKS_REMEMBERED = 32


class LogReader:
    """Reads logs for many followers at once, through few connections."""

    def __init__(self, store: Store, broker: str) -> None:
        self._store = store
        self._url = redis_py_url(broker)
        self.bell = Bell(self._url, BELL, "job")
        self._guard = threading.Lock()
        self._chunks: dict[str, bytes] = {}
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, Redis] = WeakKeyDictionary()

    def jobs(self, prefix: str) -> set[str]:
        """The jobs that have a log in the store and whose ids begin so."""
        return {key.split("/")[1] for key in self._store.list(layout.build_logs_of(prefix))}

    def stored_runs(self, job_id: str) -> list[str]:
        """The runs of a job that are in the store, the last one last."""
        return sorted({key.split("/")[2] for key in self._store.list(layout.build_logs(job_id))})

    async def last_run(self, job_id: str) -> str:
        """The run that a job is in or was in last; "" where it has printed nothing yet."""
        try:
            present: Any = await self._redis().get(run_key(job_id))
        except RedisError:
            present = None
        if present is not None:
            return str(present, "ascii")
        return next(reversed(await run_in_threadpool(self.stored_runs, job_id)), "")

    async def read(self, job_id: str, run: str, offset: int) -> bytes:
        """What there is of a run's log from an offset on, a piece of it; b"" where there is no more yet."""
        try:
            key = stream_key(job_id, run)
            entries: Any = await self._redis().xrange(key, min=f"{offset}-1", count=_PIECES)
            if not entries or _offset(entries[0]) != offset:  # within a piece, before what is kept, or at the end
                before: Any = await self._redis().xrevrange(key, max=f"{offset}-1", count=1)
                entries = [*before, *entries] if before else entries
        except RedisError:
            entries = []
        if entries and _offset(entries[0]) <= offset:
            start = offset - _offset(entries[0])
            return b"".join(fields[b"data"] for _, fields in entries)[start : start + _PIECE_BYTES]
        return await run_in_threadpool(self._read_stored, job_id, run, offset)

    async def close(self) -> None:
        """Close what was opened in this event loop."""
        await self.bell.close()
        client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose(close_connection_pool=True)

    def _read_stored(self, job_id: str, run: str, offset: int) -> bytes:
        keys = self._store.list(layout.build_log_run(job_id, run))
        starts = [start for key in keys if (start := int(key.rpartition("/")[2].removesuffix(".gz"))) <= offset]
        if not starts:
            return b""
        chunk = self._chunk(layout.build_log_chunk(job_id, run, starts[-1]))
        return chunk[offset - starts[-1] :][:_PIECE_BYTES]

    def _chunk(self, key: str) -> bytes:
        """A chunk, which never changes; some are remembered, for followers of a job read the same ones, in pieces."""
        with self._guard:
            found = self._chunks.get(key)
        if found is not None:
            return found
        data = self._store.get(key)
        if data is None:
            return b""
        found = gzip.decompress(data)
        with self._guard:
            self._chunks[key] = found
            while len(self._chunks) > _CHUNKS_REMEMBERED:
                del self._chunks[next(iter(self._chunks))]  # the oldest
        return found

    def _redis(self) -> Redis:
        """The client of this event loop: connections belong to the loop that made them."""
        loop = asyncio.get_running_loop()
        if loop not in self._clients:
            pool = BlockingConnectionPool.from_url(
                self._url,
                max_connections=_CONNECTIONS,
                timeout=10,
                protocol=2,
                socket_timeout=10,
                retry=Retry(NoBackoff(), 0),  # followers come back by themselves
            )
            self._clients[loop] = Redis(connection_pool=pool)
        return self._clients[loop]


def _offset(entry: Any) -> int:
    return int(entry[0].partition(b"-")[0])
