"""An index to install from: wheels published as workers publish them, and the API over HTTP."""

import functools
import hashlib
import http.server
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tests.support.archives import make_zip, wheel_files
from tests.support.values import make_target
from wheelfarm.wheel import BuiltWheel
from wheelfarm_services.store import Store
from wheelfarm_services.wheel_index import Manifest, WheelIndex
from wheelfarm_workers.wheel_stamp import stamp

TARGET = make_target().name


def publish(
    store: Store,
    name: str,
    version: str = "1.0",
    *,
    requires: Sequence[str] = (),
    uploaded: str = "2024-01-01T00:00:00Z",
    text: str = "",
    target: str = TARGET,
    tags: str = "py3-none-any",
) -> BuiltWheel:
    """Publish a wheel that nobody built; other `text` makes other bytes, as of a rebuild."""
    index, module = WheelIndex(store), name.replace("-", "_").replace(".", "_")
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += "".join(f"Requires-Dist: {requirement}\n" for requirement in requires)
    files = {f"{module}.py": f"{text!r}\n".encode(), f"{module}-{version}.dist-info/METADATA": metadata.encode()}
    data = make_zip(wheel_files(module, version, tags=[tags], files=files))
    unstamped = hashlib.sha256(data).hexdigest()
    filename, tag = index.claim_name(target, f"{module}-{version}-{tags}.whl", unstamped)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "unstamped.whl"
        path.write_bytes(data)
        stamped = Path(folder) / filename
        stamp(path, tag, stamped)
        data = stamped.read_bytes()
        wheel = BuiltWheel(
            name=name.lower().replace("_", "-").replace(".", "-"),
            version=version,
            filename=filename,
            sha256=hashlib.sha256(data).hexdigest(),
            size=len(data),
        )
        key = hashlib.sha256(f"{target} {unstamped}".encode()).hexdigest()
        manifest = Manifest(
            wheel=wheel,
            unstamped_sha256=unstamped,
            metadata_sha256=hashlib.sha256(metadata.encode()).hexdigest(),
            requires_python="",
            target=target,
            provenance={
                "source": {"upload_time": uploaded},
                "built_at": 1_780_000_000,
                "plan": {"build_key": key, "requirements": []},
            },
        )
        index.publish(key, manifest, stamped, metadata.encode())
    return wheel


@dataclass(kw_only=True)
class Served:
    """A server that runs; `seen` are the methods, paths and statuses of its answers."""

    port: int
    user: str = ""
    seen: list[tuple[str, str, int]] = field(default_factory=list)

    def url(self, path: str, *, user: str | None = None) -> str:
        credentials = self.user if user is None else user
        return f"http://{credentials + '@' if credentials else ''}127.0.0.1:{self.port}{path}"


@contextmanager
def served(app: ASGIApp, *, user: str = "") -> Iterator[Served]:
    """An application on a free port of loopback."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        found = Served(port=listener.getsockname()[1], user=user)
        config = uvicorn.Config(_recorded(app, found), log_level="error", lifespan="off", ws="none")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield found
        finally:
            server.should_exit = True
            thread.join()


def _recorded(app: ASGIApp, found: Served) -> ASGIApp:
    async def recording(scope: Scope, receive: Receive, send: Send) -> None:
        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                found.seen.append((scope["method"], scope["path"], message["status"]))
            await send(message)

        await app(scope, receive, noted)

    return recording


class _Files(http.server.SimpleHTTPRequestHandler):
    """A web server as it comes: folders by their `index.html`, nothing else known of an index."""

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@contextmanager
def static_files(folder: Path) -> Iterator[Served]:
    """A plain web server over a folder."""
    handler = functools.partial(_Files, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield Served(port=server.server_port)
        finally:
            server.shutdown()
            thread.join()
