"""Answers: errors as clients are told of them."""

import math

from redis.exceptions import RedisError
from starlette.exceptions import HTTPException
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response

from wheelfarm.errors import FarmUnavailable, TooManyRequests, Unauthorized, WheelfarmError

IMMUTABLE = {"Cache-Control": "max-age=365000000, immutable"}
_RETRY_S = 5


def error_answer(http: HttpRequest, error: WheelfarmError) -> Response:
    """The error for clients. uv takes 5xx answers for passing ones, so a resolution is ended with 422 instead."""
    status, headers = error.status, {}
    if http.url.path.startswith("/source/") and status >= 500:
        status = 422
    if status == Unauthorized.status:
        headers["WWW-Authenticate"] = 'Basic realm="wheelfarm"'
    if status == FarmUnavailable.status:
        headers["Retry-After"] = str(_RETRY_S)
    if isinstance(error, TooManyRequests):
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    return JSONResponse(error.to_json(), status_code=status, headers=headers)


def fault_answer(http: HttpRequest, error: Exception) -> Response:
    """The answer for a fault of the farm itself: its kind, and nothing of what it says."""
    if isinstance(error, RedisError):  # the broker is away, which passes
        return error_answer(http, FarmUnavailable(f"The farm's broker can't be used ({type(error).__name__})."))
    return error_answer(http, WheelfarmError(f"The farm failed: {type(error).__name__}."))


async def routing_answer(_: HttpRequest, error: Exception) -> Response:
    """What the router answers, where there is nothing or not this method, in the form of all errors."""
    assert isinstance(error, HTTPException)  # noqa: S101  (registered for nothing else)
    codes = {404: "not-found", 405: "method-not-allowed"}
    told = {"error": codes.get(error.status_code, "error"), "message": f"{error.detail}.", "hint": ""}
    return JSONResponse(told, status_code=error.status_code, headers=error.headers)
