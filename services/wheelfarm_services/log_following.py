"""Following a job's log: from any byte of it on, through its runs, to the end of the job."""

import asyncio
import base64
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from wheelfarm_services.bell import patiently
from wheelfarm_services.event_stream import KEEP_ALIVE, KEEP_ALIVE_S, event
from wheelfarm_services.log_reader import LogReader
from wheelfarm_services.log_text import harmless, whole_characters

EVENT_ID = r"\d{13}-\d{1,6}-\d{1,15}"
_LOOK_AGAIN_S = 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """A byte of a log: `offset` bytes into the log of `run` ("" where there is no run yet)."""

    run: str = ""
    offset: int = 0

    @classmethod
    def read(cls, event_id: str) -> "Place":
        """The place that the id of an event names; the beginning where it names none."""
        if not re.fullmatch(EVENT_ID, event_id, re.ASCII):
            return cls()
        run, _, offset = event_id.rpartition("-")
        return cls(run=run, offset=int(offset))

    def __str__(self) -> str:
        return f"{self.run}-{self.offset}"


async def follow_log(
    reader: LogReader, job_id: str, place: Place, *, is_over: Callable[[], Awaitable[bool]], raw: bool
) -> AsyncIterator[bytes]:
    """Events `log`, whose pieces laid together are the log, `run` where another one begins, and `end`.

    The id of an event is the place behind it. With `raw`, pieces are in base64, byte for byte.
    """
    place = place if place.run else Place(run=await reader.last_run(job_id))
    over, spoken = False, asyncio.get_running_loop().time()
    while True:
        with reader.bell.asked(job_id) as news:
            piece = await reader.read(job_id, place.run, place.offset) if place.run else b""
            part = piece if raw or over else whole_characters(piece)
            if part:
                place = Place(run=place.run, offset=place.offset + len(part))
                yield event("log", base64.b64encode(part).decode() if raw else harmless(part), id_=str(place))
                spoken = asyncio.get_running_loop().time()
                continue
            if over:
                yield event("end", json.dumps({"job": job_id}))
                return
            over = await is_over()
            present = await reader.last_run(job_id)
            if present != place.run:
                anew, place = bool(place.run), Place(run=present)
                if anew:
                    yield event("run", json.dumps({"run": present}), id_=str(place))
            elif not over:
                await patiently(news, _LOOK_AGAIN_S)
        if asyncio.get_running_loop().time() - spoken > KEEP_ALIVE_S:
            spoken = asyncio.get_running_loop().time()
            yield KEEP_ALIVE
