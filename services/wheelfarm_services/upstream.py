"""The upstream index: the one place that talks to somebody else's repository, and only about sdists.

Strict: 404 alone means absent; every other answer that is not the page or the file ends the resolution. Pages are
parsed by mousebender (the simple repository API, HTML and JSON: PEP 503, 691).
"""

import hashlib
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urljoin, urlsplit, urlunsplit

import httpx
from mousebender import simple
from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import InvalidVersion, Version
from uv import find_uv_bin
from wheelfarm.digest import SHA256
from wheelfarm.errors import HashMismatch, UpstreamError
from wheelfarm.job import Sdist

_PAGE_BYTES = 256 << 20
_SDIST_BYTES = 4 << 30
_ATTEMPTS = 3


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
class ProjectPage:
    """A project's sdists, one a version, oldest version first, and the versions that came as wheels only."""

    name: str
    sdists: tuple[ListedSdist, ...]
    wheels_only: tuple[str, ...]


def default_index_url(environment: Mapping[str, str]) -> str:
    """The index that this machine's tools use: uv's or pip's setting in the environment, or else uv's own default."""
    if (
        url := environment.get("UV_DEFAULT_INDEX")
        or environment.get("UV_INDEX_URL")
        or environment.get("PIP_INDEX_URL")
    ):
        return url.rpartition("=")[2] if url.startswith("farm=") else url
    command = [
        find_uv_bin(),
        "pip",
        "compile",
        "--no-config",
        "--no-header",
        "--quiet",
        "--emit-index-url",
        "-",
    ]
    clean = {name: value for name, value in environment.items() if not name.startswith(("UV_", "PIP_"))}
    done = subprocess.run(command, input="", env=clean, capture_output=True, text=True, check=True)
    return done.stdout.split()[-1]


class Upstream:
    """One upstream index, by the URL of its simple API."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/") + "/"
        self._http = httpx.Client(
            timeout=httpx.Timeout(30.0, connect=10.0),
            follow_redirects=True,
            limits=httpx.Limits(max_connections=32),
            headers={"User-Agent": "wheelfarm"},
        )

    def page(self, name: str) -> ProjectPage | None:
        """The project's page, or None where upstream answers 404. `name` is normalised.

        Raises UpstreamError for every other answer, naming the index without its credentials.
        """
        answer = self._get(urljoin(self.url, f"{name}/"), accept=simple.ACCEPT_SUPPORTED)
        if answer.status_code == 404:
            return None
        if answer.is_error:
            raise self._refused(f"answered {answer.status_code} {answer.reason_phrase} for {name}")
        content_type = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
        try:
            details = simple.parse_project_details(answer.text, content_type, name)
        except (simple.UnsupportedMIMEType, ValueError, KeyError, TypeError) as error:
            raise self._refused(f"sent a page for {name} that can't be read ({content_type}): {error}") from error
        if details["name"] != name:
            raise self._refused(f"was asked for {name} and answered about {details['name']}")
        return _read_page(name, details, str(answer.url))

    def fetch(self, listed: ListedSdist, path: Path) -> None:
        """Write an sdist's bytes to `path`. Raises HashMismatch when they are not those that the page promised."""
        digest, size = hashlib.sha256(), 0
        try:
            with self._http.stream("GET", listed.url) as answer, path.open("wb") as file:
                if answer.is_error:
                    raise self._refused(f"answered {answer.status_code} for {listed.sdist.filename}")
                for chunk in answer.iter_raw(1 << 16):
                    size += len(chunk)
                    if size > _SDIST_BYTES:
                        raise self._refused(f"sent more than {_SDIST_BYTES} bytes for {listed.sdist.filename}")
                    digest.update(chunk)
                    file.write(chunk)
        except httpx.HTTPError as error:
            raise self._refused(f"broke off {listed.sdist.filename}: {_reason(error)}") from error
        if digest.hexdigest() != listed.sdist.sha256:
            raise HashMismatch(
                f"{listed.sdist.filename} from {_redacted(self.url)} has sha256 {digest.hexdigest()}, "
                f"but its index page promises {listed.sdist.sha256}.",
                hint="Nothing was kept. The file was changed under way or upstream; ask whoever runs that index.",
            )

    def _get(self, url: str, *, accept: str) -> httpx.Response:
        for attempt in range(_ATTEMPTS):
            try:
                answer = self._http.get(url, headers={"Accept": accept})
                if answer.status_code not in (429, 500, 502, 503, 504) or attempt == _ATTEMPTS - 1:
                    return answer
            except httpx.HTTPError as error:
                if attempt == _ATTEMPTS - 1:
                    raise self._refused(f"can't be reached: {_reason(error)}") from error
            time.sleep(0.5 * 2**attempt)
        raise AssertionError("the last attempt returns or raises")

    def _refused(self, what: str) -> UpstreamError:
        return UpstreamError(
            f"The upstream index {_redacted(self.url)} {what}.",
            hint="Only 404 means that a project is absent; the farm asks no other index instead.",
        )


def _read_page(name: str, details: Mapping[str, Any], base_url: str) -> ProjectPage:
    sdists: dict[Version, ListedSdist] = {}
    wheels: set[Version] = set()
    for file in details["files"]:
        if (wheel := _wheel_version(name, file["filename"])) is not None:
            wheels.add(wheel)
        elif (listed := _listed(name, file, base_url)) is not None:
            version = Version(listed.sdist.version)
            if version not in sdists or listed.sdist.filename.endswith(".tar.gz"):
                sdists[version] = listed
    return ProjectPage(
        name=name,
        sdists=tuple(sdists[version] for version in sorted(sdists)),
        wheels_only=tuple(str(version) for version in sorted(wheels - set(sdists))),
    )


def _wheel_version(name: str, filename: str) -> Version | None:
    if not filename.endswith(".whl"):
        return None
    try:
        project, version, _, _ = parse_wheel_filename(filename)
    except InvalidWheelFilename:
        return None
    return version if project == name else None


def _listed(name: str, file: Mapping[str, Any], base_url: str) -> ListedSdist | None:
    """The file as an sdist, or None where it is none that can be named and checked (no sha256, another project)."""
    sha256 = file.get("hashes", {}).get("sha256", "").lower()
    try:
        project, version = parse_sdist_filename(file["filename"])
    except (InvalidSdistFilename, InvalidVersion):
        return None
    if project != name or not SHA256.fullmatch(sha256):
        return None
    yanked = file.get("yanked", False)
    return ListedSdist(
        sdist=Sdist(name=name, version=str(version), filename=file["filename"], sha256=sha256),
        url=urljoin(base_url, file["url"]),
        requires_python=file.get("requires-python") or "",
        yanked=yanked if isinstance(yanked, str) else ("" if yanked else False),
        upload_time=file.get("upload-time") or "",
        size=file.get("size"),
    )


def _redacted(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
