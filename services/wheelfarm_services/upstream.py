"""The upstream index: the one place that talks to somebody else's repository, and only about sdists.

Strict: 404 alone means absent; every other answer that is not the page or the file ends the resolution. Pages are
parsed by mousebender (the simple repository API, HTML and JSON: PEP 503, 691).
"""

import hashlib
import html
import re
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urljoin, urlsplit, urlunsplit

import httpx
from mousebender import simple
from packaging.utils import (
    canonicalize_name,
    is_normalized_name,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import Version
from uv import find_uv_bin

from wheelfarm.errors import HashMismatch, InputError, UpstreamError
from wheelfarm.job import Sdist

_PAGE_BYTES = 256 << 20
_SDIST_BYTES = 4 << 30
_FILENAME_CHARACTERS = 260
_FORMER_SDISTS = (".tar.bz2", ".tar.xz", ".tar.Z", ".tar", ".tgz")
_ATTEMPTS = 3
_PASSING = (429, 500, 502, 503, 504)
"""The statuses that are asked about again before they count as the answer."""

_SDIST_LINK = re.compile(
    r"""<a\s(?P<attributes>(?:[^<>"']++|"[^"<]{0,2000}+"|'[^'<]{0,2000}+'){1,100}+)>"""
    r"""\s*+(?P<name>[^<>\s]{1,300}+)\s*+</a>""",
    re.IGNORECASE,
)
_UPLOAD_TIME = re.compile(r"""\bdata-upload-time\s*=\s*["']([^"']{1,100})["']""", re.IGNORECASE)

_UNREADABLE = (
    simple.UnsupportedMIMEType,
    simple.UnsupportedAPIVersion,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    RecursionError,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedSdist:
    """An sdist as upstream lists it. `yanked` is the reason, "" for none given, or False."""

    sdist: Sdist
    url: str
    requires_python: str = ""
    yanked: str | Literal[False] = False
    upload_time: str = ""
    size: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedWheel:
    """A wheel as upstream lists it, which is of use only where policy excepts it."""

    filename: str
    url: str
    sha256: str
    requires_python: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class ProjectPage:
    """A project's sdists, one a version, oldest version first, and the versions that have none: wheels
    alone, or a form that PEP 527 ended.

    Of `wheels` none is fetched but those in `prebuilt`, which policy takes in the place of sdists; `refused` are the
    versions that it lets no sdist in of, with the reason.
    """

    name: str
    sdists: tuple[ListedSdist, ...]
    without_sdist: tuple[str, ...]
    wheels: tuple[ListedWheel, ...] = ()
    prebuilt: tuple[ListedSdist, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)


def default_index_url(environment: Mapping[str, str]) -> str:
    """The index that this machine's tools use: uv's or pip's setting in the environment, or else uv's own default."""
    if (
        url := environment.get("UV_DEFAULT_INDEX")
        or environment.get("UV_INDEX_URL")
        or environment.get("PIP_INDEX_URL")
    ):
        return re.sub(r"^[A-Za-z0-9._-]+=", "", url)  # uv lets an index be given as NAME=URL
    command = [
        find_uv_bin(),
        "pip",
        "compile",
        "--no-config",
        "--no-header",
        "--quiet",
        "--emit-index-url",
        "--no-python-downloads",
        "-",
    ]
    clean = {name: value for name, value in environment.items() if not name.startswith(("UV_", "PIP_"))}
    done = subprocess.run(command, input="", env=clean, capture_output=True, text=True, check=True)
    return done.stdout.split()[-1]


class Upstream:
    """One upstream index, by the URL of its simple API. Credentials in that URL go to its own host alone, and into
    nothing that the farm keeps or tells.

    `transport` and `sleep` stand for the network and for the pauses between attempts; of a page, no more than
    `page_bytes` is read.
    """

    def __init__(
        self,
        url: str,
        *,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        page_bytes: int = _PAGE_BYTES,
    ) -> None:
        given = httpx.URL(url)
        self.url = _redacted(url).rstrip("/") + "/"
        self._auth = httpx.BasicAuth(given.username, given.password) if given.userinfo else None
        self._sleep = sleep
        self._page_bytes = page_bytes
        self._http = httpx.Client(
            transport=transport,
            timeout=httpx.Timeout(30.0, connect=10.0),
            follow_redirects=True,
            limits=httpx.Limits(max_connections=32),
            headers={"User-Agent": "wheelfarm"},
        )

    def page(self, name: str) -> ProjectPage | None:
        """The project's page, or None where upstream answers 404. `name` is normalised.

        Raises UpstreamError for every other answer, naming the index without its credentials.
        """
        if not is_normalized_name(name):
            return None
        answer = self._get(urljoin(self.url, f"{name}/"), accept=simple.ACCEPT_SUPPORTED, what=name)
        if answer.status_code == 404:
            return None
        if answer.status_code != 200:
            raise self._refused(f"answered {answer.status_code} {answer.reason_phrase} for {name}")
        content_type = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
        try:
            details = simple.parse_project_details(answer.text, content_type, name)
            about = canonicalize_name(details["name"])
            times = {} if "json" in content_type else _upload_times(answer.text)
            page = _read_page(name, details, times, _redacted(str(answer.url)))
        except _UNREADABLE as error:
            raise self._refused(f"sent a page for {name} that can't be read ({content_type}): {error}") from error
        if about != name:
            raise self._refused(f"was asked for {name} and answered about {about}")
        return page

    def fetch(self, listed: ListedSdist, path: Path) -> None:
        """Write an sdist's bytes to `path`. Raises HashMismatch when they are not those that the page promised."""
        digest, size = hashlib.sha256(), 0
        try:
            with self._open(listed.url, accept="*/*", encoding="identity") as answer, path.open("wb") as file:
                if answer.status_code != 200:
                    raise self._refused(f"answered {answer.status_code} for {listed.sdist.filename}")
                for chunk in answer.iter_raw(1 << 16):
                    size += len(chunk)
                    if size > _SDIST_BYTES:
                        raise self._refused(f"sent more than {_SDIST_BYTES} bytes for {listed.sdist.filename}")
                    digest.update(chunk)
                    file.write(chunk)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._refused(f"broke off {listed.sdist.filename}: {_reason(error)}") from error
        if digest.hexdigest() != listed.sdist.sha256:
            raise HashMismatch(
                f"{listed.sdist.filename} from {self.url} has sha256 {digest.hexdigest()}, "
                f"but its index page promises {listed.sdist.sha256}.",
                hint="Nothing was kept. The file was changed under way or upstream; ask whoever runs that index.",
            )

    def _get(self, url: str, *, accept: str, what: str) -> httpx.Response:
        for attempt in range(_ATTEMPTS):
            try:
                with self._open(url, accept=accept, encoding="gzip, deflate") as answer:
                    whole = self._read(answer, what)
                if whole.status_code not in _PASSING or attempt == _ATTEMPTS - 1:
                    return whole
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                if attempt == _ATTEMPTS - 1:
                    raise self._refused(f"can't be reached: {_reason(error)}") from error
            self._sleep(0.5 * 2**attempt)
        raise AssertionError("the last attempt returns or raises")

    def _open(self, url: str, *, accept: str, encoding: str) -> AbstractContextManager[httpx.Response]:
        own = httpx.URL(url)
        mine = httpx.URL(self.url)
        same_origin = (own.scheme, own.host, own.port) == (mine.scheme, mine.host, mine.port)
        headers = {"Accept": accept, "Accept-Encoding": encoding}
        return self._http.stream("GET", url, headers=headers, auth=self._auth if same_origin else None)

    def _read(self, answer: httpx.Response, what: str) -> httpx.Response:
        """The answer with its body read, which is decompressed piece by piece, and bounded."""
        body = bytearray()
        for chunk in answer.iter_bytes(1 << 16):
            body += chunk
            if len(body) > self._page_bytes:
                raise self._refused(f"sent more than {self._page_bytes} bytes for {what}")
        headers = {"content-type": answer.headers.get("content-type", "")}
        return httpx.Response(answer.status_code, headers=headers, content=bytes(body), request=answer.request)

    def _refused(self, what: str) -> UpstreamError:
        return UpstreamError(
            f"The upstream index {self.url} {what}.",
            hint="Only 404 means that a project is absent; the farm asks no other index instead.",
        )


def _upload_times(text: str) -> dict[str, str]:
    """Upload times of an HTML page's sdists, by file name: indexes tell them as `data-upload-time`, which no standard
    names. To parse a large page once more takes as long as all else; a link that is written otherwise has no time."""
    links = ((link["name"], _UPLOAD_TIME.search(link["attributes"])) for link in _SDIST_LINK.finditer(text))
    return {html.unescape(name): time[1] for name, time in links if time and name.endswith((".tar.gz", ".zip"))}


def _read_page(name: str, details: Mapping[str, Any], times: Mapping[str, str], base_url: str) -> ProjectPage:
    sdists: dict[Version, ListedSdist] = {}
    others: set[Version] = set()
    wheels: list[ListedWheel] = []
    for file in details["files"]:
        if (other := _version_without_sdist(name, file["filename"])) is not None:
            others.add(other)
            wheels += _listed_wheel(file, base_url)
        elif (listed := _listed(name, file, times, base_url)) is not None:
            version = Version(listed.sdist.version)
            if version not in sdists or listed.sdist.filename.endswith(".tar.gz"):
                sdists[version] = listed
    return ProjectPage(
        name=name,
        sdists=tuple(sdists[version] for version in sorted(sdists)),
        without_sdist=tuple(str(version) for version in sorted(others - set(sdists))),
        wheels=tuple(wheels),
    )


def _listed_wheel(file: Mapping[str, Any], base_url: str) -> list[ListedWheel]:
    sha256 = str((file.get("hashes") or {}).get("sha256", "")).lower()
    if not file["filename"].endswith(".whl") or not sha256:
        return []
    url = _redacted(urljoin(base_url, file["url"]))
    requires_python = file.get("requires-python") or ""
    return [ListedWheel(filename=file["filename"], url=url, sha256=sha256, requires_python=requires_python)]


def _version_without_sdist(name: str, filename: str) -> Version | None:
    """The version of a file that is no sdist, or none that resolvers take."""
    if filename.endswith(_FORMER_SDISTS):
        return _sdist_version(name, filename)
    if not filename.endswith(".whl"):
        return None
    try:
        project, version, _, _ = parse_wheel_filename(filename)
    except ValueError:  # InvalidWheelFilename, or more digits than Python reads
        return None
    return version if project == name else None


def _listed(name: str, file: Mapping[str, Any], times: Mapping[str, str], base_url: str) -> ListedSdist | None:
    """The file as an sdist, or None where it is none that can be named and checked (no sha256, another project)."""
    if file["filename"].endswith(".whl"):
        return None
    sha256 = str((file.get("hashes") or {}).get("sha256", "")).lower()
    version = _sdist_version(name, file["filename"])
    value = {"name": name, "version": str(version), "sha256": sha256}
    try:
        sdist = Sdist.from_json({**value, "filename": _sdist_filename(name, version, file["filename"])})
    except InputError:
        return None
    yanked = file.get("yanked", False)
    return ListedSdist(
        sdist=sdist,
        url=_redacted(urljoin(base_url, file["url"])),
        requires_python=file.get("requires-python") or "",
        yanked=yanked if isinstance(yanked, str) else ("" if yanked else False),
        upload_time=_time(file.get("upload-time") or times.get(file["filename"], "")),
        size=file.get("size"),
    )


def _time(stated: object) -> str:
    """A time as PEP 700 writes it; "" for anything else."""
    text = str(stated)
    return text if re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z", text, re.ASCII) else ""


def _sdist_version(name: str, filename: str) -> Version | None:
    """The version in an sdist's file name, which, before PEP 625, was not normalised: it may hold hyphens itself, so
    that only who knows the project's name finds where it begins."""
    stem = re.sub(r"\.(tar\.\w+|tgz|zip)$", "", filename[:_FILENAME_CHARACTERS])
    for hyphen in re.finditer("-", stem):
        if canonicalize_name(stem[: hyphen.start()]) == name:
            with suppress(ValueError):  # InvalidVersion, or more digits than Python reads
                return Version(stem[hyphen.end() :])
    return None


def _sdist_filename(name: str, version: Version | None, filename: str) -> str:
    """An sdist's file name as upstream has it or, where a lock could not hold that, as PEP 625 has it."""
    with suppress(ValueError):  # as above
        if parse_sdist_filename(filename) == (name, version):
            return filename
    extension = ".zip" if filename.endswith(".zip") else ".tar.gz"
    return f"{name.replace('-', '_')}-{version}{extension}" if filename.endswith(extension) else filename


def _redacted(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
