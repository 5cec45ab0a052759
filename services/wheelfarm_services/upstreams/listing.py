"""Listings: what an upstream tells of a project, as simple pages (PEP 503, 691), as one flat page, or as files.

Pages are parsed by mousebender (the simple repository API, HTML and JSON). Whatever a page says, only a file is listed
that is named for the project, is an sdist, and comes with its sha256.
"""

import html
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any, Literal
from urllib.parse import urljoin, urlsplit, urlunsplit

from mousebender import simple
from packaging.utils import canonicalize_name, parse_sdist_filename, parse_wheel_filename
from packaging.version import Version

from wheelfarm.errors import InputError
from wheelfarm.job import Sdist

_FILENAME_CHARACTERS = 260
_FORMER_SDISTS = (".tar.bz2", ".tar.xz", ".tar.Z", ".tar", ".tgz")
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


class Unreadable(Exception):
    """A page is not one of the project that was asked for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedSdist:
    """An sdist as an upstream lists it. `yanked` is the reason, "" for none given, or False.

    `upstream` is the name of that upstream, and `passed_over` tells which others were asked before it, answered with an
    error, and were configured to be passed over for that.
    """

    sdist: Sdist
    url: str
    requires_python: str = ""
    yanked: str | Literal[False] = False
    upload_time: str = ""
    size: int | None = None
    upstream: str = ""
    passed_over: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedWheel:
    """A wheel as an upstream lists it, which is of use only where policy excepts it."""

    filename: str
    url: str
    sha256: str
    requires_python: str = ""
    upstream: str = ""
    passed_over: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Sidecar:
    """Metadata that upstream offers of one wheel of a version (PEP 658); `sha256` is "" where it promises none."""

    version: str
    url: str
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ProjectPage:
    """A project's sdists, one a version, oldest version first, and the versions that have none: wheels
    alone, or a form that PEP 527 ended. `remarks` are what people should know who find nothing there.

    Of `wheels` none is fetched but those in `prebuilt`, which policy takes in the place of sdists; `refused` are the
    versions that it lets no sdist in of, with the reason.
    """

    name: str
    sdists: tuple[ListedSdist, ...]
    without_sdist: tuple[str, ...]
    sidecars: tuple[Sidecar, ...] = ()
    wheels: tuple[ListedWheel, ...] = ()
    remarks: tuple[str, ...] = ()
    prebuilt: tuple[ListedSdist, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The page as upstream has it, before policy."""
        return {name: value for name, value in asdict(self).items() if name not in ("prebuilt", "refused")}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "ProjectPage":
        """Read what `to_json` wrote. Raises KeyError, TypeError or InputError for what it did not."""
        return cls(
            name=value["name"],
            sdists=tuple(
                ListedSdist(**{**one, "sdist": Sdist.from_json(one["sdist"]), "passed_over": tuple(one["passed_over"])})
                for one in value["sdists"]
            ),
            without_sdist=tuple(value["without_sdist"]),
            sidecars=tuple(Sidecar(**one) for one in value["sidecars"]),
            wheels=tuple(ListedWheel(**{**one, "passed_over": tuple(one["passed_over"])}) for one in value["wheels"]),
            remarks=tuple(value["remarks"]),
        )


File = Mapping[str, Any]
"""A file of a page, in the terms of PEP 691."""


def read_simple_page(
    name: str, text: str, content_type: str, base_url: str, *, sidecars: bool = False, wheels: bool = False
) -> ProjectPage:
    """A project's page, HTML or JSON. Raises Unreadable for one that can't be read, or is about something else."""
    try:
        details = simple.parse_project_details(text, content_type, name)
        about, files = canonicalize_name(details["name"]), list(details["files"])
        page = list_files(name, with_times(files, text, content_type), base_url, sidecars=sidecars, wheels=wheels)
    except _UNREADABLE as error:
        raise Unreadable(f"can't be read ({content_type}): {error}") from error
    if about != name:
        raise Unreadable(f"is about {about}")
    if files and not any(_is_named_for(name, str(file["filename"])) for file in files):
        raise Unreadable(f"links to {len(files)} things, none of which is a file of {name}")
    return page


def read_flat_page(text: str, base_url: str) -> list[File]:
    """All files of a page of links, of whatever projects. Raises Unreadable."""
    try:
        files = list(simple.from_project_details_html(text, "any")["files"])
        return [{**file, "url": urljoin(base_url, file["url"])} for file in with_times(files, text, "text/html")]
    except _UNREADABLE as error:
        raise Unreadable(f"can't be read: {error}") from error


def with_times(files: Iterable[File], text: str, content_type: str) -> list[File]:
    """The files of a page, those of an HTML one with the upload times that it tells in a way of its own."""
    if "json" in content_type:
        return list(files)
    times = _upload_times(text)
    return [{**file, "upload-time": times.get(file["filename"], "")} for file in files]


def list_files(
    name: str, files: Iterable[File], base_url: str, *, sidecars: bool = False, wheels: bool = False
) -> ProjectPage:
    """The project's page that these files make, with `sidecars` those of its wheels, with `wheels` these themselves."""
    sdists: dict[Version, ListedSdist] = {}
    others: set[Version] = set()
    unhashed: set[str] = set()
    offered: list[Sidecar] = []
    prebuilt: list[ListedWheel] = []
    count = 0
    for file in files:
        count += 1
        filename = file["filename"]
        if (other := _version_without_sdist(name, filename)) is not None:
            others.add(other)
            offered += _sidecar(other, file, base_url) if sidecars else []
            prebuilt += _listed_wheel(file, base_url) if wheels else []
        elif (listed := _listed(name, file, base_url)) is not None:
            version = Version(listed.sdist.version)
            if version not in sdists or listed.sdist.filename.endswith(".tar.gz"):
                sdists[version] = listed
        elif _sdist_version(name, filename) is not None and not (file.get("hashes") or {}).get("sha256"):
            unhashed.add(filename)
    remarks = [] if count else [f"the page of {name} lists no files"]
    if unhashed:
        remarks.append(f"{len(unhashed)} sdists of {name} are listed without a sha256, such as {min(unhashed)}")
    return ProjectPage(
        name=name,
        sdists=tuple(sdists[version] for version in sorted(sdists)),
        without_sdist=tuple(str(version) for version in sorted(others - set(sdists))),
        sidecars=tuple(offered),
        wheels=tuple(prebuilt),
        remarks=tuple(remarks),
    )


def redacted(url: str) -> str:
    """A URL without its credentials."""
    if "@" not in url:
        return url
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _is_named_for(name: str, filename: str) -> bool:
    """Whether a file of any kind bears the name of a project, however it is spelt."""
    return canonicalize_name(filename[:_FILENAME_CHARACTERS]).startswith(name)


def _listed_wheel(file: File, base_url: str) -> list[ListedWheel]:
    sha256 = str((file.get("hashes") or {}).get("sha256", "")).lower()
    if not file["filename"].endswith(".whl") or not sha256:
        return []
    url = redacted(urljoin(base_url, file["url"]))
    requires_python = file.get("requires-python") or ""
    return [ListedWheel(filename=file["filename"], url=url, sha256=sha256, requires_python=requires_python)]


def _sidecar(version: Version, file: File, base_url: str) -> list[Sidecar]:
    """What a wheel's entry says of its metadata (PEP 658, 714)."""
    told = file.get("core-metadata") or file.get("dist-info-metadata")
    if not told or not file["filename"].endswith(".whl"):
        return []
    sha256 = str(told.get("sha256", "")).lower() if isinstance(told, Mapping) else ""
    url = urlsplit(redacted(urljoin(base_url, file["url"])))._replace(fragment="")
    return [Sidecar(version=str(version), url=urlunsplit(url._replace(path=f"{url.path}.metadata")), sha256=sha256)]


def _upload_times(text: str) -> dict[str, str]:
    """Upload times of an HTML page's sdists, by file name: indexes tell them as `data-upload-time`, which no standard
    names. To parse a large page once more takes as long as all else; a link that is written otherwise has no time."""
    links = ((link["name"], _UPLOAD_TIME.search(link["attributes"])) for link in _SDIST_LINK.finditer(text))
    return {html.unescape(name): time[1] for name, time in links if time and name.endswith((".tar.gz", ".zip"))}


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


def _listed(name: str, file: File, base_url: str) -> ListedSdist | None:
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
        url=redacted(urljoin(base_url, file["url"])),
        requires_python=file.get("requires-python") or "",
        yanked=yanked if isinstance(yanked, str) else ("" if yanked else False),
        upload_time=_time(file.get("upload-time")),
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
