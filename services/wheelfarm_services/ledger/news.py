"""News of jobs: waiting, without asking again and again, until something has happened to those of a request."""

import asyncio
from collections.abc import Collection
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from wheelfarm.job import JobState

WAIT_S = 2.0
"""The longest wait, for what the ledger has no event of: a request that was cancelled, a Redis that came back empty."""
GATHER_S = 0.25
"""How long further events are waited for, since many come together, unless a job has ended that was asked for."""


async def news(
    url: str,
    stream: str,
    after: str,
    awaited: Collection[str],
    *,
    wait_s: float = WAIT_S,
    gather_s: float = GATHER_S,
) -> None:
    """Return when one of the `awaited` jobs has ended since the event `after`, `gather_s` after any other event of the
    stream, and after `wait_s` in any case. `url` is in redis-py's form."""
    loop = asyncio.get_running_loop()
    deadline, gathering = loop.time() + wait_s, False
    try:
        async with Redis.from_url(url, decode_responses=True, protocol=2, socket_timeout=wait_s + 5) as redis:
            while (left_s := deadline - loop.time()) > 0:
                events: Any = await redis.xread({stream: after}, block=max(1, round(left_s * 1000)))
                if not events:
                    continue
                entries = events[0][1]
                if any(event["job"] in awaited and JobState(event["state"]).final for _, event in entries):
                    return
                after = entries[-1][0]
                if not gathering:
                    deadline, gathering = min(deadline, loop.time() + gather_s), True
    except RedisError:  # whoever waits asks the ledger next, which has patience, and a reason to tell
        await asyncio.sleep(gather_s)
