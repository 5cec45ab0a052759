"""Operations: one method on one path each, with all that the OpenAPI document tells of it, and the routes they make."""

import asyncio
import inspect
import logging
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from redis.exceptions import RedisError
from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route

from wheelfarm.errors import FarmUnavailable, InputError, WheelfarmError
from wheelfarm.token_file import Scope
from wheelfarm.traces import span
from wheelfarm_services.access import principal_of
from wheelfarm_services.answers import error_answer, fault_answer
from wheelfarm_services.audit import audit
from wheelfarm_services.metrics import API_SECONDS, status_class
from wheelfarm_services.threads import run_waiting

logger = logging.getLogger(__name__)

_NAME = "wheelfarm.operation"

Endpoint = Callable[[HttpRequest], Response | Awaitable[Response]]
"""Answers a request; a plain function runs in the thread pool."""

Shape = Any
"""What a JSON value looks like: a type of the vocabulary, or a JSON schema."""

JSON, BYTES, TEXT, HTML, EVENTS = (
    "application/json",
    "application/octet-stream",
    "text/plain",
    "text/html",
    "text/event-stream",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Parameter:
    """A parameter of a path, a query or a header, and the form that is accepted, as a regular expression."""

    name: str
    told: str
    form: str = ".*"
    place: Literal["path", "query", "header"] = "path"
    required: bool = False
    is_target: bool = False

    def check(self, http: HttpRequest) -> None:
        """Raises InputError for a value that is missing or malformed, Forbidden for a target that is not allowed."""
        places = {"path": http.path_params, "query": http.query_params, "header": http.headers}
        value = places[self.place].get(self.name)
        if value is None:
            if self.required:
                raise InputError(f"{self.name} is missing: {self.told}")
            return
        if not re.fullmatch(self.form, str(value), re.ASCII | re.DOTALL):
            raise InputError(f"{self.name}: {str(value)[:200]!r} is malformed.", hint=f"Accepted: {self.form}")
        if self.is_target:
            principal_of(http).require_target(str(value))


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """A successful answer: what it means, its media types, what its JSON looks like, and its headers of note."""

    told: str
    shape: Shape = None
    media: tuple[str, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Operation:
    """One method on one path.

    `scope` is what a token needs for it (None: open to all), `body` the shape of the JSON that is sent, or BYTES,
    `answers` by status, `errors` the statuses of errors beyond those that every operation may answer. What `may_wait`
    for an upstream has threads of its own.
    """

    name: str
    method: Literal["GET", "PUT", "POST", "PATCH", "DELETE"] = "GET"
    path: str
    endpoint: Endpoint
    told: str
    scope: Scope | None = Scope.READ
    parameters: tuple[Parameter, ...] = ()
    body: Shape = None
    answers: Mapping[int, Answer]
    errors: Sequence[int] = ()
    may_wait: bool = False

    async def answer(self, http: HttpRequest) -> Response:
        """Check who asks for what, answer, and note it if it may have changed anything. It is traced for who traces."""
        http.scope[_NAME] = self.name
        parent = http.headers.get("traceparent", "")
        if not parent:
            return await self._noted(http)
        with span(self.name, role="server", parent=parent) as traced:
            answer = await self._noted(http)
            traced.note(status=answer.status_code)
            return answer

    async def _noted(self, http: HttpRequest) -> Response:
        began = time.time()
        try:
            self._check(http)
            answer = await self._answered(http)
        except WheelfarmError as error:
            answer = error_answer(http, error)
        except asyncio.CancelledError:  # the server ends
            answer = error_answer(http, FarmUnavailable("The services end.", hint="Ask again: others may answer."))
        except RedisError as error:  # it is away, which passes
            logger.warning("Redis can't be used", extra={"operation": self.name, "reason": type(error).__name__})
            answer = fault_answer(http, error)
        except Exception as error:
            logger.exception("request ended by a fault of the farm", extra={"operation": self.name})
            answer = fault_answer(http, error)
        API_SECONDS.labels(self.name, status_class(answer.status_code)).observe(time.time() - began)
        if self.scope is not None and (self.method != "GET" or answer.status_code == 403):
            principal = principal_of(http)
            audit(
                http,
                answer.status_code,
                action=self.name,
                at=began,
                token=principal.token,
                tenant=principal.tenant,
                **http.path_params,
            )
        return answer

    async def _answered(self, http: HttpRequest) -> Response:
        if inspect.iscoroutinefunction(self.endpoint):
            answer: Response = await self.endpoint(http)
            return answer
        run = run_waiting if self.may_wait else run_in_threadpool
        return cast(Response, await run(self.endpoint, http))

    def _check(self, http: HttpRequest) -> None:
        if self.scope is not None:
            principal_of(http).require(self.scope)
        for parameter in self.parameters:
            parameter.check(http)


def operation_of(http: HTTPConnection) -> str:
    """The name of the operation that has answered a request; "" where none has."""
    return str(http.scope.get(_NAME, ""))


def routes_of(operations: Iterable[Operation]) -> list[Route]:
    """One route a path, so that a method it has not is answered with those that it has (RFC 9110, 15.5.6)."""
    paths: dict[str, dict[str, Operation]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method] = operation
    return [_route(path, by_method) for path, by_method in paths.items()]


def _route(path: str, by_method: Mapping[str, Operation]) -> Route:
    async def answer(http: HttpRequest) -> Response:
        return await by_method["GET" if http.method == "HEAD" else http.method].answer(http)

    return Route(path, answer, methods=sorted(by_method))
