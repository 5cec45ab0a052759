"""Pages as values: what a project's files look like to installers, as JSON (PEP 691) and as HTML (PEP 503).

A page is the JSON object of PEP 691 in API version 1.4: with metadata (658, 714), yanks (592), versions, sizes and
times (700) and the project's status (792). Keys that begin with `_` are the farm's own, as PEP 691 leaves them to
servers. HTML is made of it. Links are relative, so that pages can be copied with the files.
"""

import html
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from wheelfarm_services import layout
from wheelfarm_services.wheel_index.filenames import version_of
from wheelfarm_services.wheel_index.project_state import ProjectState, Status
from wheelfarm_services.wheel_index.records import Manifest

API_VERSION = "1.4"
SIMPLE_JSON = "application/vnd.pypi.simple.v1+json"

File = Mapping[str, Any]
"""A file of a page, in the terms of PEP 691."""
Page = Mapping[str, Any]
"""A page, in the terms of PEP 691."""

_SERIAL = re.compile(rb'name="wheelfarm:serial" content="(\d+)"')


def file_of(manifest: Manifest, *, url: str = "") -> dict[str, Any]:
    """A wheel as pages list it, before anything was said about it since. `url` is its place, for pages at the root:
    without one, where it lies in the store.

    `upload-time` is when upstream published the sdist, so that cooldowns of clients judge what they are meant for;
    `_published` is when the farm did. Where upstream tells no time, both are the farm's.
    """
    wheel = manifest.wheel
    published = _utc(datetime.fromtimestamp(int(manifest.provenance.get("built_at") or 0), UTC))
    metadata = {"sha256": manifest.metadata_sha256}
    file = {
        "filename": wheel.filename,
        "url": url or layout.wheel(wheel.sha256, quote(wheel.filename)),
        "hashes": {"sha256": wheel.sha256},
        "size": wheel.size,
        "upload-time": _time((manifest.provenance.get("source") or {}).get("upload_time")) or published,
        "core-metadata": metadata,
        "dist-info-metadata": metadata,
        "yanked": False,
        "_published": published,
    }
    if requires_python := _specifiers(manifest.requires_python):
        file["requires-python"] = requires_python
    return file


def project_page(project: str, files: Iterable[File], state: ProjectState, *, serial: int = 0) -> dict[str, Any]:
    """The page of a project: its files as `file_of` gives them, without those that are quarantined or deleted."""
    shown = [{**file, "yanked": _yanked(file, state)} for file in files if state.shows(file["filename"])]
    page: dict[str, Any] = {**_page(shown, serial=serial), "name": project}
    if state.status is not Status.ACTIVE:
        page["project-status"] = {"status": str(state.status), "reason": state.reason}
    return page


def flat_page(target: str, files: Iterable[File], *, serial: int = 0) -> dict[str, Any]:
    """The page of everything on a target's index."""
    return {**_page(files, serial=serial), "name": target}


def root_page(projects: Iterable[str], *, serial: int = 0) -> dict[str, Any]:
    """The list of an index's projects."""
    listed = [{"name": project} for project in sorted(set(projects))]
    return {"meta": {"api-version": API_VERSION}, "projects": listed, "_serial": serial}


def with_files(page: Page, files: Iterable[File]) -> Page:
    """The same page with these files alone."""
    return {**page, **_page(files, serial=page["_serial"])}


def is_bare(page: bytes) -> bool:
    """Whether a written page lists nothing and says nothing else of its project, which is then as good as unknown.

    An empty page would keep uv from asking the next index, which is wanted of a quarantined project alone.
    """
    nothing = b'"files": []' in page if page.startswith(b"{") else b"<a " not in page
    return nothing and b"project-status" not in page


def from_below(files: Iterable[File], folders: int) -> list[File]:
    """Files of a page at the root, or of any other of ours, with their links as a page has them that many folders
    below it."""
    return [{**file, "url": "../" * folders + re.sub(r"^(?:\.\./)+", "", file["url"])} for file in files]


def to_json(page: Page) -> bytes:
    """A page as clients read it."""
    return json.dumps(page).encode()


def to_html(page: Page, title: str) -> bytes:
    """The same page as HTML (PEP 503, and 629 for its version)."""
    lines = [_project_link(project["name"]) for project in page.get("projects", ())]
    lines += [_link(file) for file in page.get("files", ())]
    named = {"pypi:repository-version": API_VERSION, "wheelfarm:serial": str(page["_serial"])}
    if status := page.get("project-status"):
        named |= {"pypi:project-status": status["status"], "pypi:project-status-reason": status["reason"]}
    metas = "".join(f'<meta name="{name}" content="{html.escape(value)}">' for name, value in named.items())
    head = f'<meta charset="utf-8">{metas}<title>{html.escape(title)}</title>'
    body = "\n".join(lines)
    return f"<!DOCTYPE html>\n<html><head>{head}</head>\n<body>\n{body}\n</body></html>\n".encode()


def serial_of(page: bytes) -> int:
    """The serial number of an HTML page; -1 where it has none."""
    found = _SERIAL.search(page, 0, 2000)
    return int(found[1]) if found else -1


def _page(files: Iterable[File], *, serial: int) -> dict[str, Any]:
    listed = sorted(files, key=lambda file: str(file["filename"]))
    versions = sorted({version_of(file["filename"]) for file in listed}, key=_version_order)
    return {"meta": {"api-version": API_VERSION}, "versions": versions, "files": listed, "_serial": serial}


def _version_order(version: str) -> tuple[bool, Any]:
    try:
        return True, Version(version)
    except InvalidVersion:
        return False, version


def _yanked(file: File, state: ProjectState) -> str | bool:
    reason = state.yanked(version_of(file["filename"]))
    return False if reason is None else reason or True


def _link(file: File) -> str:
    metadata = f"sha256={file['core-metadata']['sha256']}"
    attributes = {
        "href": f"{file['url']}#sha256={file['hashes']['sha256']}",
        "data-core-metadata": metadata,
        "data-dist-info-metadata": metadata,
        "data-size": str(file["size"]),
        "data-upload-time": file["upload-time"],
    }
    if requires_python := file.get("requires-python"):
        attributes["data-requires-python"] = requires_python
    if yanked := file.get("yanked"):
        attributes["data-yanked"] = yanked if isinstance(yanked, str) else "yanked"
    told = " ".join(f'{name}="{html.escape(value)}"' for name, value in attributes.items())
    return f"<a {told}>{html.escape(file['filename'])}</a><br>"


def _project_link(project: str) -> str:
    return f'<a href="{quote(project)}/">{html.escape(project)}</a><br>'


def _specifiers(text: str) -> str:
    """A `Requires-Python` in its normal form; "" for one that clients could not read."""
    try:
        return str(SpecifierSet(text))
    except InvalidSpecifier:
        return ""


def _time(text: object) -> str:
    """A time as PEP 700 wants it; "" where that one can't be read."""
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError:
        return ""
    return _utc(found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC))


def _utc(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def without_serial(page: Page) -> dict[str, Any]:
    """What a page says, whenever it was written."""
    return {name: value for name, value in page.items() if name != "_serial"}


def files_of(page: Page | None) -> Sequence[File]:
    """The files that a page lists; none where there is no page."""
    return () if page is None else page["files"]
