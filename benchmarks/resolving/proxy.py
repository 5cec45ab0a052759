"""A proxy before an index that counts what it is asked, and answers a second time from memory, each answer some
milliseconds late: every tool has the same index at the same distance, however the network does.

`/all/SCHEME/HOST/PATH` is a page or file of an index, and `/sdists/…` the same where pages list no wheels; links on
pages lead back here. `/counts` tells what was asked for since it was asked itself.
"""

import json
import re
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

_ANCHOR_OF_WHEEL = re.compile(rb"<a\b[^>]*>[^<]*\.whl(\.metadata)?\s*</a>(\s*<br\s*/?>)?", re.IGNORECASE)
_LINK = re.compile(rb"""(href=["']|"url":\s*")(https?)://([^/"']+)""")
_ROOTED = re.compile(rb"""(href=["']|"url":\s*")/(?=[^/])""")
_ASKED = ("accept", "range", "if-none-match", "if-modified-since")
_ANSWERED = ("content-type", "etag", "last-modified", "cache-control", "accept-ranges", "content-range")


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """An answer as it is given again and again."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    size: int


class CountingProxy(ThreadingHTTPServer):
    """Listens on a free port of loopback; every answer comes `delay_s` late."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, delay_s: float) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.delay_s = delay_s
        self.counts: Counter[str] = Counter()
        self._http = httpx.Client(verify=ssl.create_default_context(), follow_redirects=True, timeout=120)
        self._answers: dict[tuple[str, ...], Answer] = {}
        self._guard = threading.Lock()

    def answer(self, method: str, path: str, asked: Mapping[str, str]) -> Answer:
        """The answer to a request, which is counted."""
        kept = {name: asked[name] for name in _ASKED if name in asked}
        key = (method, path, *kept.values())
        found = self._answers.get(key) or self._fetched(method, path, kept)
        self._answers[key] = found
        with self._guard:
            self.counts[_kind(path)] += 1
            self.counts["bytes"] += len(found.body)
        return found

    def taken_counts(self) -> dict[str, int]:
        """What was counted since the last call."""
        with self._guard:
            counts, self.counts = dict(self.counts), Counter()
        return counts

    def _fetched(self, method: str, path: str, asked: Mapping[str, str]) -> Answer:
        view, scheme, host, rest = path.removeprefix("/").split("/", 3)
        headers = {**asked, "accept-encoding": "identity"}
        answer = self._http.request(method, f"{scheme}://{host}/{rest}", headers=headers)
        body = answer.content
        if rest.endswith("/") and method == "GET":
            body = _page(body, view, scheme, host)
        size = len(body) if method == "GET" else int(answer.headers.get("content-length", 0))
        told = {name: answer.headers[name] for name in _ANSWERED if name in answer.headers}
        return Answer(status=answer.status_code, headers=told, body=body, size=size)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: CountingProxy

    def do_GET(self) -> None:
        if self.path == "/counts":
            body = json.dumps(self.server.taken_counts()).encode()
            self._send(Answer(status=200, headers={}, body=body, size=len(body)))
            return
        answer = self.server.answer(
            self.command, self.path, {name.lower(): text for name, text in self.headers.items()}
        )
        time.sleep(self.server.delay_s)
        self._send(answer)

    def do_HEAD(self) -> None:
        self.do_GET()

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        for name, value in {**answer.headers, "content-length": str(answer.size)}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@contextmanager
def counting_proxy(delay_ms: int) -> Iterator[str]:
    """A proxy in a process of its own; its URL."""
    command = [sys.executable, "-m", "benchmarks.resolving.proxy", str(delay_ms)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None  # noqa: S101 (as asked for above)
        yield process.stdout.readline().strip()
        process.terminate()


def counts_of(proxy: str) -> dict[str, int]:
    """What was asked of a proxy since the last call."""
    return dict(httpx.get(f"{proxy}/counts").json())


def _kind(path: str) -> str:
    kinds = {"/": "pages", ".metadata": "metadata", ".whl": "wheels"}
    return next((kind for suffix, kind in kinds.items() if path.endswith(suffix)), "sdists")


def _page(body: bytes, view: str, scheme: str, host: str) -> bytes:
    """A project's page whose links lead to this proxy, without its wheels where they are not wanted."""
    if view == "sdists":
        body = _without_wheels(body)
    body = _ROOTED.sub(rf"\g<1>/{view}/{scheme}/{host}/".encode(), body)
    return _LINK.sub(rf"\g<1>/{view}/\g<2>/\g<3>".encode(), body)


def _without_wheels(body: bytes) -> bytes:
    if not body.lstrip().startswith(b"{"):
        return _ANCHOR_OF_WHEEL.sub(b"", body)
    value = json.loads(body)
    value["files"] = [file for file in value["files"] if not file["filename"].endswith(".whl")]
    return json.dumps(value).encode()


if __name__ == "__main__":
    server = CountingProxy(int(sys.argv[1]) / 1000)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
