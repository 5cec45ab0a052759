"""One upstream that is asked over HTTP for the pages of projects, for sdists, and for metadata of wheels.

404 alone means absent.
"""

import hashlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin

import httpx
from mousebender import simple
from packaging.utils import is_normalized_name

from wheelfarm.errors import HashMismatch
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
from wheelfarm_services.upstreams.settings import UpstreamSettings
from wheelfarm_services.upstreams.strict_http import StrictHttp

_PAGE_BYTES = 256 << 20
_SDIST_BYTES = 4 << 30
_SIDECAR_BYTES = 4 << 20
_FRESH_S = 600.0


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
        self._page_bytes = page_bytes
        self._http = StrictHttp(settings, self.url, transport=transport, sleep=sleep, inside=inside)
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
        conditions = {"If-None-Match": seen.etag, "If-Modified-Since": seen.modified} if seen else {}
        url, accept = urljoin(self.url, f"{name}/"), simple.ACCEPT_SUPPORTED
        answer = self._http.get(url, accept=accept, what=name, most=self._page_bytes, conditions=conditions)
        now_seen, fresh_s = _seen(answer), _fresh_s(answer)
        if answer.status_code == 304 and seen is not None:
            return PageAnswer(page=None, seen=seen, unchanged=True, fresh_s=fresh_s)
        if answer.status_code == 404:
            return PageAnswer(page=None, seen=now_seen, fresh_s=fresh_s)
        if answer.status_code in self._settings.ignore_error_codes:
            return PageAnswer(page=None, seen=Seen(), ignored=f"{self.name} answered {answer.status_code}")
        self._http.require_ok(answer, name)
        if seen is not None and now_seen.body_sha256 == seen.body_sha256:
            return PageAnswer(page=None, seen=now_seen, unchanged=True, fresh_s=fresh_s)
        base_url = redacted(str(answer.url))
        try:
            kept = {"sidecars": self._settings.trust_metadata, "wheels": wheels}
            page = read_simple_page(name, answer.text, _content_type(answer), base_url, **kept)
        except Unreadable as error:
            raise self._http.refused(f"sent a page for {name} that {error}") from error
        return PageAnswer(page=page, seen=now_seen, fresh_s=fresh_s)

    def fetch(self, listed: ListedSdist, path: Path) -> None:
        """Write an sdist's bytes to `path`. Raises HashMismatch when they are not those that the page promised."""
        what, promised = listed.sdist.filename, listed.sdist.sha256

        def once() -> str:
            digest, size = hashlib.sha256(), 0
            asked = self._http.open(listed.url, accept="*/*", encoding="identity", prebuilt=listed.sdist.is_prebuilt)
            with asked as answer, path.open("wb") as file:
                self._http.require_ok(answer, what)
                for chunk in answer.iter_raw(1 << 16):
                    size += len(chunk)
                    if size > _SDIST_BYTES:
                        raise self._http.refused(f"sent more than {_SDIST_BYTES} bytes for {what}")
                    digest.update(chunk)
                    file.write(chunk)
            return digest.hexdigest()

        sha256 = self._http.persistently(once, what)
        if sha256 != promised:
            raise HashMismatch(
                f"{what} from {self.url} has sha256 {sha256}, but its index page promises {promised}.",
                hint="Nothing was kept. The file was changed under way or upstream; ask whoever runs that index.",
            )

    def sidecar(self, sidecar: Sidecar) -> bytes:
        """The metadata that upstream offers of a wheel. Raises HashMismatch."""
        answer = self._http.get(sidecar.url, accept="*/*", what="a wheel's metadata", most=_SIDECAR_BYTES)
        self._http.require_ok(answer, sidecar.url)
        if sidecar.sha256 and hashlib.sha256(answer.content).hexdigest() != sidecar.sha256:
            raise HashMismatch(f"{sidecar.url} has not the sha256 that its index page promises.")
        return answer.content

    def _page_of_flat(self, name: str, wheels: bool) -> ProjectPage | None:
        """The project's files on the flat page, which is read anew after ten minutes."""
        if self._flat is None or time.monotonic() - self._flat[0] > _FRESH_S:
            answer = self._http.get(
                self.url.rstrip("/"), accept="text/html", what="the flat page", most=self._page_bytes
            )
            self._http.require_ok(answer, "the flat page")
            try:
                self._flat = time.monotonic(), read_flat_page(answer.text, redacted(str(answer.url)))
            except Unreadable as error:
                raise self._http.refused(f"sent a flat page that {error}") from error
        page = list_files(name, self._flat[1], self.url, sidecars=self._settings.trust_metadata, wheels=wheels)
        return page if page.sdists or page.without_sdist or page.remarks else None


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


def _content_type(answer: httpx.Response) -> str:
    return str(answer.headers.get("content-type", "")).partition(";")[0].strip().lower()
