"""Answers that are given again: only what the way of all requests would answer at that moment, and to whom it would."""

import asyncio
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import permutations, product
from pathlib import Path
from typing import BinaryIO

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as AsgiScope

from tests.support.asgi import asgi_client
from tests.support.index_farm import TARGET, publish
from tests.unit.test_auth import NOW, TokenFarm
from wheelfarm.token_file import Scope
from wheelfarm_services import layout
from wheelfarm_services.access import OPERATOR, PRINCIPAL
from wheelfarm_services.answer_memory import DECIDING_HEADERS, PASSED_ON_HEADERS, AnswerMemory, rests_on
from wheelfarm_services.api import create_app, operations_of
from wheelfarm_services.metrics import REGISTRY
from wheelfarm_services.policy_book import PolicyBook
from wheelfarm_services.store import DirectoryStore
from wheelfarm_services.tenancy import Thing

PAGE, FLAT, ROOT = f"/simple/{TARGET}/app/", f"/flat/{TARGET}/", f"/simple/{TARGET}/"
JSON = {"Accept": "application/vnd.pypi.simple.v1+json"}


class SettledStore(DirectoryStore):
    """Its files count as written long ago; what is opened is noted, and `meanwhile` is done once, after a reading."""

    def now(self) -> float:
        return time.time() + 60

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.opened: list[str] = []
        self.meanwhile: Callable[[], object] | None = None

    def get(self, key: str) -> bytes | None:
        data = super().get(key)
        if self.meanwhile is not None and key.startswith("simple/"):
            meanwhile, self.meanwhile = self.meanwhile, None
            meanwhile()
        return data

    def open(self, key: str) -> BinaryIO | None:
        self.opened.append(key)
        return super().open(key)


class IndexFarm(TokenFarm):
    """A farm with one wheel on its index, and a client that reads."""

    store_type = SettledStore
    store: SettledStore

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.wheel = publish(self.store, "app")
        self.file_path = f"/wheels/{self.wheel.sha256}/{self.wheel.filename}"
        self.reader = self.add("reader")
        self.admin = self.add("admin", Scope.ADMIN)

    def change(self, action: str, version: str = "1.0") -> None:
        body = {"action": action, "version": version, "reason": "it is broken"}
        assert self.admin.post("/index/app", json=body).status_code == 200

    def fresh(self) -> httpx.Client:
        """The reader at an API that remembers nothing."""
        return asgi_client(create_app(self.services), **self.reader.headers)


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[IndexFarm]:
    farm = IndexFarm(tmp_path)
    with farm.client:
        yield farm


def told(answer: httpx.Response) -> tuple[int, list[tuple[str, str]], bytes]:
    return answer.status_code, answer.headers.multi_items(), answer.content


def paths(farm: IndexFarm) -> list[str]:
    return [PAGE, FLAT, ROOT, farm.file_path, f"{farm.file_path}.metadata"]


def test_answers_are_given_again_alike_and_counted_without_the_store_being_read(farm: IndexFarm) -> None:
    def counted() -> float:
        names = {"operation": "projectPage", "outcome": "2xx"}
        return REGISTRY.get_sample_value("wheelfarm_api_seconds_count", names) or 0.0

    first = [told(farm.reader.get(path)) for path in paths(farm)]
    assert [status for status, _, _ in first] == [200] * 5
    farm.store.opened.clear()
    before = counted()
    for _ in range(3):
        assert [told(farm.reader.get(path)) for path in paths(farm)] == first
    assert farm.store.opened == []
    assert counted() == before + 3


@pytest.mark.parametrize(
    "change",
    [
        lambda farm: publish(farm.store, "app", "2.0"),
        lambda farm: publish(farm.store, "app", text="rebuilt"),
        lambda farm: publish(farm.store, "other"),
        lambda farm: farm.change("yank"),
        lambda farm: farm.change("quarantine", ""),
        lambda farm: farm.change("quarantine"),
        lambda farm: farm.change("delete"),
        lambda farm: farm.store.delete(layout.wheel(farm.wheel.sha256, farm.wheel.filename)),
        lambda farm: farm.store.delete(layout.project_page(TARGET, "app", "html")),
    ],
    ids=["publish", "rebuild", "another", "yank", "quarantine", "version", "delete", "wheel gone", "page gone"],
)
def test_next_answer_tells_of_a_change(farm: IndexFarm, change: Callable[[IndexFarm], object]) -> None:
    before = [told(farm.reader.get(path)) for path in paths(farm)]
    change(farm)
    after = [told(farm.reader.get(path)) for path in paths(farm)]
    assert after != before
    assert after == [told(farm.fresh().get(path)) for path in paths(farm)]


def test_change_that_is_taken_back_is_told_of_too(farm: IndexFarm) -> None:
    first = [farm.reader.get(path).status_code for path in paths(farm)]
    farm.change("quarantine")
    assert [farm.reader.get(path).status_code for path in paths(farm)] == [404, 404, 404, 422, 422]
    farm.change("release")
    assert [farm.reader.get(path).status_code for path in paths(farm)] == first


def test_policy_that_denies_is_heeded(farm: IndexFarm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert farm.reader.get(farm.file_path).status_code == 200
    (tmp_path / "policy.toml").write_text('[[deny]]\nproject = "app"\nreason = "R."\n')
    PolicyBook(farm.store).publish(tmp_path / "policy.toml")
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 3)  # every service looks after two seconds
    assert farm.reader.get(farm.file_path).status_code == 422


def test_what_another_replica_does_is_seen(farm: IndexFarm, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [farm.reader.get(path).status_code for path in (PAGE, farm.file_path)] == [200, 200]
    other = asgi_client(create_app(farm.services), **farm.admin.headers)
    other.post("/index/app", json={"action": "quarantine", "version": "1.0", "reason": "it is broken"})
    assert farm.reader.get(PAGE).status_code == 404
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 3)  # states are two seconds old at most
    assert farm.reader.get(farm.file_path).status_code == 422


def test_page_that_is_replaced_while_it_is_read_is_not_given_again(farm: IndexFarm) -> None:
    farm.store.meanwhile = lambda: publish(farm.store, "app", "2.0")
    assert "app-2.0" not in farm.reader.get(PAGE).text
    assert "app-2.0" in farm.reader.get(PAGE).text


def test_what_was_missing_is_found_once_it_is_there(farm: IndexFarm) -> None:
    path = f"/simple/{TARGET}/later/"
    assert [farm.reader.get(path).status_code for _ in range(2)] == [404, 404]
    publish(farm.store, "later")
    assert farm.reader.get(path).status_code == 200


@pytest.mark.parametrize(
    ("facts", "status"),
    [({"revoked": True}, 401), ({"targets": ["other"]}, 403), ({"sha256": "0" * 64}, 401), ({"tenant": "team-a"}, 404)],
)
def test_token_that_is_taken_back_or_narrowed_gets_nothing_more(
    farm: IndexFarm, facts: dict[str, object], status: int
) -> None:
    assert [farm.reader.get(PAGE).status_code for _ in range(2)] == [200, 200]
    farm.tokens["reader"][1].update(facts)
    farm.write()
    assert farm.reader.get(PAGE).status_code == status


def test_token_that_expires_gets_nothing_more(farm: IndexFarm) -> None:
    client = farm.add("brief", expires=NOW + timedelta(minutes=1))
    assert [client.get(PAGE).status_code for _ in range(2)] == [200, 200]
    farm.now += timedelta(minutes=1)
    assert client.get(PAGE).status_code == 401


def test_who_may_see_less_gets_nothing_that_others_were_given(farm: IndexFarm) -> None:
    narrow, tenant = farm.add("narrow", targets=["other"]), farm.add("tenant", tenant="team-a")
    clients = [farm.reader, narrow, tenant, asgi_client(farm.app), farm.client_of("wrong"), farm.client]
    for order in permutations(clients, 2):
        for client in order:
            expected = asgi_client(create_app(farm.services), **client.headers)
            for path in paths(farm):
                assert told(client.get(path)) == told(expected.get(path))


def test_wheel_that_a_tenant_was_told_of_is_its_own(farm: IndexFarm) -> None:
    mine, other = farm.add("mine", tenant="team-a"), farm.add("other", tenant="team-b")
    farm.tenancy.grant("team-a", Thing.WHEEL, [farm.wheel.sha256])
    for _ in range(2):
        assert [client.get(farm.file_path).status_code for client in (mine, other)] == [200, 404]


def test_pages_of_a_tenant_show_what_it_is_told_of_at_once(farm: IndexFarm) -> None:
    second, mine = publish(farm.store, "app", "2.0"), farm.add("mine", tenant="team-a")
    for wheel, listed in ((farm.wheel, 1), (second, 2)):
        farm.tenancy.grant("team-a", Thing.WHEEL, [wheel.sha256])
        for path, headers in product((PAGE, FLAT), ({}, JSON)):
            names = [mine.get(path, headers=headers).text.count(".whl") for _ in range(2)]
            assert names == [2 * listed] * 2, "each file is named twice"


def test_each_use_of_a_token_with_a_limit_is_counted(farm: IndexFarm) -> None:
    client = farm.add("limited", requests_per_minute=60)
    assert [client.get(PAGE).status_code for _ in range(3)] == [200] * 3
    assert farm.fake_limits.asked == [("limited", 60)] * 3
    farm.fake_limits.wait = 7.0
    assert client.get(PAGE).status_code == 429


def test_requests_that_differ_get_what_each_is_answered_alone(farm: IndexFarm) -> None:
    etag, other = farm.reader.get(PAGE).headers["etag"], farm.reader.get(PAGE, headers=JSON).headers["etag"]
    sent = [
        [],
        [("Accept", "text/html")],
        [("Accept", JSON["Accept"])],
        [("Accept", JSON["Accept"]), ("Accept", "text/html")],
        [("Accept", "text/html"), ("Accept", JSON["Accept"])],
        [("accept", "image/png")],
        [("If-None-Match", etag)],
        [("If-None-Match", other)],
        [("If-None-Match", f"W/{etag}"), ("Accept", JSON["Accept"])],
        [("Range", "bytes=0-9")],
        [("Range", "bytes=5-9"), ("If-Range", '"other"')],
        [("Wheelfarm-API", "2")],
        [("User-Agent", "uv/1")],
    ]
    asked = [
        *paths(farm),
        f"{PAGE}?format=application/vnd.pypi.simple.v1%2Bjson",
        f"{PAGE}?format=image/png",
        f"/simple/{TARGET}/%61pp/",
        f"/simple/{TARGET}/App/",
        f"/simple/{TARGET}/app",
        f"/simple/{TARGET}/app/%3fformat=x",
        f"{PAGE}?x=1",
    ]
    requests = [
        httpx.Request(method, f"http://farm.example{path}", headers=[*farm.reader.headers.multi_items(), *headers])
        for method, path, headers in product(("GET", "HEAD", "POST"), asked, sent)
    ]
    for request in requests:  # by which every one of them has the chance to spoil another one's answer
        farm.client.send(request)
    for request in requests:
        answer, expected = farm.client.send(request), asgi_client(create_app(farm.services)).send(request)
        assert told(answer) == told(expected), request


def test_every_header_that_an_operation_goes_by_is_known(farm: IndexFarm) -> None:
    operations = operations_of(farm.services)
    repeated = [one for one in operations if one.name in ("flatPage", "projectList", "projectPage", "wheel")]
    assert len(repeated) == 4
    named = {
        one.name.lower().encode() for operation in repeated for one in operation.parameters if one.place == "header"
    }
    assert named <= DECIDING_HEADERS | PASSED_ON_HEADERS


class Counting:
    """An application that answers each request with its number and `size` bytes, and says that they rest on `holds`."""

    def __init__(self, size: int = 10) -> None:
        self.size, self.asked, self.status = size, 0, 200
        self.holds: Callable[[], bool] | None = lambda: True

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        self.asked += 1
        rests_on(Request(scope), self.holds)
        text = str(self.asked).encode().ljust(self.size)
        streamed = scope["path"] == "/stream"
        answer = StreamingResponse(iter([text, text])) if streamed else Response(text, self.status)
        await answer(scope, receive, send)


def bearing(app: ASGIApp) -> httpx.Client:
    """A client of an application that takes everybody for the operator."""

    async def admit(scope: AsgiScope, receive: Receive, send: Send) -> None:
        scope[PRINCIPAL] = OPERATOR
        await app(scope, receive, send)

    return asgi_client(admit)


def test_answer_stands_as_long_as_all_that_it_rests_on() -> None:
    app = Counting()
    client = bearing(AnswerMemory(app))
    assert [client.get("/").text.strip() for _ in range(3)] == ["1"] * 3

    def fails() -> bool:
        raise OSError("the disk is gone")

    first, app.holds = app.holds, fails
    assert client.get("/other").text.strip() == "2"
    app.holds = first
    assert client.get("/other").text.strip() == "3", "what can't be told is asked anew"
    assert client.get("/other").text.strip() == "3"


@pytest.mark.parametrize("spoiled", ["unknown", "error", "redirect", "stream", "large", "nobody", "method"])
def test_what_may_not_be_given_again_is_asked_for_anew(spoiled: str) -> None:
    app = Counting(size=2 << 20 if spoiled == "large" else 10)
    app.holds = None if spoiled == "unknown" else app.holds
    app.status = {"error": 404, "redirect": 301}.get(spoiled, 200)
    client = asgi_client(AnswerMemory(app)) if spoiled == "nobody" else bearing(AnswerMemory(app))
    for _ in range(3):
        client.request("POST" if spoiled == "method" else "GET", "/stream" if spoiled == "stream" else "/")
    assert app.asked == 3


def test_memory_is_bounded_and_keeps_what_is_asked_for_again() -> None:
    app = Counting(size=10_000)
    client = bearing(AnswerMemory(app, most_bytes=100_000))
    for number in range(50):
        client.get(f"/{number}")
        assert client.get("/0").text.strip() == "1"
    assert app.asked == 50
    client.get("/49")
    assert app.asked == 50
    client.get("/1")
    assert app.asked == 51


def test_long_requests_count_as_what_they_take() -> None:
    app = Counting()
    client = bearing(AnswerMemory(app, most_bytes=100_000))
    for number in range(20):
        client.get("/", params={"x": f"{number}" * 5000})
    client.get("/", params={"x": "0" * 5000})
    assert app.asked == 21


def test_equal_requests_at_once_are_remembered_once() -> None:
    app = Counting(size=40_000)
    release = asyncio.Event()

    async def slow(scope: AsgiScope, receive: Receive, send: Send) -> None:
        if scope["path"] != "/quick":
            await release.wait()
        await app(scope, receive, send)

    memory = AnswerMemory(slow, most_bytes=100_000)

    async def ask(path: str) -> None:
        async def nothing(*_: object) -> dict[str, object]:
            return {"type": "http.request"}

        headers: list[tuple[bytes, bytes]] = []
        await memory(
            {
                "type": "http",
                "method": "GET",
                "path": path,
                "query_string": b"",
                "headers": headers,
                PRINCIPAL: OPERATOR,
            },
            nothing,
            nothing,  # type: ignore[arg-type]
        )

    async def all_at_once() -> None:
        asking = [asyncio.create_task(ask("/")) for _ in range(5)]
        await asyncio.sleep(0)
        release.set()
        await asyncio.gather(*asking)
        await ask("/quick")  # room for it is left, for five equal answers count as one
        await ask("/")
        await ask("/quick")

    asyncio.run(all_at_once())
    assert app.asked == 6
