"""Build logs over real servers: Redis, and the API in a thread of its own with real sockets."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis
from starlette.applications import Starlette

from tests.support.ledger import FakeLedger, make_record
from tests.support.values import make_job
from tests.support.waiting import PATIENCE_S, wait_until
from wheelfarm.event_stream import read_events
from wheelfarm.job import JobState
from wheelfarm_services import layout
from wheelfarm_services.access import Access
from wheelfarm_services.auth import Authenticated
from wheelfarm_services.event_stream import EventStreams
from wheelfarm_services.http_server import HttpServer
from wheelfarm_services.job_routes import job_operations
from wheelfarm_services.ledger import redis_client
from wheelfarm_services.log_reader import LogReader
from wheelfarm_services.log_writer import LogWriter, RunLog, stream_key
from wheelfarm_services.operation import routes_of
from wheelfarm_services.requests import Requests
from wheelfarm_services.store import DirectoryStore
from wheelfarm_services.tenancy import Tenancy

JOB = make_job().id
HEADERS = {"Authorization": "Bearer t"}


class LogFarm:
    """Writer and readers of logs over one Redis and one store."""

    def __init__(self, redis_url: str, folder: Path) -> None:
        self.redis_url = redis_url
        self.redis: Redis = redis_client(redis_url)
        self.store = DirectoryStore.create(folder / "store")
        self.ledger = FakeLedger()
        self.writer = LogWriter(self.redis, self.store)
        self.reader = LogReader(self.store, redis_url)
        self.url = ""

    def begin(self, job_id: str = JOB, attempt: int = 1) -> RunLog:
        """The log of a job that runs from now on."""
        self.ledger.records[job_id] = make_record(job_id, state=JobState.RUNNING, attempt=attempt)
        return self.writer.begin(job_id, attempt)

    def finish(self, log: RunLog) -> None:
        """The job is done, and its log kept."""
        self.writer.keep(log)
        self.writer.end(log)
        self.ledger.records[log.job_id] = make_record(log.job_id, state=JobState.DONE)

    def events(self, job_id: str = JOB, last_id: str = "") -> Iterator[Any]:
        """The events of a job's log as a client reads them."""
        headers = {**HEADERS, "Last-Event-ID": last_id}
        with httpx.stream("GET", f"{self.url}/jobs/{job_id}/log/events", headers=headers, timeout=PATIENCE_S) as answer:
            assert answer.status_code == 200
            yield from read_events(answer.iter_lines())


@contextmanager
def serving(farm: LogFarm, streams: EventStreams | None = None) -> Iterator[HttpServer]:
    """Have the API of a farm's logs answer."""
    streams = streams or EventStreams()
    operations = job_operations(_no_requests(), farm.ledger.as_ledger, farm.reader, Tenancy(farm.store), streams)
    app = Authenticated(Starlette(routes=routes_of(operations)), Access("t"))
    server = HttpServer(app, streams, log_level="error")
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    farm.url = f"http://127.0.0.1:{listener.getsockname()[1]}"

    async def serve() -> None:
        await server.serve(sockets=[listener])
        await farm.reader.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        yield server
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def _no_requests() -> Requests:
    return object.__new__(Requests)


@pytest.fixture
def farm(redis_url: str, tmp_path: Path) -> Iterator[LogFarm]:
    farm = LogFarm(redis_url, tmp_path)
    with serving(farm), farm.writer:
        yield farm


def text_of(events: list[Any]) -> str:
    return "".join(event.data for event in events if event.name == "log")


def test_follower_sees_what_is_printed_before_the_job_is_over_and_then_the_end(farm: LogFarm) -> None:
    log = farm.begin()
    log.write(b"one\n")
    events = farm.events()
    seen = [next(events)]
    assert (seen[0].name, seen[0].data) == ("log", "one\n")
    log.write(b"two\n")
    seen.append(next(events))
    farm.finish(log)
    seen += events
    assert text_of(seen) == "one\ntwo\n"
    assert seen[-1].name == "end"


def test_finished_log_is_the_same_out_of_redis_and_out_of_the_store(farm: LogFarm) -> None:
    log = farm.begin()
    data = "".join(f"line {number} \u00e9\u4e2d\n" for number in range(30_000))
    log.write(data.encode())
    farm.finish(log)
    first = list(farm.events())
    assert text_of(first) == data
    farm.redis.flushall()
    again = list(farm.events(last_id=first[3].id))
    assert text_of(first[:4]) + text_of(again) == data
    assert httpx.get(f"{farm.url}/jobs/{JOB}/log", headers=HEADERS, timeout=PATIENCE_S).text == data


def test_what_redis_has_dropped_comes_out_of_the_store_while_the_build_runs(farm: LogFarm) -> None:
    log = farm.begin()
    data = b"".join(b"%08d\n" % number for number in range(2_000_000))
    log.write(data)
    assert wait_until(lambda: len(list(farm.store.list(layout.build_logs(JOB)))) >= len(data) >> 20)
    assert farm.redis.xlen(stream_key(JOB, log.run)) < 700
    received = bytearray()
    for event in farm.events():
        received += event.data.encode()
        if len(received) == len(data):
            break
    assert bytes(received) == data


def test_job_that_is_begun_anew_is_followed_into_its_next_run(farm: LogFarm) -> None:
    first = farm.begin()
    first.write(b"first\n")
    events = farm.events()
    assert next(events).data == "first\n"
    farm.writer.keep(first)
    farm.writer.end(first)
    time.sleep(0.01)
    second = farm.begin(attempt=2)
    second.write(b"second\n")
    assert next(events).name == "run"
    assert next(events).data == "second\n"
    farm.finish(second)
    assert [event.name for event in events] == ["end"]


def test_follower_goes_on_where_it_was_cut_off(farm: LogFarm) -> None:
    log = farm.begin()
    log.write(b"one\n")
    last_id = next(farm.events()).id
    log.write(b"two\n")
    farm.finish(log)
    assert text_of(list(farm.events(last_id=last_id))) == "two\n"


@pytest.mark.parametrize(
    ("followers", "stuck", "jobs", "lines"),
    [(40, 5, 4, 40), pytest.param(300, 20, 20, 100, marks=pytest.mark.slow)],
)
def test_many_followers_read_everything_in_order_beside_some_who_read_nothing(
    farm: LogFarm, followers: int, stuck: int, jobs: int, lines: int
) -> None:
    names = [f"{number:064x}" for number in range(0xABCDEF00, 0xABCDEF00 + jobs)]
    logs = [farm.begin(job) for job in names]
    idle = [_open_and_read_nothing(farm, names[number % jobs]) for number in range(stuck)]
    readers = _Followers(farm, [names[number % jobs] for number in range(followers)])
    readers.start()
    expected = {job: bytearray() for job in names}
    for number in range(lines):
        for job, log in zip(names, logs, strict=True):
            line = f"{job[-2:]} {number} {'x' * 2000}\n".encode()
            expected[job] += line
            log.write(line)
        time.sleep(0.01)
    for log in logs:
        farm.finish(log)
    received = readers.join()
    for connection in idle:
        connection.close()
    assert len(received) == followers
    assert all(text.encode() == expected[job] for job, text in received)


def test_follower_who_reads_nothing_is_cut_off_and_the_others_are_not(farm: LogFarm) -> None:
    """Its connection is dropped with what waits in it, and nothing of it is left in the server."""
    other = _another(farm)
    with serving(other, EventStreams(patience_s=6.0)) as server, _open_and_read_nothing(other, JOB) as stuck:
        connections = server.server_state.connections
        log = farm.begin()
        readers = _Followers(other, [JOB])
        readers.start()
        assert wait_until(lambda: len(connections) == 2)
        line, count = b"x" * 9999 + b"\n", 1000
        for _ in range(count):
            log.write(line)
        assert wait_until(lambda: len(connections) == 1)
        farm.finish(log)
        (received,) = readers.join()
        assert received[1].encode() == line * count
        with pytest.raises(ConnectionResetError):
            while stuck.recv(1 << 20):
                pass


def test_token_follows_so_many_logs_at_once_and_no_more(farm: LogFarm) -> None:
    other = _another(farm)
    with serving(other, EventStreams(most=2)):
        log = farm.begin()
        log.write(b"one\n")
        followed = [other.events() for _ in range(2)]
        assert [next(events).data for events in followed] == ["one\n", "one\n"]
        refused = httpx.get(f"{other.url}/jobs/{JOB}/log/events", headers=HEADERS, timeout=PATIENCE_S)
        assert (refused.status_code, refused.json()["error"]) == (429, "too-many-requests")
        assert int(refused.headers["retry-after"]) > 0
        farm.finish(log)
        assert [[event.name for event in events] for events in followed] == [["end"], ["end"]]
        assert next(other.events()).data == "one\n"


def test_followers_are_let_go_when_the_services_end(farm: LogFarm, caplog: pytest.LogCaptureFixture) -> None:
    other = _another(farm)
    log = farm.begin()
    log.write(b"one\n")
    with serving(other):
        events = other.events()
        last_id = next(events).id
    assert list(events) == []
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []
    log.write(b"two\n")
    farm.finish(log)
    assert text_of(list(farm.events(last_id=last_id))) == "two\n"


def test_log_is_followed_through_another_replica_of_the_api(farm: LogFarm) -> None:
    other = _another(farm)
    log = farm.begin()
    log.write(b"one\n")
    with serving(other):
        first = next(farm.events())
        log.write(b"two\n")
        farm.finish(log)
        assert text_of(list(other.events(last_id=first.id))) == "two\n"


def _another(farm: LogFarm) -> LogFarm:
    """Another replica of the API over the same Redis and store."""
    other = copy(farm)
    other.reader = LogReader(farm.store, farm.redis_url)
    return other


class _Followers:
    """Followers in one thread, each of which reads its job's log to the end."""

    def __init__(self, farm: LogFarm, jobs: list[str]) -> None:
        self._farm = farm
        self._jobs = jobs
        self._received: list[tuple[str, str]] = []
        self._thread = threading.Thread(target=lambda: asyncio.run(self._follow_all()))
        self.start = self._thread.start

    def join(self) -> list[tuple[str, str]]:
        self._thread.join(PATIENCE_S)
        return self._received

    async def _follow_all(self) -> None:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(
            base_url=self._farm.url, headers=HEADERS, timeout=PATIENCE_S, limits=limits
        ) as client:
            self._received = list(await asyncio.gather(*(self._follow(client, job) for job in self._jobs)))

    async def _follow(self, client: httpx.AsyncClient, job: str) -> tuple[str, str]:
        async with client.stream("GET", f"/jobs/{job}/log/events") as answer:
            lines = [line async for line in answer.aiter_lines()]
        return job, text_of(list(read_events(lines)))


def _open_and_read_nothing(farm: LogFarm, job: str) -> socket.socket:
    host, port = farm.url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.sendall(f"GET /jobs/{job}/log/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer t\r\n\r\n".encode())
    return connection
