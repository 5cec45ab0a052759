"""Project pages that wait for what they lack: with 503 and Retry-After, in time for each installer's own retries."""

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from packaging.version import InvalidVersion, Version
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response

from wheelfarm.errors import InputError, NotFound, WheelfarmError
from wheelfarm.job import PROJECT_NAME
from wheelfarm.token_file import Scope
from wheelfarm_services.access import principal_of
from wheelfarm_services.answer_memory import rests_on
from wheelfarm_services.answers import error_answer
from wheelfarm_services.basic_auth import basic_credentials
from wheelfarm_services.on_demand import Note, OnDemand, State, is_absent
from wheelfarm_services.operation import Endpoint, Operation, Parameter

_WANT = Parameter(
    name="want",
    told="A version that shall be built, where the index builds on demand; without one the newest, if there is none.",
    place="query",
)
_HELD_S, _HELD_FOR_UV_S = 10.0, 25.0
_LOOKED_EVERY_S = 0.25
_RETRY_S = (5, 60)


def held_s(user_agent: str) -> float:
    """How many seconds an installer stands to wait for an answer: pip gives up after 15, uv after 30. uv heeds no
    Retry-After and asks four times within 11 s, so that its waiting is done here."""
    return _HELD_FOR_UV_S if user_agent.startswith("uv/") else _HELD_S


def building_on_demand(
    operations: Iterable[Operation], demand: OnDemand, *, held: Callable[[str], float] = held_s
) -> list[Operation]:
    """The operations, of which that of a project's page has built what is missing."""
    return [_building(one, demand, held) if one.name == "projectPage" else one for one in operations]


def _building(operation: Operation, demand: OnDemand, held: Callable[[str], float]) -> Operation:
    endpoint = _Endpoint(page=operation.endpoint, demand=demand, held=held)
    errors = tuple(sorted({*operation.errors, 422, 429, 503}))
    return replace(operation, endpoint=endpoint.answer, parameters=(*operation.parameters, _WANT), errors=errors)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Endpoint:
    page: Endpoint
    demand: OnDemand
    held: Callable[[str], float]

    async def answer(self, http: HttpRequest) -> Response:
        version = _version(http.query_params.get("want", ""))
        answer = await self._answer(http, version)
        if version:
            rests_on(http, None)  # but on what becomes of that build
        return answer

    async def _answer(self, http: HttpRequest, version: str) -> Response:
        if not version:
            try:
                return await self._page(http)
            except NotFound:
                if not self._may_build(http):
                    raise
        elif not self._may_build(http):
            return await self._page(http)
        note = await self._awaited(http, version)
        if note.state is State.BUILDING:
            return _later(note)
        if note.error is not None:
            if is_absent(note.error):
                raise NotFound(note.error.message, hint=note.error.hint)
            return _problem(http, note.error)
        return await self._page(http)

    async def _page(self, http: HttpRequest) -> Response:
        answer = await run_in_threadpool(self.page, http)
        assert isinstance(answer, Response)  # noqa: S101  (the page of a project is read in a thread)
        return answer

    def _may_build(self, http: HttpRequest) -> bool:
        """Whether who asks may have this project built for the target by asking."""
        target, project = http.path_params["target"], http.path_params["project"]
        may = self.demand.covers(target) and principal_of(http).scope.includes(Scope.BUILD)
        return may and PROJECT_NAME.fullmatch(project) is not None

    async def _awaited(self, http: HttpRequest, version: str) -> Note:
        """How far the build is, after as long a while as the installer can stand."""
        target, project = http.path_params["target"], http.path_params["project"]
        requirement = f"{project}=={version}" if version else project
        until = time.monotonic() + self.held(http.headers.get("user-agent", ""))
        while True:
            arguments = (principal_of(http), _token(http), target, requirement)
            note = await run_in_threadpool(self.demand.wanted, *arguments)
            if note.state is not State.BUILDING or time.monotonic() > until:
                return note
            await asyncio.sleep(_LOOKED_EVERY_S)


def _problem(http: HttpRequest, error: WheelfarmError) -> Response:
    """Why there will be no page, also in the terms of RFC 9457, which uv shows to its user."""
    answer = error_answer(http, error)
    told = {**error.to_json(), "title": error.message, "detail": error.hint, "status": answer.status_code}
    headers = {name: answer.headers[name] for name in ("retry-after",) if name in answer.headers}
    return JSONResponse(told, answer.status_code, headers, media_type="application/problem+json")


def _later(note: Note) -> Response:
    """When to ask again: after about as long as it has taken up to now."""
    shortest, longest = _RETRY_S
    seconds = round(min(longest, max(shortest, time.time() - note.since)))
    told = {
        "error": "building",
        "message": "What was asked for is being built.",
        "hint": "Ask again: installers do so by themselves, a few times. What is built meanwhile is kept.",
    }
    return JSONResponse(told, 503, headers={"Retry-After": str(seconds)})


def _version(text: str) -> str:
    """The version that is wanted; "" for none. Raises InputError."""
    try:
        return str(Version(text)) if text else ""
    except InvalidVersion as error:
        raise InputError(f"want: {text[:100]!r} is no version.") from error


def _token(http: HttpRequest) -> str:
    """The token that a request bears, which was found to be one."""
    authorization = http.headers.get("authorization", "")
    return basic_credentials(authorization)[1] or authorization.partition(" ")[2].strip()
