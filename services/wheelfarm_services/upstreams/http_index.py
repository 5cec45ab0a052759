"""One upstream that is asked over HTTP, by a client that is strict in what it takes for an answer.

404 alone means absent. Nothing but GET is sent, and never for a wheel. Credentials go to the upstream's own origin
alone; nothing leads from https to http, or from outside to addresses inside.
"""

import email.utils
import hashlib
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar
from urllib.parse import urljoin

import httpx
from mousebender import simple
from packaging.utils import is_normalized_name

from wheelfarm.errors import HashMismatch, UpstreamError
from wheelfarm_services.metrics import UPSTREAM_SECONDS, status_class
from wheelfarm_services.upstreams.credentials import Credentials, credentials_of
from wheelfarm_services.upstreams.inside import is_inside
from wheelfarm_services.upstreams.listing import (
    File,
    ListedSdist,
    ProjectPage,
    Sidecar,
    Unreadable,
    list_files,
    read_flat_page,
    read_simple_page,
    redacted,
)
from wheelfarm_services.upstreams.pace import Pace
from wheelfarm_services.upstreams.settings import UpstreamSettings

_PAGE_BYTES = 256 << 20
_SDIST_BYTES = 4 << 30
_SIDECAR_BYTES = 4 << 20
_PASSING = (408, 425, 429, 500, 502, 503, 504)
"""The statuses that are asked about again before they count as the answer."""
_LONGEST_PAUSE_S = 60.0
_FRESH_S = 600.0
_CONNECTIONS = 32
_PREBUILT = "wheelfarm-prebuilt"
"""Marks a request for a wheel that policy excepts."""
_WHEEL = re.compile(r"\.whl$", re.IGNORECASE)

T = TypeVar("T")


class _Passing(Exception):
    """An answer that may be another one soon."""

    def __init__(self, answer: httpx.Response) -> None:
        super().__init__(f"answered {answer.status_code} {answer.reason_phrase}")
        self.pause_s = _retry_after(answer.headers.get("retry-after", ""))


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """A page as it was seen last: the validators that came with it (ETag, Last-Modified) and, where there are none, the
    sha256 of its body."""

    etag: str = ""
    modified: str = ""
    body_sha256: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class PageAnswer:
    """What an upstream said of a project: its page, None where it is absent; or that it is `unchanged`. For `fresh_s`
    seconds it may be taken up without asking again. `ignored` tells of an error that is configured to mean absent."""

    page: ProjectPage | None
    seen: Seen
    unchanged: bool = False
    fresh_s: float = 0.0
    ignored: str = ""


class HttpIndex:
    """An upstream by its URL. `transport`, `sleep` and `inside` stand for the network, the pauses between attempts and
    what tells whether a host is an inner one; of a page, no more than `page_bytes` is read.
    """

    def __init__(
        self,
        settings: UpstreamSettings,
        *,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        inside: Callable[[str], bool] = is_inside,
        page_bytes: int = _PAGE_BYTES,
    ) -> None:
        self.name = settings.name
        self.url = redacted(settings.url).rstrip("/") + "/"
        self._settings = settings
        self._sleep = sleep
        self._inside = inside
        self._page_bytes = page_bytes
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
        self._flat: tuple[float, list[File]] | None = None

    def page(self, name: str, seen: Seen | None = None, *, wheels: bool = False) -> PageAnswer:
        """The project's page, with `wheels` those listed, too; no page where upstream answers 404. `name` is
        normalised, `seen` what is known of it.

        Raises UpstreamError for every other answer, naming the index without its credentials.
        """
        if not is_normalized_name(name):
            return PageAnswer(page=None, seen=Seen())
        if self._settings.kind == "flat":
            return PageAnswer(page=self._page_of_flat(name, wheels), seen=Seen())
        answer = self._get(urljoin(self.url, f"{name}/"), accept=simple.ACCEPT_SUPPORTED, what=name, seen=seen)
        now_seen, fresh_s = _seen(answer), _fresh_s(answer)
        if answer.status_code == 304 and seen is not None:
            return PageAnswer(page=None, seen=seen, unchanged=True, fresh_s=fresh_s)
        if answer.status_code == 404:
            return PageAnswer(page=None, seen=now_seen, fresh_s=fresh_s)
        if answer.status_code in self._settings.ignore_error_codes:
            return PageAnswer(page=None, seen=Seen(), ignored=f"{self.name} answered {answer.status_code}")
        self._require_ok(answer, name)
        if seen is not None and now_seen.body_sha256 == seen.body_sha256:
            return PageAnswer(page=None, seen=now_seen, unchanged=True, fresh_s=fresh_s)
        base_url = redacted(str(answer.url))
        try:
            kept = {"sidecars": self._settings.trust_metadata, "wheels": wheels}
            page = read_simple_page(name, answer.text, _content_type(answer), base_url, **kept)
        except Unreadable as error:
            raise self._refused(f"sent a page for {name} that {error}") from error
        return PageAnswer(page=page, seen=now_seen, fresh_s=fresh_s)

    def fetch(self, listed: ListedSdist, path: Path) -> None:
        """Write an sdist's bytes to `path`. Raises HashMismatch when they are not those that the page promised."""
        what, promised = listed.sdist.filename, listed.sdist.sha256

        def once() -> str:
            digest, size = hashlib.sha256(), 0
            asked = self._open(listed.url, accept="*/*", encoding="identity", prebuilt=listed.sdist.is_prebuilt)
            with asked as answer, path.open("wb") as file:
                self._require_ok(answer, what)
                for chunk in answer.iter_raw(1 << 16):
                    size += len(chunk)
                    if size > _SDIST_BYTES:
                        raise self._refused(f"sent more than {_SDIST_BYTES} bytes for {what}")
                    digest.update(chunk)
                    file.write(chunk)
            return digest.hexdigest()

        sha256 = self._persistently(once, what)
        if sha256 != promised:
            raise HashMismatch(
                f"{what} from {self.url} has sha256 {sha256}, but its index page promises {promised}.",
                hint="Nothing was kept. The file was changed under way or upstream; ask whoever runs that index.",
            )

    def sidecar(self, sidecar: Sidecar) -> bytes:
        """The metadata that upstream offers of a wheel. Raises HashMismatch."""
        answer = self._get(sidecar.url, accept="*/*", what="a wheel's metadata", most=_SIDECAR_BYTES)
        self._require_ok(answer, sidecar.url)
        if sidecar.sha256 and hashlib.sha256(answer.content).hexdigest() != sidecar.sha256:
            raise HashMismatch(f"{sidecar.url} has not the sha256 that its index page promises.")
        return answer.content

    def _page_of_flat(self, name: str, wheels: bool) -> ProjectPage | None:
        """The project's files on the flat page, which is read anew after ten minutes."""
        if self._flat is None or time.monotonic() - self._flat[0] > _FRESH_S:
            answer = self._get(self.url.rstrip("/"), accept="text/html", what="the flat page")
            self._require_ok(answer, "the flat page")
            try:
                self._flat = time.monotonic(), read_flat_page(answer.text, redacted(str(answer.url)))
            except Unreadable as error:
                raise self._refused(f"sent a flat page that {error}") from error
        page = list_files(name, self._flat[1], self.url, sidecars=self._settings.trust_metadata, wheels=wheels)
        return page if page.sdists or page.without_sdist or page.remarks else None

    def _get(
        self, url: str, *, accept: str, what: str, seen: Seen | None = None, most: int | None = None
    ) -> httpx.Response:
        conditions = {"If-None-Match": seen.etag, "If-Modified-Since": seen.modified} if seen else {}

        def once() -> httpx.Response:
            with self._open(url, accept=accept, encoding="gzip, deflate", conditions=conditions) as answer:
                return self._read(answer, what, most or self._page_bytes)

        return self._persistently(once, what)

    def _persistently(self, once: Callable[[], T], what: str) -> T:
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
        raise self._refused(problem)

    @contextmanager
    def _open(
        self,
        url: str,
        *,
        accept: str,
        encoding: str,
        conditions: Mapping[str, str] | None = None,
        prebuilt: bool = False,
    ) -> Iterator[httpx.Response]:
        self._pace.wait()
        given = {name: value for name, value in (conditions or {}).items() if value}
        headers = {"Accept": accept, "Accept-Encoding": encoding, **given}
        auth = self._credentials.auth if _origin(url) == _origin(self.url) else None
        asked = self._http.stream("GET", url, headers=headers, auth=auth, extensions={_PREBUILT: prebuilt})
        began, outcome = time.monotonic(), "error"
        with ExitStack() as stack:
            try:
                answer = stack.enter_context(asked)
                outcome = status_class(answer.status_code)
            finally:
                UPSTREAM_SECONDS.labels(self.name, outcome).observe(time.monotonic() - began)
            yield answer

    def _judge(self, request: httpx.Request) -> None:
        """Refuse to send a request that leads where nothing of this upstream may: it is asked of redirects, too."""
        url = request.url
        shown = redacted(str(url.copy_with(query=None, fragment=None)))
        if _WHEEL.search(url.path) and not request.extensions.get(_PREBUILT):
            raise self._refused(f"leads to {shown}, and no wheel of an upstream is ever fetched")
        if httpx.URL(self.url).scheme == "https" and url.scheme != "https":
            raise self._refused(f"leads to {shown}, out of the encryption")
        own = httpx.URL(self.url).host
        if url.host != own and self._inside(url.host) and not self._inside(own):
            raise self._refused(f"leads to {shown}, which is an inner address, and it is none itself")

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
                raise self._refused(f"sent more than {most} bytes for {what}")
        if _may_be_cut(answer, bytes(body)):
            raise self._refused(f"sent a page for {what} that breaks off: it has neither a length nor an end")
        kept = ("content-type", "etag", "last-modified", "cache-control")
        headers = {name: answer.headers[name] for name in kept if name in answer.headers}
        return httpx.Response(answer.status_code, headers=headers, content=bytes(body), request=answer.request)

    def _require_ok(self, answer: httpx.Response, what: str) -> None:
        _require_lasting(answer)
        if answer.status_code == 200:
            return
        said = f"answered {answer.status_code} {answer.reason_phrase} for {what}"
        if answer.status_code in (401, 403, 407):
            unsent = self._credentials.auth and "authorization" not in answer.request.headers
            said += "; none of its credentials were sent there" if unsent else f"; {self._credentials.told}"
        raise self._refused(said)

    def _refused(self, what: str) -> UpstreamError:
        return UpstreamError(
            f"The upstream index {self.url} {what}.",
            hint="Only 404 means that a project is absent; the farm asks no other index instead.",
        )


def _require_lasting(answer: httpx.Response) -> None:
    if answer.status_code in _PASSING:
        raise _Passing(answer)


def _may_be_cut(answer: httpx.Response, body: bytes) -> bool:
    """Whether an HTML page's end can be told neither from its headers nor from itself (HTTP/1.0 to the connection's
    end)."""
    framed = "content-length" in answer.headers or "transfer-encoding" in answer.headers
    is_page = answer.status_code == 200 and "html" in answer.headers.get("content-type", "")
    return is_page and not framed and answer.http_version != "HTTP/2" and not body.rstrip().lower().endswith(b"</html>")


def _seen(answer: httpx.Response) -> Seen:
    return Seen(
        etag=answer.headers.get("etag", ""),
        modified=answer.headers.get("last-modified", ""),
        body_sha256=hashlib.sha256(answer.content).hexdigest(),
    )


def _fresh_s(answer: httpx.Response) -> float:
    """For how long an answer may be used without asking again (RFC 9111), ten minutes at most."""
    directives = answer.headers.get("cache-control", "").lower()
    found = re.search(r"(?:^|[\s,])max-age=(\d{1,9})", directives)
    if found is None or "no-cache" in directives or "no-store" in directives:
        return 0.0
    return min(float(found[1]), _FRESH_S)


def _retry_after(told: str) -> float | None:
    """The seconds of a Retry-After (RFC 9110), None where there is none."""
    if re.fullmatch(r"\d{1,9}", told, re.ASCII):
        return float(told)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(told).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


def _content_type(answer: httpx.Response) -> str:
    return str(answer.headers.get("content-type", "")).partition(";")[0].strip().lower()


def _origin(url: str) -> tuple[str, str, int | None]:
    parsed = httpx.URL(url)
    return parsed.scheme, parsed.host, parsed.port


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
