"""The API's part for requests: a client makes a target known, submits sdists, follows the jobs and takes leave."""

from dataclasses import dataclass, replace

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response

from wheelfarm.digest import SHA256
from wheelfarm.errors import InputError, NotFound
from wheelfarm.job import JobKind, JobStatus, Sdist
from wheelfarm.target import TARGET_NAME, Target
from wheelfarm.token_file import Scope
from wheelfarm.wheel import BuiltWheel
from wheelfarm_services.access import Access, Principal, principal_of
from wheelfarm_services.event_stream import EventStreams
from wheelfarm_services.json_body import json_object, read_json_body
from wheelfarm_services.ledger import Ledger
from wheelfarm_services.operation import EVENTS, Answer, Operation, Parameter
from wheelfarm_services.parameters import REQUEST_ID, SDIST, matching
from wheelfarm_services.request import (
    LEAST_PRIORITY,
    MOST_JOBS,
    USUAL_PRIORITY,
    Request,
    read_priority,
)
from wheelfarm_services.request_events import follow_request
from wheelfarm_services.requests import Requests
from wheelfarm_services.threads import run_waiting

_EVENT = r"\d{1,20}-\d{1,20}"
_LAST_EVENT = Parameter(
    name="Last-Event-ID", told="The id of the last event that was read.", form=f"|{_EVENT}", place="header"
)
_SHA256 = matching(SHA256.pattern)
_REQUEST_TARGET = {
    "type": "object",
    "properties": {"name": matching(TARGET_NAME.pattern), "revision": _SHA256},
    "required": ["name", "revision"],
}
_STATUS = {
    "type": "object",
    "description": "A request: what was asked for, every job that this takes, and what there is of it by job.",
    "properties": {
        "id": matching(REQUEST_ID.form),
        "targets": {"type": "array", "items": _REQUEST_TARGET},
        "requested": {
            "type": "array",
            "items": _SHA256,
            "description": "Ids of the jobs asked for, target by target, in the order of the sdists.",
        },
        "jobs": list[JobStatus],
        "wheels": dict[str, BuiltWheel],
        "sdists": dict[str, Sdist],
        "revisions": {"type": "object", "description": "Where metadata was not as resolved: its revision, by job."},
        "now": {"type": "number", "description": "The farm's clock, in seconds since 1970."},
        "event": {**matching(_EVENT), "description": "The last event of the farm that this takes into account."},
    },
    "required": ["id", "targets", "requested", "jobs", "wheels", "sdists", "now", "event"],
}
_PRIORITY = {
    "type": "integer",
    "minimum": 0,
    "maximum": LEAST_PRIORITY,
    "default": USUAL_PRIORITY,
    "description": f"The lower, the sooner; below {USUAL_PRIORITY} it needs the scope `admin`.",
}
_REQUEST = {
    "type": "object",
    "properties": {
        "id": {
            **matching(REQUEST_ID.form),
            "description": "Made up by the client, which may send it again.",
        },
        "kind": JobKind,
        "targets": {
            "type": "array",
            "items": {**_REQUEST_TARGET, "description": "A target, in one of its revisions."},
            "minItems": 1,
            "uniqueItems": True,
            "description": f"For each of them a job for each sdist is done, {MOST_JOBS} in all at most.",
        },
        "target": {**matching(TARGET_NAME.pattern), "description": "In place of `targets`, where there is one."},
        "target_revision": _SHA256,
        "sdists": {"type": "array", "items": SDIST, "minItems": 1, "maxItems": MOST_JOBS},
        "local": {"type": "array", "items": _SHA256, "description": "Those of the sdists that a client sent."},
        "hashed": {"type": "array", "items": _SHA256, "description": "Those whose digest was asked for by the user."},
        "priority": _PRIORITY,
        "force": {"type": "boolean", "default": False, "description": "Forget failures: build again what failed."},
        "detached": {
            "type": "boolean",
            "default": False,
            "description": "Go on though nobody asks about the request any more.",
        },
    },
    "required": ["id", "kind", "sdists"],
    "oneOf": [
        {"required": ["targets"], "not": {"anyOf": [{"required": ["target"]}, {"required": ["target_revision"]}]}},
        {"required": ["target", "target_revision"], "not": {"required": ["targets"]}},
    ],
}
_TARGET = {
    "type": "object",
    "description": Target.__doc__,
    "properties": {
        **{name: {"type": "string"} for name in Target.__slots__},
        "name": matching(TARGET_NAME.pattern),
        "queue": matching(TARGET_NAME.pattern),
        "revision": _SHA256,
    },
    "required": list(Target.__slots__),
    "additionalProperties": False,
}


def request_operations(requests: Requests, ledger: Ledger, access: Access, streams: EventStreams) -> list[Operation]:
    """Targets and requests."""
    endpoints = _Endpoints(requests=requests, ledger=ledger, access=access, streams=streams)
    status = Answer(told="The request's status.", shape=_STATUS)
    gone = Answer(told="Done.")
    return [
        Operation(
            name="listTargets",
            path="/targets",
            endpoint=endpoints.targets,
            told="The targets that workers serve now; of an embedded farm none, whose commands define their own.",
            answers={200: Answer(told="The targets.", shape=list[Target])},
        ),
        Operation(
            name="registerTarget",
            method="PUT",
            path="/targets/{name}/{revision}",
            endpoint=endpoints.register,
            told="Make a target known; repeating it changes nothing.",
            scope=Scope.BUILD,
            parameters=(
                Parameter(name="name", told="The target's name.", form=TARGET_NAME.pattern, is_target=True),
                Parameter(name="revision", told="The digest of all that may change builds.", form=SHA256.pattern),
            ),
            body=_TARGET,
            answers={204: gone},
        ),
        Operation(
            name="submitRequest",
            method="POST",
            path="/requests",
            endpoint=endpoints.submit,
            told="Have jobs done for resolved sdists; safe to repeat under the same id.",
            scope=Scope.BUILD,
            body=_REQUEST,
            answers={202: Answer(told="It is kept, and will be done.", shape=_STATUS)},
            errors=(409, 422, 502),
        ),
        Operation(
            name="requestStatus",
            path="/requests/{id}",
            endpoint=endpoints.status,
            told="A request's status; with `after` not before something has happened since, or a few seconds passed.",
            parameters=(
                REQUEST_ID,
                Parameter(name="after", told="The `event` of an earlier status.", form=f"|{_EVENT}", place="query"),
            ),
            answers={200: status},
            errors=(404,),
        ),
        Operation(
            name="requestEvents",
            path="/requests/{id}/events",
            endpoint=endpoints.events,
            told="The jobs of a request as they change, as events `job`, and `end` when all has ended.",
            parameters=(REQUEST_ID, _LAST_EVENT),
            answers={200: Answer(told="Server-sent events.", media=(EVENTS,))},
            errors=(404, 429),
        ),
        Operation(
            name="changeRequest",
            method="PATCH",
            path="/requests/{id}",
            endpoint=endpoints.change,
            told="Have an open request's jobs done sooner.",
            scope=Scope.BUILD,
            parameters=(REQUEST_ID,),
            body={"type": "object", "properties": {"priority": _PRIORITY}, "required": ["priority"]},
            answers={200: status},
            errors=(404,),
        ),
        Operation(
            name="closeRequest",
            method="DELETE",
            path="/requests/{id}",
            endpoint=endpoints.close,
            told="Take leave of a request: what nobody else waits for is not built.",
            scope=Scope.BUILD,
            parameters=(REQUEST_ID,),
            answers={204: gone},
        ),
    ]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Endpoints:
    requests: Requests
    ledger: Ledger
    access: Access
    streams: EventStreams

    async def register(self, http: HttpRequest) -> Response:
        target = Target.from_json(json_object(await read_json_body(http)))
        if (target.name, target.revision) != (http.path_params["name"], http.path_params["revision"]):
            raise InputError("target: the path and the body name different targets.")
        await run_in_threadpool(self.requests.register, target)
        return Response(status_code=204)

    def targets(self, http: HttpRequest) -> Response:
        principal = principal_of(http)
        served = (target for target in self.requests.served_targets() if principal.may_use(target.name))
        return JSONResponse([target.to_json() for target in served])

    async def submit(self, http: HttpRequest) -> Response:
        principal = principal_of(http)
        request = replace(Request.from_json(await read_json_body(http)), tenant=principal.tenant)
        for target in request.targets:
            principal.require_target(target.name)
        _require_may_hurry(principal, request.priority)
        open_jobs = self.access.open_jobs(principal.tenant)
        status = await run_waiting(self.requests.accept, request, open_jobs=open_jobs)
        return JSONResponse(status, status_code=202)

    async def status(self, http: HttpRequest) -> Response:
        request_id, after = http.path_params["id"], http.query_params.get("after", "")
        await run_in_threadpool(self._require_visible, http)
        if after:
            awaited = await run_in_threadpool(self.requests.awaited, request_id)
            await self.ledger.changed(after, awaited)
        return JSONResponse(await run_in_threadpool(self.requests.status, request_id))

    async def events(self, http: HttpRequest) -> Response:
        request_id, last_id = http.path_params["id"], http.headers.get("last-event-id", "")
        await run_in_threadpool(self._require_visible, http)
        await run_in_threadpool(self.requests.awaited, request_id)
        return self.streams.stream(
            follow_request(self.requests, self.ledger, request_id, last_id), principal_of(http).token
        )

    async def change(self, http: HttpRequest) -> Response:
        priority = read_priority(json_object(await read_json_body(http)).get("priority"))
        _require_may_hurry(principal_of(http), priority)
        await run_in_threadpool(self._require_visible, http)
        return JSONResponse(await run_in_threadpool(self.requests.prioritise, http.path_params["id"], priority))

    def close(self, http: HttpRequest) -> Response:
        self._require_visible(http)
        self.requests.close(http.path_params["id"])
        return Response(status_code=204)

    def _require_visible(self, http: HttpRequest) -> None:
        """Raise NotFound for a request of another tenant, or of nobody's: those that the farm itself made."""
        principal, request_id = principal_of(http), http.path_params["id"]
        tenant = None if principal.sees_all else self.requests.tenant_of(request_id)
        if tenant is not None and not principal.may_see(tenant):
            raise NotFound(f"The farm knows no open request {request_id!r}.")


def _require_may_hurry(principal: Principal, priority: int) -> None:
    """Raise Forbidden where a request would be put before those of everybody else."""
    if priority < USUAL_PRIORITY:
        principal.require(Scope.ADMIN)
