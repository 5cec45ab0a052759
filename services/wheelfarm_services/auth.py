"""Asks for a token before anything else is done, alike on every path, also where there is nothing."""

import re
import time
from collections.abc import Awaitable
from urllib.parse import unquote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request as HttpRequest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from wheelfarm.errors import InputError, TooManyRequests, Unauthorized, WheelfarmError
from wheelfarm.token_file import TOKEN
from wheelfarm_services.access import PRINCIPAL, Access, Principal
from wheelfarm_services.answers import error_answer
from wheelfarm_services.audit import audit
from wheelfarm_services.rate_limits import RateLimits

VERSION_HEADER, API_VERSION = "Wheelfarm-API", "1"
"""Every answer tells the version; a request may name the one that it was written for (docs/api.md)."""
_VERSION = VERSION_HEADER.lower().encode(), API_VERSION.encode()
OPEN_PATHS = frozenset({"/healthz", "/readyz"})
_TOKEN_PARAMETER = re.compile(r"(^|&)(access_token|api_?key|authorization|password|secret|token)=", re.IGNORECASE)


class Authenticated:
    """Lets through who bears a token, as often as the token allows."""

    def __init__(self, app: ASGIApp, access: Access, limits: RateLimits | None = None) -> None:
        self._app = app
        self._access = access
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        send = _telling_version(send)
        if scope["path"] in OPEN_PATHS:
            await self._app(scope, receive, send)
            return
        try:
            principal = self._bearer(scope)
            if self._limits is not None and principal.requests_per_minute:
                await self._count(self._limits, principal)
            if _header(scope, _VERSION[0], API_VERSION) != API_VERSION:
                raise InputError(f"This farm speaks version {API_VERSION} of the API.", hint="Update client or farm.")
        except WheelfarmError as error:
            await error_answer(HttpRequest(scope), error)(scope, receive, send)
            return
        scope[PRINCIPAL] = principal
        await self._app(scope, receive, send)

    def _bearer(self, scope: Scope) -> Principal:
        query = scope["query_string"].decode("latin-1")
        if _TOKEN_PARAMETER.search(query) or TOKEN.search(unquote(f"{scope['path']}?{query}")):
            raise InputError(
                "A token in a URL is not accepted: URLs are written to logs.",
                hint="Send it in the Authorization header. Revoke it if it was a real one.",
            )
        authorization = _header(scope, b"authorization")
        principal = self._access.principal(authorization)
        if principal is None:
            if authorization:
                audit(HttpRequest(scope), Unauthorized.status, action="refused", at=time.time(), token="")
            raise Unauthorized(
                "The token is missing, wrong, expired or revoked.", hint="Set WHEELFARM_TOKEN to a token of this farm."
            )
        return principal

    async def _count(self, limits: RateLimits, principal: Principal) -> None:
        wait_s = await run_in_threadpool(limits.wait_s, principal.token, principal.requests_per_minute)
        if wait_s:
            raise TooManyRequests(
                f"The token {principal.token!r} may be used {principal.requests_per_minute} times a minute.",
                retry_after_s=wait_s,
            )


def _header(scope: Scope, name: bytes, default: str = "") -> str:
    """The first header of that name."""
    for known, value in scope["headers"]:
        if known == name:
            return str(value, "latin-1")
    return default


def _telling_version(send: Send) -> Send:
    def tell(message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], _VERSION]}
        return send(message)

    return tell
