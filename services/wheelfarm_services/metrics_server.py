"""Metrics for Prometheus, at a port of each process's own, `/metrics`, with `/healthz` for probes, and no token."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import socket

from prometheus_client.registry import Collector

from wheelfarm.errors import InputError
from wheelfarm.listening import Address
from wheelfarm_services.metrics import MEDIA_TYPE, exposition

logger = logging.getLogger(__name__)

_SLOW_CLIENT_S = 10.0


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, listener: socket, ledger: Collector | None) -> None:
        super().__init__(listener.getsockname()[:2], _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.ledger = ledger


class _Handler(BaseHTTPRequestHandler):
    timeout = _SLOW_CLIENT_S
    server: _Server

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/metrics":
            self._answer(200, MEDIA_TYPE, exposition(self.server.ledger))
        elif path == "/healthz":
            self._answer(200, "text/plain", b"ok\n")
        else:
            self._answer(404, "text/plain", b"Metrics are at /metrics.\n")

    def _answer(self, status: int, media_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Every scrape would be a line."""


@contextmanager
def metrics_told(address: str, ledger: Collector | None = None) -> Iterator[str]:
    """Tell the metrics of this process and, given them, of the ledger at `HOST:PORT`; with "" nowhere. Gives the
    address with the port that was taken for port 0.

    Raises InputError for an address that is taken or not of this machine.
    """
    if not address:
        yield ""
        return
    server = _Server(_listener(address), ledger)
    thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()
    told = str(Address(host=Address.parse(address).host, port=server.server_address[1]))
    logger.info("metrics told", extra={"address": told})
    try:
        yield told
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _listener(address: str) -> socket:
    try:
        return Address.parse(address).bind()
    except InputError as error:
        hint = "Give each process of a machine a WHEELFARM_METRICS of its own."
        raise InputError(f"Metrics can't be told: {error.message}", hint=hint) from error
