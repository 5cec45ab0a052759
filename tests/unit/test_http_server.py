"""The HTTP server: what is asked of the sockets that it answers on."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import cast

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from wheelfarm_services.event_stream import ABORT, EventStreams
from wheelfarm_services.http_server import HttpServer, JoiningTransport


async def _option_of_connection(http: Request) -> JSONResponse:
    connection = http.scope[ABORT].__self__.transport.get_extra_info("socket")
    return JSONResponse(bool(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)))


async def _is_bounded(http: Request) -> JSONResponse:
    return JSONResponse(http.scope[ABORT].__self__._deadline is not None)


async def _refuse(_: Request) -> JSONResponse:
    return JSONResponse("refused", 401)


def _pieces(release: threading.Event | None) -> Iterator[bytes]:
    assert release is not None
    release.wait(60)
    yield b"first"
    yield b"HTTP/1.1 200 OK"
    yield b"last"


HEAD = b"HTTP/1.1 200 OK\r\n\r\n"
_LARGE = bytes(range(256)) * 4096


@contextmanager
def serving(*, head_s: float = 60.0, release: threading.Event | None = None) -> Iterator[int]:
    """A server on loopback; its port. A slow answer's body begins with `release`."""
    routes = [
        Route("/", _option_of_connection),
        Route("/bounded", _is_bounded),
        Route("/refuse", _refuse, methods=["PUT"]),
        Route("/slow", lambda _: StreamingResponse(_pieces(release))),
        Route("/large", lambda _: Response(_LARGE)),
    ]
    server = HttpServer(Starlette(routes=routes), EventStreams(), log_level="error", head_s=head_s)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])))
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


def read_to_end(connection: socket.socket) -> bytes:
    """What comes until the other side has gone, which must not take for ever."""
    connection.settimeout(60)
    data = b""
    try:
        while chunk := connection.recv(65536):
            data += chunk
    except ConnectionResetError:
        pass
    return data


def test_answers_do_not_wait_for_acknowledgements() -> None:
    with serving() as port:
        assert httpx.get(f"http://127.0.0.1:{port}/").json()


@pytest.mark.parametrize("begun", [b"", b"\r\n", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: "])
def test_connection_that_asks_for_nothing_is_dropped(begun: bytes) -> None:
    with serving(head_s=0.2) as port, socket.create_connection(("127.0.0.1", port)) as connection:
        with suppress(OSError):  # it may be dropped by now
            connection.sendall(begun)
        assert read_to_end(connection) == b""


def test_head_without_an_end_is_dropped_before_it_fills_the_memory() -> None:
    sent = 0
    with serving() as port, socket.create_connection(("127.0.0.1", port)) as connection:
        connection.settimeout(60)
        connection.sendall(b"GET / HTTP/1.1\r\nX-Long: ")
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            while sent < 1 << 30:
                sent += connection.send(b"x" * 65536)
    assert sent < 64 << 20  # the most that buffers of the kernel take


def test_body_that_goes_on_after_it_was_refused_is_dropped() -> None:
    begun = b"PUT /refuse HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nx"
    answer = b""
    with serving(head_s=0.2) as port:
        while not answer:  # on a busy machine the connection may be dropped before its head has come
            with socket.create_connection(("127.0.0.1", port)) as connection, suppress(OSError):
                connection.sendall(begun)
                answer = read_to_end(connection)
    assert answer.startswith(b"HTTP/1.1 401")


def test_answer_may_take_longer_than_its_question() -> None:
    with serving() as port, httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        assert [client.get("/bounded").json(), client.get("/bounded").json()] == [False, False]


def test_head_of_an_answer_does_not_wait_for_a_body_that_has_yet_to_come() -> None:
    release = threading.Event()
    with serving(release=release) as port, httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        with client.stream("GET", "/slow") as answer:
            assert answer.status_code == 200
            release.set()
            assert answer.read() == b"firstHTTP/1.1 200 OKlast"
        assert client.get("/large").content == _LARGE
        assert client.head("/large").headers["content-length"] == str(len(_LARGE))


def test_head_and_a_small_body_are_sent_as_one_piece() -> None:
    class Transport:
        """Keeps what is written."""

        def __init__(self) -> None:
            self.written: list[bytes] = []
            self.write = self.written.append
            self.is_closing = lambda: False
            self.close = lambda: self.written.append(b"closed")

    async def write(*pieces: bytes) -> list[bytes]:
        kept = Transport()
        transport = JoiningTransport(cast(asyncio.Transport, kept), asyncio.get_running_loop())
        for piece in pieces:
            transport.write(piece)
        await asyncio.sleep(0)
        transport.write(HEAD)
        transport.close()
        return kept.written

    assert asyncio.run(write(HEAD, b"body", b"more")) == [HEAD + b"body", b"more", HEAD, b"closed"]
    assert asyncio.run(write(HEAD)) == [HEAD, HEAD, b"closed"]
    assert asyncio.run(write(HEAD, _LARGE)) == [HEAD, _LARGE, HEAD, b"closed"]
    assert asyncio.run(write(HEAD, HEAD, b"x")) == [HEAD + HEAD, b"x", HEAD, b"closed"]
