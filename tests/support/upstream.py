"""An upstream index on loopback that records what it is asked: its own tiny projects, or another passed through."""

import hashlib
import json
import re
import sys
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import unquote

import httpx
from mousebender import simple
from packaging.specifiers import SpecifierSet
from packaging.utils import InvalidSdistFilename, parse_sdist_filename

from tests.support.projects import Project


class _Server(ThreadingHTTPServer):
    """Says nothing of clients that were killed while they asked."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class Upstream:
    """Serves `/simple/NAME/` and files; `requests` are the paths that were asked for, in order, and
    `authorizations` the credentials of each. Where it `tells_etags`, `unchanged` are those answered with 304."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.authorizations: list[str] = []
        self.answers: dict[str, tuple[int, bytes]] = {}
        self.unchanged: list[str] = []
        self.tells_etags = False
        self._pages: dict[str, list[dict[str, Any]]] = {}
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/simple/"

    @property
    def files_asked(self) -> list[str]:
        """The names of the files that were asked for."""
        return [path.rpartition("/")[2] for path in self.requests if path.startswith("/files/")]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def add(self, *projects: Project) -> None:
        """Publish sdists of projects."""
        for project in projects:
            self.add_file(
                project.name, project.filename, project.sdist(), uploaded=project.uploaded, yanked=project.yanked
            )

    def add_file(
        self,
        name: str,
        filename: str,
        data: bytes,
        *,
        promised: bytes | None = None,
        uploaded: str = "",
        yanked: str = "",
        sidecar: bytes | None = None,
    ) -> None:
        """Publish a file, and a wheel's metadata beside it; its page promises the sha256 of `promised` where the bytes
        served are others.

        A project whose files have an upload time, were yanked or have metadata gets a JSON page, which can tell it.
        """
        sha256 = hashlib.sha256(data if promised is None else promised).hexdigest()
        self.answers[f"/files/{filename}"] = (200, data)
        files = self._pages.setdefault(name, [])
        beside = {"sha256": hashlib.sha256(sidecar).hexdigest()} if sidecar is not None else None
        if sidecar is not None:
            self.answers[f"/files/{filename}.metadata"] = (200, sidecar)
        all_told = {"upload-time": uploaded, "yanked": yanked, "core-metadata": beside}
        told: dict[str, Any] = {name: value for name, value in all_told.items() if value}
        files.append({"filename": filename, "url": f"/files/{filename}", "hashes": {"sha256": sha256}, **told})
        self.answers[f"/simple/{name}/"] = (200, _json_page(name, files) if told else _html_page(files))

    def refuse(self, name: str, status: int) -> None:
        """Answer for a project with that status from now on."""
        self.answers[f"/simple/{name}/"] = (status, b"")

    def answer(self, path: str) -> tuple[int, bytes]:
        """Status and body for a path."""
        return self.answers.get(path, (404, b""))

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                path = unquote(self.path)
                upstream.requests.append(path)
                upstream.authorizations.append(self.headers.get("Authorization", ""))
                status, body = upstream.answer(path)
                etag = f'"{hashlib.sha256(body).hexdigest()}"' if upstream.tells_etags else ""
                if etag and etag == self.headers.get("If-None-Match"):
                    upstream.unchanged.append(path)
                    status, body = 304, b""
                self.send_response(status)
                if etag:
                    self.send_header("ETag", etag)
                self.send_header("Content-Type", _content_type(path, body))
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *arguments: object) -> None:
                """Say nothing."""

        return Handler


def _html_page(files: list[dict[str, Any]]) -> bytes:
    anchors = (f'<a href="{one["url"]}#sha256={one["hashes"]["sha256"]}">{one["filename"]}</a>' for one in files)
    return "\n".join(anchors).encode()


def _json_page(name: str, files: list[dict[str, Any]]) -> bytes:
    return json.dumps({"meta": {"api-version": "1.1"}, "name": name, "versions": [], "files": files}).encode()


def _content_type(path: str, body: bytes) -> str:
    if not path.startswith(("/simple/", "/flat/")):
        return "application/gzip"
    return "application/vnd.pypi.simple.v1+json" if body.startswith(b"{") else "text/html"


class PassingThrough(Upstream):
    """Another index behind this one, asked for what is not its own: pages are rewritten so that files, too, are asked
    for here. `only` says for a project which of its versions are listed; the projects that the index lacks are kept
    in `absent`."""

    def __init__(self, index: str, only: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self._index = index.rstrip("/")
        self._only = {name: SpecifierSet(versions) for name, versions in (only or {}).items()}
        self.absent: set[str] = set()
        self._http = httpx.Client(follow_redirects=True, timeout=60)
        self._files: dict[str, str] = {}

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        self._http.close()

    def answer(self, path: str) -> tuple[int, bytes]:
        if path in self.answers:
            return self.answers[path]
        if path in self._files:
            fetched = self._http.get(self._files[path])
            return fetched.status_code, fetched.content
        name = path.removeprefix("/simple/").strip("/")
        page = self._http.get(f"{self._index}/{name}/", headers={"Accept": simple.ACCEPT_SUPPORTED})
        if page.is_error:
            if page.status_code == 404:
                self.absent.add(name)
            return page.status_code, b""
        content_type = page.headers["content-type"].partition(";")[0]
        details = simple.parse_project_details(page.text, content_type, name)
        times = {filename: time for time, filename in _TIMES_OF_HTML.findall(page.text)}
        listed = [dict(file) for file in details["files"] if self._is_listed(name, file["filename"])]
        return 200, _json_page(name, [self._rewritten(file, str(page.url), times) for file in listed])

    def _is_listed(self, name: str, filename: str) -> bool:
        wanted = self._only.get(name)
        try:
            return wanted is None or parse_sdist_filename(filename)[1] in wanted
        except InvalidSdistFilename:
            return False

    def _rewritten(self, file: dict[str, Any], base: str, times: Mapping[str, str]) -> dict[str, Any]:
        path = f"/files/{file['filename']}"
        self._files[path] = str(httpx.URL(base).join(file["url"]))
        kept = {name: file[name] for name in ("filename", "hashes", "requires-python", "yanked") if file.get(name)}
        uploaded = file.get("upload-time") or times.get(file["filename"])
        return {**kept, "url": path, **({"upload-time": uploaded} if uploaded else {})}


_TIMES_OF_HTML = re.compile(r'data-upload-time="([^"]+)"[^>]*>([^<]+)</a>')
