"""A proxy in front of a server whose connections can be cut as a network cuts them: without anybody being told."""

import contextlib
import selectors
import socket
import threading
from collections.abc import Callable
from typing import Self


class Proxy:
    """Listens on loopback and passes bytes to and from what `connect` opens."""

    def __init__(self, connect: Callable[[], socket.socket]) -> None:
        self._connect = connect
        self._server = socket.create_server(("127.0.0.1", 0))
        self._peers: dict[socket.socket, socket.socket] = {}
        self._silent: list[socket.socket] = []
        self._unheard: set[socket.socket] = set()
        self._lost_word, self._to_lose = b"", 0
        self._guard = threading.Lock()
        self._over = False
        self._thread = threading.Thread(target=self._serve, daemon=True)

    @property
    def port(self) -> int:
        return int(self._server.getsockname()[1])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        self._thread.join()
        for one in (self._server, *self._peers, *self._silent):
            one.close()

    def cut(self) -> int:
        """Let every connection of now be half-open for ever: no byte passes, and no end is told. New ones work.
        The number of connections."""
        with self._guard:
            cut = len(self._peers) // 2
            self._silent += self._peers
            self._peers.clear()
            return cut

    def lose_answers(self, word: bytes, count: int) -> None:
        """Pass on the next `count` questions in which `word` stands, and end their connections instead of answering."""
        with self._guard:
            self._lost_word, self._to_lose = word, count

    @property
    def left_to_lose(self) -> int:
        return self._to_lose

    def _is_lost(self, source: socket.socket, peer: socket.socket, data: bytes) -> bool:
        """Whether these bytes are an answer to be lost; a question whose answer will be is marked."""
        with self._guard:
            if self._to_lose and self._lost_word in data:
                self._to_lose -= 1
                self._unheard.add(peer)
            return source in self._unheard

    def _serve(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._server, selectors.EVENT_READ)
            while not self._over:
                for key, _ in selector.select(0.1):
                    if key.fileobj is self._server:
                        self._accept(selector)
                    else:
                        self._pass_on(selector, key.fileobj)  # type: ignore[arg-type]

    def _accept(self, selector: selectors.BaseSelector) -> None:
        client, _ = self._server.accept()
        try:
            server = self._connect()
        except OSError:
            client.close()
            return
        with self._guard:
            self._peers |= {client: server, server: client}
        for one in (client, server):
            selector.register(one, selectors.EVENT_READ)

    def _pass_on(self, selector: selectors.BaseSelector, source: socket.socket) -> None:
        with self._guard:
            peer = self._peers.get(source)
        if peer is None:  # cut, or closed in this turn
            with contextlib.suppress(KeyError, ValueError):
                selector.unregister(source)
            return
        try:
            data = source.recv(65536)
            if self._is_lost(source, peer, data):
                data = b""
            peer.sendall(data)
        except OSError:
            data = b""
        if not data:
            with self._guard:
                self._peers.pop(source, None)
                self._peers.pop(peer, None)
                self._unheard -= {source, peer}
            for one in (source, peer):
                with contextlib.suppress(KeyError, ValueError):
                    selector.unregister(one)
                one.close()
