"""A proxy between boto3 and a real S3 server: it fails on purpose, or makes the server a worse one than it is."""

import http.client
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.support.ceph import ACCESS_KEY, SECRET_KEY

_HOP = {"connection", "keep-alive", "transfer-encoding", "expect", "content-length", "date", "server"}
_ERROR = "<?xml version='1.0'?><Error><Code>{code}</Code><Message>secret-in-a-message</Message></Error>"


class Fault(StrEnum):
    """What is done to a request instead of what it asks for."""

    ERROR_500 = "InternalError"
    SLOW_DOWN = "SlowDown"
    CUT_REQUEST = "the connection ends before the server sees it"
    LOSE_ANSWER = "the server does it, and the connection ends before its answer"
    CUT_BODY = "the connection ends in the middle of the answer's body"
    DELAY = "the answer takes its time"


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A request on its way through the proxy."""

    method: str
    path: str
    headers: dict[str, str]
    number: int


@dataclass(kw_only=True)
class Proxy:
    """What goes through, and what is done to it; each member may be set while it runs.

    `fault` decides on each request. `answer` is a refusal (status, code) that every request gets. Headers of the
    request that `dropped` names never reach the server, nor those of its answers the client; `rewrite` gets the bodies
    of answers.
    """

    server: str
    fault: Callable[[Seen], Fault | None] = lambda seen: None
    answer: tuple[int, str] | None = None
    dropped: frozenset[str] = frozenset()
    rewrite: Callable[[Seen, bytes], bytes] | None = None
    seen: list[Seen] = field(default_factory=list)
    faults: dict[Fault, int] = field(default_factory=dict)
    url: str = ""


@contextmanager
def run_proxy(server: str) -> Iterator[Proxy]:
    """A proxy on loopback before the server at a URL."""
    proxy = Proxy(server=server)
    guard = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *_: Any) -> None:
            pass

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            with guard:
                seen = Seen(method=self.command, path=self.path, headers=headers, number=len(proxy.seen))
                proxy.seen.append(seen)
                fault = proxy.fault(seen)
                if fault:
                    proxy.faults[fault] = proxy.faults.get(fault, 0) + 1
            if proxy.answer:
                self.refuse(*proxy.answer)
            elif fault in (Fault.ERROR_500, Fault.SLOW_DOWN):
                self.refuse(500 if fault is Fault.ERROR_500 else 503, fault)
            elif fault is Fault.CUT_REQUEST:
                self.close_connection = True
            else:
                self.pass_on(seen, body, fault)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any  # noqa: N815  (the library's names)

        def pass_on(self, seen: Seen, body: bytes, fault: Fault | None) -> None:
            status, headers, content = ask(seen, body)
            if fault is Fault.LOSE_ANSWER:
                self.close_connection = True
                return
            if fault is Fault.DELAY:
                time.sleep(0.05)
            if proxy.rewrite:
                content = proxy.rewrite(seen, content)
            length = headers["content-length"] if self.command == "HEAD" else str(len(content))
            self.send_response_only(status)
            for name, value in headers.items():
                if name not in _HOP - {"date"} and name not in proxy.dropped:
                    self.send_header(name, value)
            self.send_header("Content-Length", length)
            self.end_headers()
            if fault is Fault.CUT_BODY:
                self.wfile.write(content[: len(content) // 2])
                self.close_connection = True
            elif self.command != "HEAD":
                self.wfile.write(content)

        def refuse(self, status: int, code: str) -> None:
            content = _ERROR.format(code=code).encode()
            self.send_response_only(status)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(b"" if self.command == "HEAD" else content)

    def ask(seen: Seen, body: bytes) -> tuple[int, dict[str, str], bytes]:
        headers = {name: value for name, value in seen.headers.items() if name not in ("connection", "expect")}
        if proxy.dropped:
            headers = signed_anew(seen, headers, body)
        connection = http.client.HTTPConnection(urlsplit(proxy.server).netloc, timeout=30)
        try:
            connection.request(seen.method, seen.path, body, headers)
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def signed_anew(seen: Seen, headers: dict[str, str], body: bytes) -> dict[str, str]:
        left_out = proxy.dropped | {"authorization", "host", "x-amz-date", "x-amz-content-sha256"}
        kept = {name: value for name, value in headers.items() if name not in left_out}
        request = AWSRequest(seen.method, proxy.server + seen.path, kept, body)
        S3SigV4Auth(Credentials(ACCESS_KEY, SECRET_KEY), "s3", "us-east-1").add_auth(request)
        return dict(request.headers.items())

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, *_: Any) -> None:
            """A client that went away in the middle is nothing to tell of."""

    with Server(("127.0.0.1", 0), Handler) as listener:
        proxy.url = f"http://127.0.0.1:{listener.server_port}"
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            listener.shutdown()
            thread.join()
