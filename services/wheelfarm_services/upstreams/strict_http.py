"""Asking one upstream over HTTP, strictly: what is sent, where it may lead, and what counts as an answer.

Nothing but GET is sent, and never for a wheel. Credentials go to the upstream's own origin alone; nothing leads from
https to http, or from outside to addresses inside, by whatever name. Bodies are bounded, and read to an end that can be
told from a break.
"""

import email.utils
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cached_property
from typing import Any, TypeVar

import httpx

from wheelfarm.errors import UpstreamError
from wheelfarm_services.metrics import UPSTREAM_SECONDS, status_class
from wheelfarm_services.upstreams.credentials import Credentials, credentials_of
from wheelfarm_services.upstreams.inside import is_inside
from wheelfarm_services.upstreams.listing import redacted
from wheelfarm_services.upstreams.pace import Pace
from wheelfarm_services.upstreams.settings import UpstreamSettings

_PASSING = (408, 425, 429, 500, 502, 503, 504)
"""The statuses that are asked about again before they count as the answer."""
_LONGEST_PAUSE_S = 60.0
_CONNECTIONS = 32
_PREBUILT = "wheelfarm-prebuilt"
"""Marks a request for a wheel that policy excepts."""
_WHEEL = re.compile(r"\.whl$", re.IGNORECASE)
_KEPT = ("content-type", "etag", "last-modified", "cache-control")

T = TypeVar("T")


class _Passing(Exception):
    """An answer that may be another one soon."""

    def __init__(self, answer: httpx.Response) -> None:
        super().__init__(f"answered {answer.status_code} {answer.reason_phrase}")
        self.pause_s = _retry_after(answer.headers.get("retry-after", ""))


class _Connecting:
    """Follows how one request is connected (httpx's extension `trace`), and ends that with an error, before anything is
    sent, where the address is an inner one.

    The name was judged by one answer of DNS and is connected to by another, which whoever owns the name may give. A
    connection to a proxy is none to that host.
    """

    def __init__(self, host: str, inside: Callable[[str], bool], error: UpstreamError) -> None:
        self._host = host
        self._inside = inside
        self._error = error
        self._is_direct = False

    def __call__(self, event: str, facts: Mapping[str, Any]) -> None:
        if event == "connection.connect_tcp.started":
            self._is_direct = facts["host"] == self._host.strip("[]")
        elif event == "connection.connect_tcp.complete" and self._is_direct:
            connection = facts["return_value"]
            if self._inside(str(connection.get_extra_info("server_addr")[0])):
                connection.close()
                raise self._error


class StrictHttp:
    """The HTTP client of the upstream at `url`. `transport`, `sleep` and `inside` stand for the network, the pauses
    between attempts and what tells whether a host or an address is an inner one."""

    def __init__(
        self,
        settings: UpstreamSettings,
        url: str,
        *,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        inside: Callable[[str], bool] = is_inside,
    ) -> None:
        self._settings = settings
        self._url = httpx.URL(url)
        self._sleep = sleep
        self._inside = inside
        self._pace = Pace(settings.requests_per_s, sleep=sleep)
        self._http = httpx.Client(
            transport=transport,
            timeout=httpx.Timeout(settings.timeout, connect=min(10.0, settings.timeout)),
            follow_redirects=True,
            max_redirects=5,
            verify=str(settings.ca) if settings.ca else True,
            limits=httpx.Limits(max_connections=_CONNECTIONS),
            headers={"User-Agent": "wheelfarm"},
            event_hooks={"request": [self._judge]},
        )

    def get(
        self, url: str, *, accept: str, what: str, most: int, conditions: Mapping[str, str] | None = None
    ) -> httpx.Response:
        """The answer for a URL with its body, of at most that many bytes. Raises UpstreamError, calling the thing
        `what`, where there is none."""

        def once() -> httpx.Response:
            with self.open(url, accept=accept, encoding="gzip, deflate", conditions=conditions) as answer:
                return self._read(answer, what, most)

        return self.persistently(once, what)

    @contextmanager
    def open(
        self,
        url: str,
        *,
        accept: str,
        encoding: str,
        conditions: Mapping[str, str] | None = None,
        prebuilt: bool = False,
    ) -> Iterator[httpx.Response]:
        """One attempt at a URL, its body yet to be read; with `prebuilt` it may be a wheel's."""
        self._pace.wait()
        given = {name: value for name, value in (conditions or {}).items() if value}
        headers = {"Accept": accept, "Accept-Encoding": encoding, **given}
        auth = self._credentials.auth if _origin(httpx.URL(url)) == _origin(self._url) else None
        asked = self._http.stream("GET", url, headers=headers, auth=auth, extensions={_PREBUILT: prebuilt})
        began, outcome = time.monotonic(), "error"
        with ExitStack() as stack:
            try:
                answer = stack.enter_context(asked)
                outcome = status_class(answer.status_code)
            finally:
                UPSTREAM_SECONDS.labels(self._settings.name, outcome).observe(time.monotonic() - began)
            yield answer

    def persistently(self, once: Callable[[], T], what: str) -> T:
        """What `once` returns, tried again after a pause while the network or the upstream fails in a passing way."""
        for attempt in range(self._settings.retries + 1):
            try:
                return once()
            except _Passing as passing:
                problem, pause_s = f"{passing} for {what}", passing.pause_s
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                problem, pause_s = f"can't be reached, or broke off, for {what}: {_reason(error)}", None
            pause_s = 0.5 * 2**attempt if pause_s is None else pause_s
            if pause_s > _LONGEST_PAUSE_S:
                problem += f" (it asks to be left alone for {pause_s:.0f} s)"
                break
            if attempt < self._settings.retries:
                self._sleep(pause_s)
        raise self.refused(problem)

    def require_ok(self, answer: httpx.Response, what: str) -> None:
        """Raise UpstreamError for any answer but 200, telling what of credentials was sent where they are wanting."""
        _require_lasting(answer)
        if answer.status_code == 200:
            return
        said = f"answered {answer.status_code} {answer.reason_phrase} for {what}"
        if answer.status_code in (401, 403, 407):
            unsent = self._credentials.auth and "authorization" not in answer.request.headers
            said += "; none of its credentials were sent there" if unsent else f"; {self._credentials.told}"
        raise self.refused(said)

    def refused(self, what: str) -> UpstreamError:
        """The error of an upstream that did `what`."""
        return UpstreamError(
            f"The upstream index {self._url} {what}.",
            hint="Only 404 means that a project is absent; the farm asks no other index instead.",
        )

    def _judge(self, request: httpx.Request) -> None:
        """Refuse to send a request that leads where nothing of this upstream may: it is asked of redirects, too."""
        url = request.url
        shown = redacted(str(url.copy_with(query=None, fragment=None)))
        if _WHEEL.search(url.path) and not request.extensions.get(_PREBUILT):
            raise self.refused(f"leads to {shown}, and no wheel of an upstream is ever fetched")
        if self._url.scheme == "https" and url.scheme != "https":
            raise self.refused(f"leads to {shown}, out of the encryption")
        request.extensions.pop("trace", None)  # of the request that was redirected
        if url.host != self._url.host and not self._inside(self._url.host):
            if self._inside(url.host):
                raise self._led_inside(shown)
            request.extensions["trace"] = _Connecting(url.host, self._inside, self._led_inside(shown))

    def _led_inside(self, shown: str) -> UpstreamError:
        return self.refused(f"leads to {shown}, which is an inner address, and it is none itself")

    @cached_property
    def _credentials(self) -> Credentials:
        return credentials_of(self._settings)

    def _read(self, answer: httpx.Response, what: str, most: int) -> httpx.Response:
        """The answer with its body read, which is decompressed piece by piece, and bounded."""
        _require_lasting(answer)
        body = bytearray()
        for chunk in answer.iter_bytes(1 << 16):
            body += chunk
            if len(body) > most:
                raise self.refused(f"sent more than {most} bytes for {what}")
        if _may_be_cut(answer, bytes(body)):
            raise self.refused(f"sent a page for {what} that breaks off: it has neither a length nor an end")
        headers = {name: answer.headers[name] for name in _KEPT if name in answer.headers}
        return httpx.Response(answer.status_code, headers=headers, content=bytes(body), request=answer.request)


def _require_lasting(answer: httpx.Response) -> None:
    if answer.status_code in _PASSING:
        raise _Passing(answer)


def _may_be_cut(answer: httpx.Response, body: bytes) -> bool:
    """Whether an HTML page's end can be told neither from its headers nor from itself (HTTP/1.0 to the connection's
    end)."""
    framed = "content-length" in answer.headers or "transfer-encoding" in answer.headers
    is_page = answer.status_code == 200 and "html" in answer.headers.get("content-type", "")
    return is_page and not framed and answer.http_version != "HTTP/2" and not body.rstrip().lower().endswith(b"</html>")


def _retry_after(told: str) -> float | None:
    """The seconds of a Retry-After (RFC 9110), None where there is none."""
    if re.fullmatch(r"\d{1,9}", told, re.ASCII):
        return float(told)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(told).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
