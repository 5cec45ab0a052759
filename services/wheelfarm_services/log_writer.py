"""Build logs as workers write them: into a capped stream of Redis while the build runs, and compressed into the store.

A log belongs to a *run*, one turn of a worker at a job, named `<ms since 1970>-<attempt>`. A stream's entry has the id
`<offset>-1`, offset being where in the log its bytes begin: the same offset leads into stream and store. What was cut
off the stream's beginning is in the store by then, so whoever follows misses nothing, however slow.
"""

import gzip
import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Self

from redis import Redis
from redis.exceptions import RedisError, ResponseError

from wheelfarm.errors import WheelfarmError
from wheelfarm_services import layout
from wheelfarm_services.logs import carrier
from wheelfarm_services.store import Store

logger = logging.getLogger(__name__)

BELL = "{wheelfarm}:logbell"
"""A stream that tells, for each piece of log that came into Redis, the job."""
_BELLS_KEPT = 1000
_PIECE_BYTES = 16 << 10
_PIECES_KEPT = 512
_CHUNK_BYTES = 1 << 20
_GATHERED_S = 0.25
_KEPT_S = 3600


def run_key(job_id: str) -> str:
    """The key of the name of a job's present run."""
    return f"{{wheelfarm}}:logrun:{job_id}"


def stream_key(job_id: str, run: str) -> str:
    """The key of the stream of one run's log."""
    return f"{{wheelfarm}}:log:{job_id}:{run}"


class RunLog:
    """The log of one run; safe to write to from any thread. Writing never waits for Redis or the store."""

    def __init__(self, job_id: str, attempt: int, *, news: threading.Event, began: float) -> None:
        self.job_id = job_id
        self.run = f"{round(began * 1000):013d}-{attempt}"
        self.carry = carrier()
        self._news = news
        self._lock = threading.Lock()
        self._flushing = threading.Lock()
        self._log = bytearray()
        self._streamed = 0
        self._stored = 0
        self._pieces = 0

    def write(self, data: bytes) -> None:
        """Add to the log; the sandbox bounds its length."""
        with self._lock:
            self._log += data
        self._news.set()

    def whole(self) -> bytes:
        with self._lock:
            return bytes(self._log)

    def stream(self, redis: Redis) -> None:
        """Bring what is new into Redis. Raises RedisError; what did not arrive is brought the next time."""
        with self._flushing:
            while data := self._slice(self._streamed, _PIECE_BYTES):
                key = stream_key(self.job_id, self.run)
                with redis.pipeline(transaction=False) as pipeline:
                    pipeline.xadd(key, {"data": data}, id=f"{self._streamed}-1", maxlen=_PIECES_KEPT, approximate=True)
                    pipeline.expire(key, _KEPT_S)
                    pipeline.set(run_key(self.job_id), self.run, ex=_KEPT_S)
                    pipeline.xadd(BELL, {"job": self.job_id}, maxlen=_BELLS_KEPT, approximate=True)
                    with suppress(ResponseError):  # it came in before, and only the reply was lost
                        pipeline.execute()
                self._streamed += len(data)
                self._pieces += 1

    def store(self, store: Store, *, all_of_it: bool) -> None:
        """Bring whole chunks, or `all_of_it`, into the store, before Redis drops them. Raises FarmUnavailable; safe to
        repeat."""
        with self._flushing:
            while data := self._slice(self._stored, _CHUNK_BYTES):
                if len(data) < _CHUNK_BYTES and not all_of_it and self._pieces < _PIECES_KEPT // 2:
                    return
                key = layout.build_log_chunk(self.job_id, self.run, self._stored)
                store.put(key, gzip.compress(data, compresslevel=5, mtime=0))
                self._stored += len(data)
                self._pieces = 0

    def _slice(self, start: int, length: int) -> bytes:
        with self._lock:
            return bytes(self._log[start : start + length])


class LogWriter:
    """Writes the logs of one worker's runs; one thread brings them on their way."""

    def __init__(self, redis: Redis, store: Store, *, clock: Callable[[], float] = time.time) -> None:
        self._redis = redis
        self._store = store
        self._clock = clock
        self._news = threading.Event()
        self._lock = threading.Lock()
        self._open: set[RunLog] = set()
        self._thread = threading.Thread(target=self._loop, name="logs", daemon=True)
        self._over = False

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        self._news.set()
        self._thread.join(timeout=1.0)

    def begin(self, job_id: str, attempt: int) -> RunLog:
        """The log of a new run."""
        log = RunLog(job_id, attempt, news=self._news, began=self._clock())
        with self._lock:
            self._open.add(log)
        return log

    def keep(self, log: RunLog) -> None:
        """Have the whole log in the store. Raises FarmUnavailable."""
        with suppress(RedisError):
            log.stream(self._redis)
        log.store(self._store, all_of_it=True)

    def end(self, log: RunLog) -> None:
        """The run is over."""
        with self._lock:
            self._open.discard(log)

    def _loop(self) -> None:
        while self._news.wait() and not self._over:
            time.sleep(_GATHERED_S)
            self._news.clear()
            with self._lock:
                logs = list(self._open)
            for log in logs:
                log.carry(self._bring, log)

    def _bring(self, log: RunLog) -> None:
        try:
            log.stream(self._redis)
            log.store(self._store, all_of_it=False)
        except (RedisError, WheelfarmError) as error:  # the whole log is stored at the end in any case
            logger.warning("live log held up", extra={"reason": type(error).__name__})
            self._news.set()
