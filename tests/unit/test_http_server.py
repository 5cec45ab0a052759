"""The HTTP server: what is asked of the sockets that it answers on."""

import asyncio
import socket
import threading

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from wheelfarm_services.event_stream import ABORT, EventStreams
from wheelfarm_services.http_server import HttpServer


async def _option_of_connection(http: Request) -> JSONResponse:
    connection = http.scope[ABORT].__self__.transport.get_extra_info("socket")
    return JSONResponse(bool(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)))


def test_answers_do_not_wait_for_acknowledgements() -> None:
    server = HttpServer(Starlette(routes=[Route("/", _option_of_connection)]), EventStreams(), log_level="error")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])))
        thread.start()
        try:
            sends_at_once = httpx.get(f"http://127.0.0.1:{listener.getsockname()[1]}/").json()
        finally:
            server.should_exit = True
            thread.join()

    assert sends_at_once
