"""Answers that are given again: pages and files of the index, to requests that equal an earlier one.

It decides nothing. Who asks has been admitted, as for every request; an answer is kept only where the endpoint that
gave it has told what it rests on, and is given again only to the same request of the same principal, and only after
each of those conditions was found to hold at this moment. Else the request goes the way of all others.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from starlette.requests import Request as HttpRequest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from wheelfarm_services.access import PRINCIPAL
from wheelfarm_services.metrics import API_SECONDS, status_class
from wheelfarm_services.operation import operation_of

Condition = Callable[[], bool]
"""Whether something is as it was when an answer was made: False, or any error, where it may not be."""

DECIDING_HEADERS = frozenset({b"accept", b"if-none-match"})
"""Of requests for what may be given again these headers decide the answer."""
PASSED_ON_HEADERS = frozenset({b"range", b"if-range", b"traceparent"})
"""A request with one of these is never answered from memory: ranges would fill it, and traces are told of all work."""

_CONDITIONS = "wheelfarm.conditions"
_MOST_BYTES, _MOST_BYTES_OF_ONE = 64 << 20, 1 << 20
_OVERHEAD_BYTES = 2048

_Key = tuple[object, ...]


def rests_on(http: HttpRequest, *conditions: Condition | None) -> None:
    """Let the answer to a request be given again while all of that holds; None is what nobody can tell of.

    To be said before anything is read that a condition is about.
    """
    http.scope[_CONDITIONS] = None if None in conditions else conditions


@dataclass(kw_only=True, slots=True)
class _Answer:
    start: Message
    body: Message
    conditions: tuple[Condition, ...]
    observe: Callable[[float], None]
    size: int
    asked_again: bool = False

    def holds(self) -> bool:
        try:
            for condition in self.conditions:
                if not condition():
                    return False
        except Exception:  # the way of all requests finds the same, and tells of it
            return False
        return True


class AnswerMemory:
    """Gives remembered answers again; `most_bytes` hold those that were asked for last (second chance)."""

    def __init__(self, app: ASGIApp, *, most_bytes: int = _MOST_BYTES) -> None:
        self._app = app
        self._most_bytes = most_bytes
        self._answers: dict[_Key, _Answer] = {}
        self._bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        key = _key(scope)
        if key is None:
            await self._app(scope, receive, send)
            return
        began = time.monotonic()
        answer = self._answers.get(key)
        if answer is None or not answer.holds():
            self._forget(key)
            recorded = _Recorded(send)
            await self._app(scope, receive, recorded)
            self._keep(key, scope, recorded)
            return
        answer.asked_again = True
        answer.observe(time.monotonic() - began)
        await send(answer.start)
        await send(answer.body)

    def _keep(self, key: _Key, scope: Scope, recorded: "_Recorded") -> None:
        conditions, start, body = scope.get(_CONDITIONS), recorded.start, recorded.body
        if conditions is None or start is None or body is None or start["status"] not in (200, 304):
            return
        size = _OVERHEAD_BYTES + len(repr(key)) + len(repr(start["headers"])) + len(body.get("body", b""))
        if size > _MOST_BYTES_OF_ONE:
            return
        outcome = status_class(start["status"])
        observe = API_SECONDS.labels(operation_of(HttpRequest(scope)), outcome).observe
        self._forget(key)  # an equal request may have been answered meanwhile
        self._answers[key] = _Answer(start=start, body=body, conditions=conditions, observe=observe, size=size)
        self._bytes += size
        while self._bytes > self._most_bytes:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        """Forget the answer that came first, unless it was asked for again: then it counts as new once more."""
        key = next(iter(self._answers))
        answer = self._answers.pop(key)
        if answer.asked_again:
            answer.asked_again = False
            self._answers[key] = answer
        else:
            self._bytes -= answer.size

    def _forget(self, key: _Key) -> None:
        if (answer := self._answers.pop(key, None)) is not None:
            self._bytes -= answer.size


class _Recorded:
    """Sends an answer on, and keeps it where it is sent in one piece."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.start: Message | None = None
        self.body: Message | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.start = message
        elif message["type"] == "http.response.body" and not message.get("more_body", False):
            self.body = message
        else:
            self.start = None
        await self._send(message)


def _key(scope: Scope) -> _Key | None:
    """All that the answer to a request may depend on; None where it may not be given again."""
    principal = scope.get(PRINCIPAL)
    if principal is None or scope["method"] not in ("GET", "HEAD"):
        return None
    deciding = []
    for header in scope["headers"]:
        if header[0] in PASSED_ON_HEADERS:
            return None
        if header[0] in DECIDING_HEADERS:
            deciding.append(tuple(header))  # each as often as it comes, and in this order
    return scope["method"], scope["path"], scope["query_string"], principal, *deciding
