"""The API's part for jobs: how one is, and what its build prints, also while it does."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response, StreamingResponse

from wheelfarm.errors import FarmUnavailable, NotFound
from wheelfarm.job import JobStatus
from wheelfarm_services.access import principal_of
from wheelfarm_services.event_stream import EventStreams
from wheelfarm_services.ledger import Ledger
from wheelfarm_services.log_following import EVENT_ID, Place, follow_log
from wheelfarm_services.log_reader import LogReader
from wheelfarm_services.log_text import harmless, whole_characters
from wheelfarm_services.operation import BYTES, EVENTS, TEXT, Answer, Operation, Parameter
from wheelfarm_services.parameters import JOB_PREFIX
from wheelfarm_services.requests import Requests
from wheelfarm_services.tenancy import Tenancy

_UNTRUSTED = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "default-src 'none'"}
_RAW = Parameter(name="raw", told="`true`: byte for byte, control characters too.", form="true|false", place="query")
_LAST_EVENT = Parameter(
    name="Last-Event-ID", told="The id of the last event that was read.", form=f"|{EVENT_ID}", place="header"
)


def job_operations(
    requests: Requests, ledger: Ledger, logs: LogReader, tenancy: Tenancy, streams: EventStreams
) -> list[Operation]:
    """Jobs and their logs."""
    endpoints = _Endpoints(requests=requests, ledger=ledger, logs=logs, tenancy=tenancy, streams=streams)
    return [
        Operation(
            name="job",
            path="/jobs/{prefix}",
            endpoint=endpoints.job,
            told="The job whose id begins so.",
            parameters=(JOB_PREFIX,),
            answers={200: Answer(told="The job.", shape=JobStatus)},
            errors=(404,),
        ),
        Operation(
            name="jobLog",
            path="/jobs/{prefix}/log",
            endpoint=endpoints.log,
            told="What the last run of a job has printed up to now.",
            parameters=(JOB_PREFIX, _RAW),
            answers={200: Answer(told="The log.", media=(TEXT, BYTES))},
            errors=(404,),
        ),
        Operation(
            name="jobLogEvents",
            path="/jobs/{prefix}/log/events",
            endpoint=endpoints.log_events,
            told="What a job prints and has printed, as events `log`, `run` and `end`; live until the job is over.",
            parameters=(JOB_PREFIX, _RAW, _LAST_EVENT),
            answers={200: Answer(told="Server-sent events.", media=(EVENTS,))},
            errors=(404,),
        ),
    ]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Endpoints:
    requests: Requests
    ledger: Ledger
    logs: LogReader
    tenancy: Tenancy
    streams: EventStreams

    def job(self, http: HttpRequest) -> Response:
        return JSONResponse(self.requests.job(self._job(http)).to_json())

    async def log(self, http: HttpRequest) -> Response:
        job_id = await run_in_threadpool(self._job, http)
        run = await self.logs.last_run(job_id)
        if not run:
            raise NotFound(f"The job {job_id[:12]} has printed nothing.")
        media, raw = (BYTES, True) if _is_raw(http) else (TEXT, False)
        return StreamingResponse(self._whole(job_id, run, raw=raw), media_type=media, headers=_UNTRUSTED)

    async def log_events(self, http: HttpRequest) -> Response:
        job_id = await run_in_threadpool(self._job, http)

        async def is_over() -> bool:
            return await run_in_threadpool(self._is_over, job_id)

        place = Place.read(http.headers.get("last-event-id", ""))
        events = follow_log(self.logs, job_id, place, is_over=is_over, raw=_is_raw(http))
        return self.streams.stream(events, principal_of(http).token)

    async def _whole(self, job_id: str, run: str, *, raw: bool) -> AsyncIterator[bytes]:
        offset, left = 0, b""
        while piece := await self.logs.read(job_id, run, offset):
            offset += len(piece)
            part = left + piece if raw else whole_characters(left + piece)
            left = (left + piece)[len(part) :]
            yield part if raw else harmless(part).encode()
        if left:
            yield harmless(left).encode()

    def _job(self, http: HttpRequest) -> str:
        """The job that is meant, by the ledger or, where that has forgotten it, by its log. Raises NotFound."""
        prefix = http.path_params["prefix"]
        ids = {*self.ledger.find(prefix), *self.logs.jobs(prefix)}
        found = self.tenancy.visible_jobs(principal_of(http), ids)
        if len(found) != 1:
            raise NotFound(
                f"{'Several jobs begin' if found else 'No job of this farm begins'} with {prefix!r}.",
                hint="Job ids stand in the output of install and build.",
            )
        return found.pop()

    def _is_over(self, job_id: str) -> bool:
        try:
            record = self.ledger.job(job_id)
        except FarmUnavailable:  # nobody knows; it is asked again
            return False
        return record is None or record.state.final


def _is_raw(http: HttpRequest) -> bool:
    return http.query_params.get("raw") == "true"
