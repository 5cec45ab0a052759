"""A client of an ASGI application within this process: no socket, and faults answered as a server answers them."""

import asyncio
from collections.abc import Iterable

import httpx
from starlette.applications import Starlette
from starlette.types import ASGIApp

from wheelfarm_services.access import Access
from wheelfarm_services.auth import Authenticated
from wheelfarm_services.operation import Operation, routes_of


class AsgiTransport(httpx.BaseTransport):
    """Each request runs in an event loop of its own."""

    def __init__(self, app: ASGIApp) -> None:
        self._transport = httpx.ASGITransport(app, raise_app_exceptions=False)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return asyncio.run(self._answer(request))

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        body = request.read()
        asked = httpx.Request(request.method, request.url, headers=request.headers, content=body)
        answer = await self._transport.handle_async_request(asked)
        return httpx.Response(answer.status_code, headers=answer.headers, content=await answer.aread())


def asgi_client(app: ASGIApp, **headers: str) -> httpx.Client:
    """A client that sends these headers with each request."""
    return httpx.Client(transport=AsgiTransport(app), base_url="http://farm.example", headers=headers)


def operations_client(operations: Iterable[Operation]) -> httpx.Client:
    """A client of these operations alone, which bears the farm's own token."""
    app = Authenticated(Starlette(routes=routes_of(operations)), Access("s3cret"))
    return asgi_client(app, Authorization="Bearer s3cret")
