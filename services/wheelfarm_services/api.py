"""The farm's HTTP face: requests, jobs, logs, wheels and flat pages for clients, the source index for resolvers."""

import hmac
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from wheelfarm.errors import InputError, NotFound, WheelfarmError
from wheelfarm.target import Target
from wheelfarm_services import layout
from wheelfarm_services.accounts import Accounts
from wheelfarm_services.basic_auth import basic_credentials
from wheelfarm_services.explanations import explanation_routes
from wheelfarm_services.fleet import Fleet
from wheelfarm_services.forecasts import forecast_routes
from wheelfarm_services.json_body import json_object, read_json_body
from wheelfarm_services.ledger import Ledger
from wheelfarm_services.local_routes import local_routes
from wheelfarm_services.overview import overview_routes
from wheelfarm_services.recipe_book import RecipeBook
from wheelfarm_services.requests import Request, Requests
from wheelfarm_services.source_index import SourceIndex
from wheelfarm_services.source_routes import source_routes
from wheelfarm_services.store import Store

_IMMUTABLE = "max-age=365000000, immutable"
_CHUNK = 1 << 20
_CONTROL = re.compile(r"[^\t\n -~\u00a0-\u200d\u2010-\u2027\u2030-\u2065\u206a-\ud7ff\uf900-\ufffd]")


@dataclass(frozen=True, kw_only=True, slots=True)
class Services:
    """What the API speaks for."""

    store: Store
    ledger: Ledger
    sources: SourceIndex
    requests: Requests
    accounts: Accounts
    recipes: RecipeBook
    fleet: Fleet
    token: str


def create_app(services: Services) -> ASGIApp:
    """The ASGI application. Every path but /healthz asks for the farm's token, as Bearer or as Basic password."""
    endpoints = _Endpoints(services)
    routes = [
        Route("/healthz", endpoints.health),
        Route("/targets/{name}/{revision}", endpoints.register, methods=["PUT"]),
        Route("/requests", endpoints.submit, methods=["POST"]),
        Route("/requests/{id}", endpoints.request, methods=["GET"]),
        Route("/requests/{id}", endpoints.close, methods=["DELETE"]),
        Route("/jobs/{prefix}", endpoints.job),
        Route("/jobs/{prefix}/log", endpoints.log),
        Route("/wheels/{sha256}/{filename}", endpoints.wheel),
        Route("/flat/{target}/", endpoints.flat_page),
        *source_routes(services.store, services.ledger, services.sources, services.requests, services.accounts),
        *overview_routes(services.ledger, services.requests, services.fleet),
        *explanation_routes(services.store),
        Route("/recipes", endpoints.recipes),
        Route("/recipes/{project}", endpoints.recipe),
        *local_routes(services.store, services.accounts),
        *forecast_routes(services.store, services.ledger, services.sources, services.requests),
    ]
    app = Starlette(routes=routes, exception_handlers={WheelfarmError: _answer_error, Exception: _answer_error})
    return _Authenticated(app, services.token)


class _Endpoints:
    """One method a route; plain functions, which Starlette runs in its thread pool."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def health(self, _: HttpRequest) -> Response:
        self._services.ledger.ping()
        return PlainTextResponse("ok\n")

    async def register(self, http: HttpRequest) -> Response:
        target = Target.from_json(json_object(await read_json_body(http)))
        if (target.name, target.revision) != (http.path_params["name"], http.path_params["revision"]):
            raise InputError("target: the path and the body name different targets.")
        await run_in_threadpool(self._services.requests.register, target)
        return Response(status_code=204)

    async def submit(self, http: HttpRequest) -> Response:
        return await _threaded(self._submit, await read_json_body(http))

    async def request(self, http: HttpRequest) -> Response:
        """A request's status; with `after`, the `event` of an earlier one, not before something has happened since."""
        request_id, after = http.path_params["id"], http.query_params.get("after", "")
        if after:
            if not re.fullmatch(r"\d{1,20}-\d{1,20}", after, re.ASCII):
                raise InputError(f"after: {after!r} is no event of a status.")
            awaited = await run_in_threadpool(self._services.requests.awaited, request_id)
            await self._services.ledger.changed(after, awaited)
        return JSONResponse(await run_in_threadpool(self._services.requests.status, request_id))

    def close(self, http: HttpRequest) -> Response:
        self._services.requests.close(http.path_params["id"])
        return Response(status_code=204)

    def job(self, http: HttpRequest) -> Response:
        return JSONResponse(self._services.requests.job(http.path_params["prefix"]).to_json())

    def log(self, http: HttpRequest) -> Response:
        prefix = http.path_params["prefix"]
        if not re.fullmatch(r"[0-9a-f]{8,64}", prefix):
            raise InputError(f"{prefix!r} is not the beginning of a job's id (8 hex digits or more).")
        logs = list(self._services.store.list(layout.build_logs_of(prefix)))
        if len({key.split("/")[1] for key in logs}) != 1:
            raise NotFound(
                f"{'Several jobs' if logs else 'No job'} with a log {'begin' if logs else 'begins'} with {prefix!r}."
            )
        text = (self._services.store.get(logs[-1]) or b"").decode(errors="replace")
        return PlainTextResponse(_CONTROL.sub("\N{REPLACEMENT CHARACTER}", text), headers=_UNTRUSTED_TEXT)

    def wheel(self, http: HttpRequest) -> Response:
        sha256, filename = http.path_params["sha256"], http.path_params["filename"]
        key = layout.wheel(sha256, filename)
        size, file = self._services.store.size(key), self._services.store.open(key)
        if size is None or file is None:
            raise NotFound(f"The farm has no wheel {filename} with sha256 {sha256}.")
        headers = {"Content-Length": str(size), "Cache-Control": _IMMUTABLE, "Accept-Ranges": "none"}
        return StreamingResponse(_chunks(file), media_type="application/octet-stream", headers=headers)

    def flat_page(self, http: HttpRequest) -> Response:
        page = self._services.store.get(layout.flat_page(http.path_params["target"]))
        if page is None:
            raise NotFound(f"Nothing has been built for a target {http.path_params['target']!r}.")
        return Response(page, media_type="text/html", headers={"Cache-Control": "no-cache"})

    def recipes(self, _: HttpRequest) -> Response:
        entries = self._services.recipes.entries()
        return JSONResponse({name: entry.origin for name, entry in sorted(entries.items())})

    def recipe(self, http: HttpRequest) -> Response:
        found = self._services.recipes.described(http.path_params["project"])
        if found is None:
            raise NotFound(f"The farm has no recipe for {http.path_params['project']!r}.")
        return JSONResponse(found)

    def _submit(self, value: object) -> Response:
        return JSONResponse(self._services.requests.accept(Request.from_json(value)), status_code=202)


_UNTRUSTED_TEXT = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "default-src 'none'"}


class _Authenticated:
    """Asks for the farm's token before anything else, also where there is nothing."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] == "/healthz" or self._allowed(HttpRequest(scope)):
            await self._app(scope, receive, send)
            return
        error = {
            "error": "unauthorized",
            "message": "The farm's token is missing or wrong.",
            "hint": "WHEELFARM_TOKEN",
        }
        refusal = JSONResponse(error, 401, headers={"WWW-Authenticate": 'Basic realm="wheelfarm"'})
        await refusal(scope, receive, send)

    def _allowed(self, http: HttpRequest) -> bool:
        header = http.headers.get("authorization", "")
        scheme, _, given = header.partition(" ")
        secret = basic_credentials(header)[1] if scheme.lower() == "basic" else given
        return not self._token or hmac.compare_digest(secret.encode(), self._token.encode())


async def _threaded(function: Callable[[object], Response], value: object) -> Response:
    return await run_in_threadpool(function, value)


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    with file:
        while chunk := file.read(_CHUNK):
            yield chunk


async def _answer_error(http: HttpRequest, error: Exception) -> Response:
    """The error for clients. uv takes 5xx answers for passing ones, so a resolution is ended with 422 instead."""
    known = error if isinstance(error, WheelfarmError) else WheelfarmError(f"The farm failed: {type(error).__name__}.")
    status = 422 if http.url.path.startswith("/source/") and known.status >= 500 else known.status
    return JSONResponse(known.to_json(), status_code=status)
