"""A misbehaving index on loopback: each way in which servers go wrong is a quirk, and each quirk a project of its own.

Every project has the sdist of version 1.0 and, where the quirk is about wheels, a prebuilt wheel of it.
"""

import hashlib
import io
import select
import socket
import struct
import threading
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal, Self
from urllib.parse import unquote

from tests.support.projects import Project

JSON = "application/vnd.pypi.simple.v1+json"
Outcome = Literal["first", "second", "ends", "no sdist", "mismatch"]
"""Version 1.0 of this index is built; the next index is asked; or the resolution ends, in one of three ways."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """One request that was made."""

    method: str
    path: str
    authorization: str


class Reply:
    """What a quirk answers one request with."""

    def __init__(self, index: "QuirkyIndex", handler: BaseHTTPRequestHandler, quirk: "Quirk") -> None:
        self.index = index
        self.handler = handler
        self.project = Project(name=quirk.name, static=True)
        self.wheel = f"{quirk.name.replace('-', '_')}-1.0-py3-none-any.whl"
        self.wheel_bytes = _prebuilt(self.wheel, quirk.name)

    def send(self, status: int, body: bytes = b"", **headers: str) -> None:
        """A whole answer; the names of headers are written with underscores."""
        told = {"Content_Type": "text/html", "Content_Length": str(len(body)), **headers}
        self.handler.send_response(status)
        for name, value in told.items():
            if value:
                self.handler.send_header(name.replace("_", "-"), value)
        self.handler.end_headers()
        if self.handler.command != "HEAD":
            self.handler.wfile.write(body)

    def break_off(self) -> None:
        """End the connection at once, by a reset."""
        self.handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.handler.close_connection = True

    def page(self, *, wheel: bool = False, sdist_url: str = "", sha256: str = "") -> bytes:
        """The project's page as it should be, or with another URL or sha256 of the sdist."""
        url = sdist_url or f"/files/{self.project.filename}"
        digest = sha256 or hashlib.sha256(self.project.sdist()).hexdigest()
        links = [f'<a href="{url}#sha256={digest}">{self.project.filename}</a>']
        if wheel:
            links.append(
                f'<a href="/files/{self.wheel}#sha256={hashlib.sha256(self.wheel_bytes).hexdigest()}">{self.wheel}</a>'
            )
        return f"<!DOCTYPE html><html><body>{''.join(links)}</body></html>".encode()


Answer = Callable[[Reply], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Quirk:
    """What one project of the index answers for its page, for its sdist, and for its wheel."""

    name: str
    what: str
    outcome: Outcome
    page: Answer
    sdist: Answer = lambda reply: reply.send(200, reply.project.sdist(), Content_Type="application/gzip")
    head: Answer = lambda reply: reply.send(200)
    wheel: Answer = lambda reply: reply.send(200, reply.wheel_bytes)
    said: str = ""
    """What the message holds when the resolution ends."""


def _status(status: int, **headers: str) -> Answer:
    return lambda reply: reply.send(status, b"", **headers)


def _body(body: bytes, content_type: str = "text/html", **headers: str) -> Answer:
    return lambda reply: reply.send(200, body, Content_Type=content_type, **headers)


def _good(reply: Reply) -> None:
    reply.send(200, reply.page())


def _with_wheel(reply: Reply) -> None:
    reply.send(200, reply.page(wheel=True))


def _cut(reply: Reply) -> None:
    whole = reply.page()
    reply.send(200, whole[: len(whole) // 2], Content_Length=str(len(whole)))
    reply.break_off()


def _cut_without_length(reply: Reply) -> None:
    whole = reply.page()
    reply.handler.close_connection = True
    reply.send(200, whole[: whole.index(b"</a>") + 4], Content_Length="", Connection="close")


def _cut_in_chunks(reply: Reply) -> None:
    reply.send(200, Content_Length="", Transfer_Encoding="chunked")
    reply.handler.wfile.write(b"%x\r\n%s\r\n" % (len(reply.page()), reply.page()))
    reply.handler.wfile.flush()
    reply.handler.close_connection = True


def _silence(reply: Reply) -> None:
    select.select([reply.handler.connection], [], [], 600)  # until the client has given up
    reply.break_off()


def _about_another(reply: Reply) -> None:
    body = b'{"meta": {"api-version": "1.1"}, "name": "another-project", "files": []}'
    reply.send(200, body, Content_Type=JSON)


def _files_of_another(reply: Reply) -> None:
    reply.send(200, reply.page().replace(reply.project.name.encode(), b"another"))


def _to_itself(reply: Reply) -> None:
    reply.send(302, Location=f"/simple/{reply.project.name}/")


def _elsewhere(path: str) -> Answer:
    return lambda reply: reply.send(302, Location=reply.index.elsewhere(path.format(reply.project.filename)))


def _presigned(reply: Reply) -> None:
    """A bucket that takes one way of authentication, and one method for each signature."""
    refused = "Authorization" in reply.handler.headers or reply.handler.command == "HEAD"
    reply.send(400 if refused else 200, reply.project.sdist(), Content_Type="application/gzip")


def _cut_sdist(reply: Reply) -> None:
    whole = reply.project.sdist()
    reply.send(200, whole[:100], Content_Length=str(len(whole)))
    reply.break_off()


def _unhashed(reply: Reply) -> None:
    reply.send(200, reply.page().replace(b"#sha256=", b"#md5="))


def _wheel_alone(reply: Reply) -> None:
    reply.send(200, b'<html><a href="/files/%s">%s</a></html>' % ((reply.wheel.encode(),) * 2))


def _sdist_that_is_a_wheel(reply: Reply) -> None:
    reply.send(200, reply.page(sdist_url=f"/files/{reply.wheel}"))


def _head_quirk(status: int, what: str) -> Quirk:
    return Quirk(
        name=f"head-{status}",
        what=what,
        outcome="first",
        page=_with_wheel,
        head=_status(status),
    )


_LOGIN = b"<!DOCTYPE html><html><form action='/login'><input name='user'></form></html>"
_ANSWERS = (
    ("status-404", "404", "second", _status(404), ""),
    *(
        (f"status-{status}", f"{status}", "ends", _status(status), str(status))
        for status in (400, 401, 403, 407, 410, 500, 502, 503)
    ),
    ("status-204", "204, no content", "ends", _status(204), "204"),
    ("too-many", "429, `Retry-After: 0`, each time", "ends", _status(429, Retry_After="0"), "429"),
    ("much-later", "503, `Retry-After: 86400`", "ends", _status(503, Retry_After="86400"), "86400"),
    ("silence", "no answer in time", "ends", _silence, "can't be reached"),
    ("reset", "connection reset", "ends", Reply.break_off, "can't be reached"),
    ("redirects", "redirects that never end", "ends", _to_itself, "redirects"),
)
_PAGES = (
    ("cut", "page cut short of its `Content-Length`", "ends", _cut, "broke off"),
    ("cut-chunks", "page cut short of its last chunk", "ends", _cut_in_chunks, "broke off"),
    ("cut-plain", "page that ends early, with no length told", "ends", _cut_without_length, "breaks off"),
    ("gzip", "page that is said to be gzip, and is not", "ends", _body(b"<html>", Content_Encoding="gzip"), ""),
    ("plain", "page of `text/plain`", "ends", _body(b"hello", "text/plain"), "text/plain"),
    ("bad-json", "JSON that can't be read", "ends", _body(b'{"meta"', JSON), "can't be read"),
    ("new-api", "JSON of version 2.0", "ends", _body(b'{"meta":{"api-version":"2.0"}}', JSON), "can't be read"),
    ("login", "200, a login form in place of the page", "no sdist", _body(_LOGIN), "lists no files"),
    ("empty", "200, a page without files", "no sdist", _body(b"<html></html>"), "lists no files"),
    ("other", "page about another project", "ends", _about_another, "another-project"),
    ("others", "page of another project's files", "ends", _files_of_another, "none of which"),
    ("unhashed", "sdist without a sha256", "no sdist", _unhashed, "without a sha256"),
    ("wheel-alone", "wheels alone", "no sdist", _wheel_alone, "source distribution"),
)
QUIRKS: Mapping[str, tuple[Quirk, ...]] = {
    "Answers for a project's page": tuple(
        Quirk(name=name, what=what, outcome=outcome, page=page, said=said)  # type: ignore[arg-type]
        for name, what, outcome, page, said in _ANSWERS
    ),
    "Pages that are not what they should be": tuple(
        Quirk(name=name, what=what, outcome=outcome, page=page, said=said)  # type: ignore[arg-type]
        for name, what, outcome, page, said in _PAGES
    ),
    "Wheels beside the sdist": (
        _head_quirk(200, "HEAD answered, ranges ignored"),
        _head_quirk(400, "HEAD answered 400"),
        _head_quirk(403, "HEAD answered 403"),
        _head_quirk(404, "HEAD answered 404"),
        _head_quirk(405, "HEAD answered 405"),
        Quirk(
            name="wheel-401",
            what="wheels that need other credentials",
            outcome="first",
            page=_with_wheel,
            head=_status(401),
            wheel=_status(401),
        ),
    ),
    "Answers for an sdist": (
        Quirk(name="moved", what="page that is elsewhere", outcome="first", page=_elsewhere("/moved/{}")),
        Quirk(
            name="presigned",
            what="sdist at a presigned URL of another host",
            outcome="first",
            page=_good,
            sdist=_elsewhere("/presigned/{}?signature=GET"),
        ),
        Quirk(name="sdist-401", what="sdist answered 401", outcome="ends", page=_good, sdist=_status(401), said="401"),
        Quirk(name="sdist-404", what="sdist answered 404", outcome="ends", page=_good, sdist=_status(404), said="404"),
        Quirk(name="sdist-cut", what="sdist cut short", outcome="ends", page=_good, sdist=_cut_sdist, said="broke off"),
        Quirk(
            name="sdist-other",
            what="sdist of other bytes than its page promises",
            outcome="mismatch",
            page=_good,
            sdist=lambda reply: reply.send(200, b"other"),
            said="sha256",
        ),
        Quirk(
            name="sdist-wheel",
            what="sdist whose URL is a wheel's",
            outcome="no sdist",
            page=_sdist_that_is_a_wheel,
            said="no sdist of 1.0",
        ),
        Quirk(
            name="sdist-to-wheel",
            what="sdist that is redirected to a wheel",
            outcome="ends",
            page=_good,
            sdist=lambda reply: reply.send(302, Location=f"/files/{reply.wheel}"),
            said="no wheel",
        ),
    ),
}
_BY_NAME = {quirk.name: quirk for quirks in QUIRKS.values() for quirk in quirks}


class QuirkyIndex:
    """Serves the projects of all quirks at `url`, and stands for other hosts at another port of its machine."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self._servers = [ThreadingHTTPServer(("127.0.0.1", 0), self._handler()) for _ in range(2)]
        self._threads = [
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}) for server in self._servers
        ]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._servers[0].server_port}/simple/"

    def elsewhere(self, path: str) -> str:
        return f"http://localhost:{self._servers[1].server_port}{path}"

    def asked_about(self, name: str) -> list[Asked]:
        """The requests for a project's page and files."""
        spellings = (f"/{name}/", f"/{name.replace('-', '_')}-1.0")
        return [asked for asked in self.asked if any(spelling in asked.path for spelling in spellings)]

    def __enter__(self) -> Self:
        for server, thread in zip(self._servers, self._threads, strict=True):
            server.daemon_threads = True
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for server, thread in zip(self._servers, self._threads, strict=True):
            server.shutdown()
            thread.join()
            server.server_close()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer one request as the quirk has it that the project stands for."""
        path = unquote(handler.path)
        self.asked.append(
            Asked(method=handler.command, path=path, authorization=handler.headers.get("Authorization", ""))
        )
        folder, _, rest = path.lstrip("/").partition("/")
        quirk = _quirk_of(rest)
        if quirk is None:
            Reply(self, handler, _BY_NAME["status-404"]).send(404)
            return
        reply = Reply(self, handler, quirk)
        if folder == "simple":
            quirk.page(reply)
        elif folder == "moved":
            reply.send(200, reply.page(sdist_url=self.elsewhere(f"/files/{reply.project.filename}")))
        elif folder == "presigned":
            _presigned(reply)
        elif path.endswith(".whl"):
            (quirk.head if handler.command == "HEAD" else quirk.wheel)(reply)
        else:
            quirk.sdist(reply)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        index = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                index.answer(self)

            def do_HEAD(self) -> None:
                index.answer(self)

            def log_message(self, format: str, *arguments: object) -> None:
                """Say nothing."""

        return Handler


def _quirk_of(path: str) -> Quirk | None:
    """The quirk whose project a page or a file is of."""
    name = path.partition("/")[0].partition("-1.0")[0].replace("_", "-")
    return _BY_NAME.get(name)


def _prebuilt(filename: str, name: str) -> bytes:
    """A wheel with nothing in it, made somewhere else."""
    packed = io.BytesIO()
    info = f"{'-'.join(filename.split('-')[:2])}.dist-info"
    with zipfile.ZipFile(packed, "w") as wheel:
        for path, text in (
            ("METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"),
            ("WHEEL", "Wheel-Version: 1.0\nGenerator: elsewhere\nRoot-Is-Purelib: true\nTag: py3-none-any\n"),
            ("RECORD", "".join(f"{info}/{each},,\n" for each in ("METADATA", "WHEEL", "RECORD"))),
        ):
            wheel.writestr(zipfile.ZipInfo(f"{info}/{path}"), text)
    return packed.getvalue()
