"""The API's part for jobs: how one is, and what its build printed."""

import re
from dataclasses import dataclass

from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, PlainTextResponse, Response

from wheelfarm.errors import NotFound
from wheelfarm.job import JobStatus
from wheelfarm_services import layout
from wheelfarm_services.operation import TEXT, Answer, Operation
from wheelfarm_services.parameters import JOB_PREFIX
from wheelfarm_services.requests import Requests
from wheelfarm_services.store import Store

_CONTROL = re.compile(r"[^\t\n -~\u00a0-\u200d\u2010-\u2027\u2030-\u2065\u206a-\ud7ff\uf900-\ufffd]")
_UNTRUSTED_TEXT = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "default-src 'none'"}


def job_operations(store: Store, requests: Requests) -> list[Operation]:
    """Jobs and their logs."""
    endpoints = _Endpoints(store=store, requests=requests)
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
            told="What the last attempt at a job printed, control characters replaced.",
            parameters=(JOB_PREFIX,),
            answers={200: Answer(told="The log.", media=(TEXT,))},
            errors=(404,),
        ),
    ]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Endpoints:
    store: Store
    requests: Requests

    def job(self, http: HttpRequest) -> Response:
        return JSONResponse(self.requests.job(http.path_params["prefix"]).to_json())

    def log(self, http: HttpRequest) -> Response:
        prefix = http.path_params["prefix"]
        logs = list(self.store.list(layout.build_logs_of(prefix)))
        if len({key.split("/")[1] for key in logs}) != 1:
            raise NotFound(
                f"{'Several jobs' if logs else 'No job'} with a log {'begin' if logs else 'begins'} with {prefix!r}."
            )
        text = (self.store.get(logs[-1]) or b"").decode(errors="replace")
        return PlainTextResponse(_CONTROL.sub("\N{REPLACEMENT CHARACTER}", text), headers=_UNTRUSTED_TEXT)
