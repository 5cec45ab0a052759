"""Following a request: its jobs as they change, each change told with the state that it led to.

Nothing is kept for a follower but what it was told last. Who is slow, or comes back with the id of an event, is told
the present state of what has changed since: states that were passed through meanwhile are left out, ends never.
"""

import asyncio
import json
from collections.abc import AsyncIterator

from starlette.concurrency import run_in_threadpool

from wheelfarm.errors import FarmUnavailable, NotFound
from wheelfarm.job import JobState
from wheelfarm_services.event_stream import KEEP_ALIVE, KEEP_ALIVE_S, event
from wheelfarm_services.ledger import Ledger
from wheelfarm_services.requests import Requests


async def follow_request(requests: Requests, ledger: Ledger, request_id: str, last_id: str) -> AsyncIterator[bytes]:
    """Events `job` with a job's status, and `end` with the request's status when all that was asked for has ended, or
    with null when the request was closed. The id of an event is the farm's last event that it takes into account."""
    told: dict[str, object] = {}
    since = await run_in_threadpool(ledger.changed_since, last_id) if last_id else None
    spoken = asyncio.get_running_loop().time()
    while True:
        try:
            status = await run_in_threadpool(requests.status, request_id)
        except NotFound:
            yield event("end", "null")
            return
        except FarmUnavailable:  # the client comes back, and is told then
            return
        jobs = {job["id"]: job for job in status["jobs"]}
        news = [id_ for id_, job in jobs.items() if told.get(id_) != job and (since is None or id_ in since)]
        told, since = jobs, None
        for number, id_ in enumerate(news, start=1):
            # only behind the last of them is everything told that the id stands for
            yield event("job", json.dumps(jobs[id_]), id_=status["event"] if number == len(news) else "")
            spoken = asyncio.get_running_loop().time()
        if all(JobState(jobs[id_]["state"]).final for id_ in status["requested"]):
            yield event("end", json.dumps(status), id_=status["event"])
            return
        await ledger.changed(status["event"], status["requested"])
        if asyncio.get_running_loop().time() - spoken > KEEP_ALIVE_S:
            spoken = asyncio.get_running_loop().time()
            yield KEEP_ALIVE
