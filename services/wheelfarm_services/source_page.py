"""Project pages for resolvers, in which every sdist comes with metadata, so that none of them runs a build backend.

pip reads the PEP 658 sidecar of the sdist itself. uv reads that of a *virtual wheel* listed beside it, whose build tag
is the metadata's revision, for uv never asks for a sidecar twice. Each virtual wheel carries a distinct, false sha256:
with one for all, uv would mix them up.
"""

import hashlib
import html
import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from wheelfarm_services.upstreams import ListedSdist, ProjectPage

SIMPLE_JSON = "application/vnd.pypi.simple.v1+json"
SIMPLE_HTML = "text/html"
_RENDERED_PAGES = 500
_VIRTUAL = re.compile(r"[^-]+-[^-]+-(\d{1,6})-py3-none-any\.whl\.metadata", re.ASCII)

Revisions = Mapping[str, int]
"""The newest revision of the metadata of each sdist that has one above 0, by sha256."""


class RenderedPages:
    """Pages as they were rendered last, and their tags: a resolver asks for one again and again."""

    def __init__(self) -> None:
        self._rendered: dict[tuple[str, str, str], tuple[ProjectPage, Revisions, bytes, str]] = {}

    def render(self, page: ProjectPage, path: str, revisions: Revisions, media_type: str) -> tuple[bytes, str]:
        """The page below the URL path of a target's source index, as JSON or HTML, and its entity tag."""
        key = (page.name, path, media_type)
        found = self._rendered.get(key)
        if found is None or found[0] is not page or found[1] != revisions:
            render = json_page if media_type == SIMPLE_JSON else html_page
            body = render(page, path, revisions)
            found = (page, revisions, body, f'"{hashlib.sha256(body).hexdigest()[:32]}"')
            if len(self._rendered) >= _RENDERED_PAGES:
                self._rendered.clear()
            self._rendered[key] = found
        return found[2], found[3]


def accepted_type(accept: str) -> str:
    """HTML for whoever asks for nothing better, JSON for pip, uv and others (PEP 691)."""
    return SIMPLE_HTML if "text/html" in accept and SIMPLE_JSON not in accept else SIMPLE_JSON


def virtual_revision(filename: str) -> int | None:
    """The revision in the file name of a virtual wheel's metadata; None for any other file."""
    found = _VIRTUAL.fullmatch(filename)
    return int(found[1]) if found else None


def json_page(page: ProjectPage, path: str, revisions: Revisions) -> bytes:
    """The project's page as JSON (PEP 691 with 700 and 714)."""
    value = {
        "meta": {"api-version": "1.1"},
        "name": page.name,
        "versions": [listed.sdist.version for listed in page.sdists],
        "files": _files(page, path, revisions),
    }
    return json.dumps(value).encode()


def html_page(page: ProjectPage, path: str, revisions: Revisions) -> bytes:
    """The project's page as HTML (PEP 503 with 592, 658 and 714)."""
    links = "\n".join(map(_link, _files(page, path, revisions)))
    head = '<meta charset="utf-8"><meta name="pypi:repository-version" content="1.1">'
    title = f"<title>Links for {html.escape(page.name)}</title>"
    return f"<!DOCTYPE html>\n<html><head>{head}{title}</head>\n<body>\n{links}\n</body></html>\n".encode()


def _files(page: ProjectPage, path: str, revisions: Revisions) -> list[dict[str, Any]]:
    files: list[dict[str, Any]] = []
    for listed in page.sdists:
        files += [_sdist(listed, path), _virtual_wheel(listed, path, revisions.get(listed.sdist.sha256, 0))]
    return files


def _sdist(listed: ListedSdist, path: str) -> dict[str, Any]:
    sdist = listed.sdist
    optional: dict[str, Any] = {
        "requires-python": listed.requires_python,
        "upload-time": listed.upload_time,
        "size": listed.size,
        "yanked": listed.yanked or listed.yanked == "",
    }
    # to resolvers a prebuilt wheel is an sdist, too: they are told to take nothing else
    shown = f"{sdist.name.replace('-', '_')}-{sdist.version}.tar.gz" if sdist.is_prebuilt else sdist.filename
    return {
        "filename": shown,
        "url": f"{path}sdists/{sdist.name}/{sdist.sha256}/{quote(sdist.filename)}",
        "hashes": {"sha256": sdist.sha256},
        "core-metadata": True,
        **{name: value for name, value in optional.items() if value},
    }


def _virtual_wheel(listed: ListedSdist, path: str, revision: int) -> dict[str, Any]:
    sdist = listed.sdist
    filename = f"{sdist.name.replace('-', '_')}-{sdist.version}-{revision}-py3-none-any.whl"
    return {
        **_sdist(listed, path),
        "filename": filename,
        "url": f"{path}virtual/{sdist.name}/{sdist.sha256}/{quote(filename)}",
        "hashes": {"sha256": hashlib.sha256(f"virtual {sdist.sha256} {revision}".encode()).hexdigest()},
    }


def _link(file: Mapping[str, Any]) -> str:
    attributes = {"href": f"{file['url']}#sha256={file['hashes']['sha256']}", "data-core-metadata": "true"}
    if requires_python := file.get("requires-python"):
        attributes["data-requires-python"] = requires_python
    if yanked := file.get("yanked"):
        attributes["data-yanked"] = yanked if isinstance(yanked, str) else ""
    told = " ".join(f'{name}="{html.escape(value)}"' for name, value in attributes.items())
    return f"<a {told}>{html.escape(file['filename'])}</a><br>"
