import asyncio
import base64
import gzip
import hashlib
import json
import shutil
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest

from tests.support.asgi import asgi_client, operations_client
from tests.support.ledger import FakeLedger, make_record
from tests.support.projects import Project
from tests.support.upstreams import upstreams_of
from tests.support.values import make_built_wheel, make_job, make_sdist, make_target
from wheelfarm.errors import FarmUnavailable, WheelfarmError
from wheelfarm.event_stream import read_events
from wheelfarm.farm_status import FarmStatus
from wheelfarm.job import Failure, FailureClass, JobKind, JobState, Sdist
from wheelfarm.resolution import Account, source_index_path
from wheelfarm.token_file import Scope
from wheelfarm.worker import LivingWorker
from wheelfarm_services import layout
from wheelfarm_services.access import OPERATOR, Access
from wheelfarm_services.accounts import Accounts, PageSource
from wheelfarm_services.api import Services, create_app
from wheelfarm_services.fleet import Fleet
from wheelfarm_services.health_routes import health_operations
from wheelfarm_services.ledger import Ledger
from wheelfarm_services.log_reader import LogReader
from wheelfarm_services.rate_limits import RateLimits
from wheelfarm_services.recipe_book import RecipeBook
from wheelfarm_services.requests import Requests
from wheelfarm_services.sdist_metadata import SdistMetadata
from wheelfarm_services.source_index import SourceIndex
from wheelfarm_services.store import DirectoryStore, Store
from wheelfarm_services.tenancy import Tenancy
from wheelfarm_services.wheel_index import WheelIndex

TOKEN = "s3cret"  # noqa: S105
RESOLUTION = "ab" * 16
STATIC = Project(name="app")
DYNAMIC = Project(name="app", version="2.0", static=False)
SOURCE = source_index_path(make_target())
VIRTUAL = SOURCE.replace("/simple/", "/virtual/")
PATHS = [
    ("PUT", "/targets/t/r"),
    ("GET", SOURCE + "app/"),
    ("GET", VIRTUAL + "app/00/app-1.0-0-py3-none-any.whl.metadata"),
    ("GET", "/resolutions/x"),
    ("PUT", "/resolutions/x/local"),
    ("PUT", f"/local/{'0' * 64}"),
    ("POST", "/sdists"),
    ("POST", "/requests"),
    ("GET", "/requests/x"),
    ("DELETE", "/requests/x"),
    ("GET", "/jobs/x"),
    ("GET", "/jobs/x/log"),
    ("GET", "/wheels/x/app.whl"),
    ("GET", "/flat/x/"),
    ("GET", "/simple/x/"),
    ("GET", "/simple/x/app/"),
    ("GET", "/simple/x/app"),
    ("GET", "/combined/x/app/"),
    ("POST", "/index/app"),
    ("GET", "/explanations/x"),
    ("GET", "/exports/x"),
    ("PUT", "/imports/x/app.whl"),
    ("POST", "/imports/x/app.whl"),
    ("POST", "/forecasts"),
    ("GET", "/pythons"),
    ("GET", "/pythons/downloads.json"),
    ("GET", "/pythons/1/x.tar.gz"),
    ("PUT", "/pythons/1/x.tar.gz"),
    ("DELETE", "/pythons/1/x.tar.gz"),
    ("GET", "/status"),
    ("POST", "/cancellations/x"),
    ("GET", source_index_path(make_target(), estimate=True) + "app/"),
    ("GET", "/"),
    ("GET", "/nothing/here"),
    ("GET", "/healthz/"),
    ("POST", "/healthz/../requests"),
]


class FakeAccounts:
    """Accounts in memory."""

    def __init__(self) -> None:
        self.notes: list[tuple[str, str, object]] = []
        self.seen: dict[tuple[str, str], Sdist] = {}

    def pending(self, resolution_id: str, sdist: Sdist) -> None:
        self.notes.append((resolution_id, "pending", sdist))

    def unknown(self, resolution_id: str, name: str) -> None:
        self.notes.append((resolution_id, "unknown", name))

    def local(self, resolution_id: str, name: str) -> Sdist | None:
        return self.seen.get((resolution_id, name))

    def see_local(self, resolution_id: str, sdists: Sequence[Sdist]) -> None:
        self.seen |= {(resolution_id, sdist.name): sdist for sdist in sdists}

    def page(self, resolution_id: str, name: str) -> None:
        self.notes.append((resolution_id, "page", name))

    def error(self, resolution_id: str, error: WheelfarmError) -> None:
        self.notes.append((resolution_id, "error", error.code))

    def read(self, resolution_id: str, pages: PageSource) -> dict[str, object]:
        return {"pending": [], "unknown": ["x"], "without_sdist": {}, "with_sdist": {}, "remarks": [], "errors": []}


class NobodyWorks:
    """A fleet without workers."""

    def workers(self) -> list[LivingWorker]:
        return []


class Farm:
    """The API over a real store, a fake ledger and an upstream of two projects."""

    store_type: type[DirectoryStore] = DirectoryStore

    def __init__(self, folder: Path, *, access: Access | None = None, limits: RateLimits | None = None) -> None:
        self.store = self.store_type.create(folder / "store")
        self.ledger = FakeLedger()
        self.accounts = FakeAccounts()
        self.upstream_status = 200
        self.upstream_asked = 0
        self.upstream_answers = threading.Event()
        self.upstream_answers.set()
        self.files = {project.filename: project.sdist() for project in (STATIC, DYNAMIC)}
        sources = SourceIndex(self.store, upstreams_of(self.store, httpx.MockTransport(self._upstream)))
        recipes = RecipeBook(self.store)
        self.tenancy = Tenancy(self.store)
        self.requests = Requests(
            self.store, self.ledger.as_ledger, sources, WheelIndex(self.store), recipes, tenancy=self.tenancy
        )
        self.services = Services(
            store=self.store,
            ledger=self.ledger.as_ledger,
            sources=sources,
            requests=self.requests,
            accounts=cast(Accounts, self.accounts),
            recipes=recipes,
            tenancy=self.tenancy,
            logs=LogReader(self.store, "redis+socket:///nowhere"),
            fleet=cast(Fleet, NobodyWorks()),
            access=access or Access(TOKEN),
            limits=limits,
        )
        self.app = create_app(self.services)
        self.client = asgi_client(self.app, Authorization=basic(RESOLUTION, TOKEN))

    def _upstream(self, request: httpx.Request) -> httpx.Response:
        name = request.url.path.rstrip("/").rpartition("/")[2]
        self.upstream_asked += 1
        self.upstream_answers.wait(120)
        if self.upstream_status != 200:
            return httpx.Response(self.upstream_status)
        if name in self.files:
            return httpx.Response(200, stream=httpx.ByteStream(self.files[name]))
        if name != "app":
            return httpx.Response(404)
        files = [
            {"filename": filename, "url": f"/files/{filename}", "hashes": {"sha256": hashlib.sha256(data).hexdigest()}}
            for filename, data in self.files.items()
        ]
        wheel = {"filename": "app-3.0-py3-none-any.whl", "url": "x", "hashes": {}}
        page = {"meta": {"api-version": "1.1"}, "name": name, "files": [*files, wheel]}
        return httpx.Response(200, headers={"content-type": "application/vnd.pypi.simple.v1+json"}, json=page)

    def sdist(self, project: Project) -> Sdist:
        sha256 = hashlib.sha256(project.sdist()).hexdigest()
        return Sdist(name=project.name, version=project.version, filename=project.filename, sha256=sha256)

    def metadata(self, project: Project) -> httpx.Response:
        """The answer to uv's question for the metadata of a project's virtual wheel."""
        wheel = f"app-{project.version}-0-py3-none-any.whl.metadata"
        return self.client.get(f"{VIRTUAL}app/{self.sdist(project).sha256}/{wheel}")

    def fail_metadata(self, failure: Failure) -> None:
        """Have the metadata job of the dynamic project failed."""
        job = make_job(self.sdist(DYNAMIC), kind=JobKind.METADATA)
        record = make_record(job.id, state=JobState.FAILED, failure=json.dumps(failure.to_json()))
        self.ledger.records[job.id] = record


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[Farm]:
    farm = Farm(tmp_path)
    with farm.client:
        farm.requests.register(make_target())
        yield farm


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer wrong",
        f"Bearer {TOKEN}x",
        basic(RESOLUTION, "wrong"),
        basic(TOKEN, ""),
        "Basic not-base64!",
        "Basic " + base64.b64encode(b"\xff\xfe").decode(),
        "Digest x",
    ],
)
def test_every_path_refuses_who_does_not_know_the_token_whether_or_not_it_exists(
    farm: Farm, authorization: str | None
) -> None:
    client = asgi_client(farm.app, **({} if authorization is None else {"Authorization": authorization}))
    for method, path in PATHS:
        answer = client.request(method, path)
        assert answer.status_code == 401, path
        assert answer.headers["www-authenticate"].startswith("Basic")
        assert TOKEN not in answer.text


@pytest.mark.parametrize(
    "authorization", [f"Bearer {TOKEN}", f"bearer {TOKEN}", basic("anybody", TOKEN), basic("", TOKEN)]
)
def test_token_is_taken_as_bearer_and_as_basic_password(farm: Farm, authorization: str) -> None:
    answer = asgi_client(farm.app, Authorization=authorization).get(SOURCE + "app/")
    assert answer.status_code == 200


def test_health_and_readiness_are_open_to_all(farm: Farm) -> None:
    client = asgi_client(farm.app)
    assert [client.get(path).text for path in ("/healthz", "/readyz")] == ["ok\n", "ok\n"]


def test_farm_without_its_redis_is_alive_and_not_ready(farm: Farm) -> None:
    farm.ledger.errors["ping"] = FarmUnavailable("Redis at /run/secret is gone.")
    client = asgi_client(farm.app)
    assert client.get("/healthz").status_code == 200
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["message"]) == (503, "Redis can't be used.")
    assert int(answer.headers["retry-after"]) > 0


def test_farm_without_its_store_is_alive_and_not_ready_and_tells_nobody_where_it_was(farm: Farm) -> None:
    shutil.rmtree(farm.store.root)
    client = asgi_client(farm.app)
    assert [client.get(path).status_code for path in ("/healthz", "/readyz")] == [200, 503]
    assert client.get("/readyz").json()["message"] == "The store can't be used."


def test_readiness_is_looked_at_once_a_second_however_many_ask() -> None:
    looks, now = [], [0.0]
    (_, ready, _) = health_operations(
        cast(Store, SimpleNamespace(size=lambda key: looks.append(key))),
        cast(Ledger, SimpleNamespace(ping=lambda: None)),
        cast(Fleet, None),
        clock=lambda: now[0],
    )
    client = operations_client([ready])
    assert {client.get("/readyz").text for _ in range(10)} == {"ok\n"}
    assert len(looks) == 1
    now[0] = 1.5
    client.get("/readyz")
    assert len(looks) == 2


@pytest.mark.parametrize("path", ["/requests", "/sdists"])
@pytest.mark.parametrize("body", [b"", b"{", b"nonsense", b"\xff", b"[" * 100_000, b"3", b'{"kind": []}', b'["app"]'])
def test_malformed_body_is_a_bad_request(farm: Farm, path: str, body: bytes) -> None:
    answer = farm.client.post(path, content=body)
    assert answer.status_code == 400
    assert answer.json()["error"] == "input"


def test_body_larger_than_the_limit_is_refused(farm: Farm) -> None:
    assert farm.client.post("/requests", content=b" " * ((8 << 20) + 1)).status_code == 413


def test_upstream_that_does_not_answer_keeps_nobody_from_anything_else(farm: Farm) -> None:
    async def ask() -> int:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(farm.app), base_url="http://farm", headers=headers, timeout=600
        ) as client:
            asking = [asyncio.create_task(client.get(f"{SOURCE}made-up-{number}/")) for number in range(100)]
            while farm.upstream_asked < 40:  # as many as there are threads for everything else
                await asyncio.sleep(0.01)
            try:
                answer = await asyncio.wait_for(client.get("/recipes"), 60)
            finally:
                farm.upstream_answers.set()
            assert {one.status_code for one in await asyncio.gather(*asking)} == {404}
            return answer.status_code

    farm.upstream_answers.clear()
    assert asyncio.run(ask()) == 200


@pytest.mark.parametrize(("method", "path"), [("POST", "/sdists"), ("PUT", f"/resolutions/{RESOLUTION}/local")])
def test_longer_list_of_sdists_than_the_limit_is_refused_before_one_is_looked_at(
    farm: Farm, method: str, path: str
) -> None:
    answer = farm.client.request(method, path, json=[asdict(make_sdist())] * 5001)
    assert (answer.status_code, "at most 5000 sdists" in answer.json()["message"]) == (400, True)


def test_target_must_be_the_one_of_the_path(farm: Farm) -> None:
    path = f"/targets/{make_target().name}/{make_target().revision}"
    assert farm.client.put(path, json=make_target().to_json()).status_code == 204
    bodies: list[object] = [make_target("host-other").to_json(), {**make_target().to_json(), "python": 1}, [], None]
    for body in bodies:
        assert farm.client.put(path, json=body).status_code == 400


def test_project_page_lists_virtual_wheels_below_its_own_target(farm: Farm) -> None:
    answer = farm.client.get(SOURCE + "app/")
    assert answer.headers["content-type"] == "application/vnd.pypi.simple.v1+json"
    assert answer.headers["cache-control"] == "no-cache"
    wheels = [entry["url"] for entry in answer.json()["files"] if entry["filename"].endswith(".whl")]
    assert len(wheels) == 2
    assert all(url.startswith(VIRTUAL) for url in wheels)
    assert (RESOLUTION, "page", "app") in farm.accounts.notes


def test_page_that_a_resolver_has_is_not_sent_again_until_it_changes(farm: Farm) -> None:
    first = farm.client.get(SOURCE + "app/")
    again = farm.client.get(SOURCE + "app/", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    other = farm.client.get(SOURCE + "app/", headers={"If-None-Match": '"other"'})
    assert (other.status_code, other.content) == (200, first.content)
    estimate = farm.client.get(source_index_path(make_target(), estimate=True) + "app/")
    assert estimate.headers["etag"] != first.headers["etag"]


@pytest.mark.parametrize("name", ["absent", "App", "%2e%2e", "a%20b"])
def test_unknown_project_is_not_found_and_noted(farm: Farm, name: str) -> None:
    assert farm.client.get(f"{SOURCE}{name}/").status_code == 404
    assert [kind for _, kind, _ in farm.accounts.notes] in (["unknown"], [])


@pytest.mark.parametrize("status", [401, 403, 500, 503])
def test_failing_upstream_is_answered_422_which_uv_does_not_repeat(farm: Farm, status: int) -> None:
    farm.upstream_status = status
    answer = farm.client.get(SOURCE + "app/")
    assert answer.status_code == 422
    assert answer.json()["error"] == "upstream"
    assert farm.accounts.notes == [(RESOLUTION, "error", "upstream")]


def test_fault_of_the_farm_itself_on_a_source_path_is_422_too_and_tells_nothing(farm: Farm) -> None:
    sha256 = farm.sdist(STATIC).sha256
    farm.store.put(layout.sdist(sha256), b"an sdist")
    farm.store.put(layout.sdist_record(sha256), b"not json")
    answer = farm.metadata(STATIC)
    assert answer.status_code == 422
    assert "JSONDecodeError" in answer.json()["message"]
    assert "line 1" not in answer.json()["message"]


def test_unavailable_farm_elsewhere_is_503(farm: Farm) -> None:
    farm.ledger.errors["submit"] = FarmUnavailable("Redis is gone.")
    assert submit(farm).status_code == 503


def test_static_metadata_is_given_at_once(farm: Farm) -> None:
    answer = farm.metadata(STATIC)
    assert answer.status_code == 200
    assert answer.text.startswith("Metadata-Version: 2.2\nName: app\nVersion: 1.0\n")


def test_metadata_that_must_be_computed_is_answered_425_and_noted(farm: Farm) -> None:
    assert farm.metadata(DYNAMIC).status_code == 425
    assert farm.accounts.notes == [(RESOLUTION, "pending", farm.sdist(DYNAMIC))]
    farm.store.put(
        layout.built_metadata(farm.sdist(DYNAMIC).sha256, make_target().revision), b"Metadata-Version: 2.1\n"
    )
    assert farm.metadata(DYNAMIC).status_code == 200


def test_estimate_takes_metadata_that_must_be_computed_as_stated_and_is_not_kept_by_resolvers(farm: Farm) -> None:
    estimate = source_index_path(make_target(), estimate=True)
    page = farm.client.get(estimate + "app/").json()
    urls = [entry["url"] for entry in page["files"] if entry["filename"].endswith(".whl")]
    assert all(url.startswith(estimate.replace("/simple/", "/virtual/")) for url in urls)
    static, dynamic = (farm.client.get(url + ".metadata") for url in urls)
    assert static.text == farm.metadata(STATIC).text
    assert "immutable" in static.headers["cache-control"]
    assert dynamic.text == "Metadata-Version: 2.1\nName: app\nVersion: 2.0\n"
    assert dynamic.headers["cache-control"] == "no-store"
    assert farm.accounts.notes[-1] == (RESOLUTION, "pending", farm.sdist(DYNAMIC))
    farm.fail_metadata(Failure(failure_class=FailureClass.BUILD, error="build-failed", message="no header"))
    assert farm.client.get(urls[1] + ".metadata").status_code == 200
    assert farm.metadata(DYNAMIC).status_code == 422


def test_metadata_that_failed_to_be_computed_is_the_reason(farm: Farm) -> None:
    farm.fail_metadata(Failure(failure_class=FailureClass.BUILD, error="build-failed", message="no header"))
    answer = farm.metadata(DYNAMIC)
    assert answer.status_code == 422
    assert answer.json() == {"error": "build-failed", "message": "no header", "hint": ""}
    assert farm.accounts.notes == [
        (RESOLUTION, "pending", farm.sdist(DYNAMIC)),
        (RESOLUTION, "error", "build-failed"),
    ]


@pytest.mark.parametrize("error", ["farm-unavailable", "worker-lost", "upstream"])
def test_failure_that_may_pass_is_not_remembered_against_the_metadata(farm: Farm, error: str) -> None:
    farm.fail_metadata(Failure(failure_class=FailureClass.INFRASTRUCTURE, error=error, message="for now"))
    assert farm.metadata(DYNAMIC).status_code == 425


@pytest.mark.parametrize(
    "path",
    [
        f"{VIRTUAL}app/{'0' * 64}/app-1.0-0-py3-none-any.whl.metadata",
        f"{VIRTUAL}app/SHA/app-1.0-0-py3-none-any.whl",
        f"{VIRTUAL}absent/SHA/app-1.0-0-py3-none-any.whl.metadata",
        "/source/default/unknown/0000/virtual/app/SHA/app-1.0-0-py3-none-any.whl.metadata",
    ],
)
def test_virtual_wheel_that_is_not_listed_and_its_bytes_are_not_found(farm: Farm, path: str) -> None:
    assert farm.client.get(path.replace("SHA", farm.sdist(STATIC).sha256)).status_code == 404


def submit(farm: Farm, *, client: httpx.Client | None = None, **fields: Any) -> httpx.Response:
    body = {
        "id": RESOLUTION,
        "kind": "wheel",
        "target": make_target().name,
        "target_revision": make_target().revision,
        "sdists": [asdict(farm.sdist(STATIC))],
        **fields,
    }
    return (client or farm.client).post("/requests", json=body)


def test_request_is_accepted_followed_and_closed(farm: Farm) -> None:
    answer = submit(farm)
    assert answer.status_code == 202
    assert farm.client.get(f"/requests/{RESOLUTION}").json() == answer.json()
    assert farm.client.delete(f"/requests/{RESOLUTION}").status_code == 204
    assert farm.client.get(f"/requests/{RESOLUTION}").status_code == 404


def test_request_is_answered_after_something_has_happened_to_its_jobs(farm: Farm) -> None:
    accepted = submit(farm).json()
    event, jobs = accepted["event"], tuple(accepted["requested"])
    assert farm.client.get(f"/requests/{RESOLUTION}", params={"after": event}).json() == accepted
    assert farm.ledger.waits == [(event, jobs)]
    assert farm.client.get(f"/requests/{RESOLUTION}", params={"after": "$"}).status_code == 400
    assert farm.client.get(f"/requests/{'0' * 32}", params={"after": event}).status_code == 404


def test_sdist_that_is_not_listed_is_not_accepted(farm: Farm) -> None:
    sdist = {**asdict(farm.sdist(STATIC)), "sha256": "0" * 64}
    assert submit(farm, sdists=[sdist]).status_code == 400
    assert farm.client.post("/sdists", json=[sdist]).status_code == 400
    assert farm.client.post("/sdists", json=[asdict(farm.sdist(STATIC))]).status_code == 204


def test_account_of_a_resolution_is_read(farm: Farm) -> None:
    assert Account.from_json(farm.client.get(f"/resolutions/{RESOLUTION}").json()).unknown == ("x",)


def test_user_name_that_is_no_resolution_is_noted_as_none(farm: Farm) -> None:
    farm.client.get(SOURCE + "absent/", headers={"Authorization": basic("../../x", TOKEN)})
    assert farm.accounts.notes == [("none", "unknown", "absent")]


def test_wheel_is_given_with_its_length_and_for_ever(farm: Farm) -> None:
    wheel = make_built_wheel(data=b"w" * 3_000_000)
    farm.store.put(layout.wheel(wheel.sha256, wheel.filename), b"w" * 3_000_000)
    answer = farm.client.get(f"/wheels/{wheel.sha256}/{wheel.filename}")
    assert answer.content == b"w" * 3_000_000
    assert answer.headers["content-length"] == "3000000"
    assert "immutable" in answer.headers["cache-control"]


@pytest.mark.parametrize(
    "path", [f"/wheels/{'0' * 64}/app-1.0-1-py3-none-any.whl", f"/wheels/{'0' * 64}/%2e%2e", "/flat/unknown/"]
)
def test_what_was_never_built_is_not_found(farm: Farm, path: str) -> None:
    assert farm.client.get(path).status_code == 404


def test_flat_page_is_html_that_is_asked_for_anew(farm: Farm) -> None:
    farm.store.put(layout.flat_page("host"), b"<a href>")
    answer = farm.client.get("/flat/host/")
    assert answer.text == "<a href>"
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.headers["cache-control"] == "no-cache"


def test_events_of_a_request_lead_on_from_the_last_one(farm: Farm) -> None:
    accepted = submit(farm).json()
    (job_id,) = accepted["requested"]
    farm.ledger.records[job_id] = replace(farm.ledger.records[job_id], state=JobState.DONE)
    path = f"/requests/{RESOLUTION}/events"
    job, end = read_events(farm.client.get(path).text.split("\n"))
    assert (job.name, json.loads(job.data)["state"], job.id) == ("job", "done", accepted["event"])
    assert (end.name, json.loads(end.data)["id"]) == ("end", RESOLUTION)
    farm.ledger.changes = {"1-1": set(), "2-1": {job_id}}
    for last_id, told in (("1-1", ["end"]), ("2-1", ["job", "end"]), ("9-9", ["job", "end"])):
        text = farm.client.get(path, headers={"Last-Event-ID": last_id}).text
        assert [event.name for event in read_events(text.split("\n"))] == told
    assert farm.client.get(f"/requests/{'00' * 16}/events").status_code == 404


def test_version_of_the_api_is_told_and_another_one_refused(farm: Farm) -> None:
    assert farm.client.get("/status").headers["wheelfarm-api"] == "1"
    assert asgi_client(farm.app).get("/status").headers["wheelfarm-api"] == "1"
    assert farm.client.get("/status", headers={"Wheelfarm-API": "1"}).status_code == 200
    refused = farm.client.get("/status", headers={"Wheelfarm-API": "2"})
    assert (refused.status_code, "version 1" in refused.json()["message"]) == (400, True)


def put_log(farm: Farm, job_id: str, run: str, *chunks: bytes) -> None:
    """Put what a run printed into the store."""
    start = 0
    for chunk in chunks:
        farm.store.put(layout.build_log_chunk(job_id, run, start), gzip.compress(chunk))
        start += len(chunk)


def test_log_of_the_last_run_is_plain_text_without_control_characters(farm: Farm) -> None:
    job_id = make_job().id
    text = "ok\t\x1b[31mred\x1b[0m\r\n\x07\u202eevil\u2066 caf\xe9".encode()
    put_log(farm, job_id, "1795000000000-1", b"first")
    put_log(farm, job_id, "1795000000001-1", text[:-1], text[-1:] + b"\xff")
    answer = farm.client.get(f"/jobs/{job_id[:12]}/log")
    assert answer.text.replace("\N{REPLACEMENT CHARACTER}", "?") == "ok\t?[31mred?[0m?\n??evil? caf\xe9?"
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    raw = farm.client.get(f"/jobs/{job_id[:12]}/log", params={"raw": "true"})
    assert raw.content == text + b"\xff"
    assert raw.headers["content-type"] == "application/octet-stream"


def test_log_is_asked_for_by_enough_of_one_jobs_id(farm: Farm) -> None:
    for job_id in ("ab" * 32, "ab" * 31 + "cd"):
        put_log(farm, job_id, "1795000000000-1", b"log")
    assert farm.client.get(f"/jobs/{'ab' * 32}/log").status_code == 200
    assert farm.client.get("/jobs/abababab/log").status_code == 404
    assert farm.client.get("/jobs/00000000/log").status_code == 404
    assert farm.client.get("/jobs/abab/log").status_code == 400
    assert farm.client.get("/jobs/..%2f..%2f/log").status_code in (400, 404)


def test_events_of_a_log_lead_on_from_any_byte_of_it(farm: Farm) -> None:
    job_id, run = make_job().id, "1795000000000-1"
    put_log(farm, job_id, run, b"one\ntwo", b" and a half\n\x1b[0m\n")
    whole = list(read_events(farm.client.get(f"/jobs/{job_id}/log/events").text.split("\n")))
    assert [event.name for event in whole] == ["log", "log", "end"]
    assert "".join(event.data for event in whole[:-1]) == "one\ntwo and a half\n\N{REPLACEMENT CHARACTER}[0m\n"
    for place in range(8):
        headers = {"Last-Event-ID": f"{run}-{place}"}
        text = farm.client.get(f"/jobs/{job_id}/log/events", params={"raw": "true"}, headers=headers).text
        parts = [base64.b64decode(event.data) for event in read_events(text.split("\n")) if event.name == "log"]
        assert b"".join(parts) == b"one\ntwo and a half\n\x1b[0m\n"[place:]


def test_status_tells_what_is_under_way_open_and_failed(farm: Farm) -> None:
    broken = Failure(failure_class=FailureClass.BUILD, error="build-failed", message="no header")
    spec = json.dumps(make_job().to_json())
    farm.ledger.records = {
        "aa": make_record("aa", spec=spec, state=JobState.RUNNING, worker="w1"),
        "bb": make_record("bb", spec=spec, state=JobState.FAILED, failure=json.dumps(broken.to_json())),
        "cc": make_record("cc", spec="not json"),
    }
    farm.store.put(layout.open_request("0" * 32), b"not json")
    status = FarmStatus.from_json(farm.client.get("/status").json())
    assert [(entry.job.id, entry.worker, entry.target) for entry in status.jobs] == [("aa", "w1", make_target().name)]
    assert [job.failure for job in status.failures] == [broken]
    assert status.requests == ()
    assert status.now == 1000.0


def test_cancellation_tells_what_ended(farm: Farm) -> None:
    job_id = "ab" * 32
    farm.ledger.records = {job_id: make_record(job_id, spec=json.dumps(make_job().to_json()))}
    assert [job["id"] for job in farm.client.post("/cancellations/abab").json()] == [job_id]
    assert farm.client.post("/cancellations/cdcd").status_code == 404
    assert farm.client.get("/cancellations/abab").status_code == 405


SDISTS = SOURCE.replace("/simple/", "/sdists/")


def stock(farm: Farm) -> dict[str, str]:
    """What a tool sends that makes up no id for its resolution."""
    return {"Authorization": basic("__token__", TOKEN)}


def sdist_url(farm: Farm, project: Project) -> str:
    return f"{SDISTS}app/{farm.sdist(project).sha256}/{project.filename}"


def test_sdist_is_given_from_the_mirror_with_metadata_beside_it(farm: Farm) -> None:
    answer = farm.client.get(sdist_url(farm, STATIC), headers=stock(farm))
    assert answer.content == STATIC.sdist()
    assert farm.store.get(layout.sdist(farm.sdist(STATIC).sha256)) == STATIC.sdist()
    beside = farm.client.get(sdist_url(farm, STATIC) + ".metadata", headers=stock(farm))
    assert beside.text == farm.metadata(STATIC).text
    assert beside.headers["cache-control"] == "no-cache"


def test_metadata_beside_an_sdist_is_the_newest_revision_and_the_page_tells_its_number(farm: Farm) -> None:
    sdist, revision = farm.sdist(STATIC), make_target().revision
    stated = farm.metadata(STATIC).content
    built = stated + b"Requires-Dist: b\n"
    SdistMetadata(farm.store).settle(sdist, revision, stated=stated, built=built)
    assert farm.client.get(sdist_url(farm, STATIC) + ".metadata").content == built
    assert farm.metadata(STATIC).content == stated
    files = farm.client.get(SOURCE + "app/").json()["files"]
    (virtual,) = (file["url"] for file in files if "1.0-1-py3" in file["filename"])
    assert farm.client.get(virtual + ".metadata").content == built
    assert farm.client.get(virtual.replace("1.0-1-", "1.0-2-") + ".metadata").status_code == 404


@pytest.mark.parametrize("name", ["app-2.0.tar.gz", "app-1.0.tar.gz.asc", "app-1.0.zip", "..%2fapp"])
def test_file_that_an_sdist_is_not_is_not_found(farm: Farm, name: str) -> None:
    assert farm.client.get(f"{SDISTS}app/{farm.sdist(STATIC).sha256}/{name}").status_code == 404


def test_tool_that_can_submit_nothing_has_its_metadata_computed(farm: Farm) -> None:
    first = farm.client.get(sdist_url(farm, DYNAMIC) + ".metadata", headers=stock(farm))
    again = farm.client.get(sdist_url(farm, DYNAMIC) + ".metadata", headers=stock(farm))
    assert (first.status_code, again.status_code) == (425, 425)
    (request,) = farm.requests.open_requests()
    assert len(request.id) == 64  # which no client can give a request of its own
    assert [str(sdist) for sdist in request.sdists] == ["app==2.0"]
    assert request.kind is JobKind.METADATA
    SdistMetadata(farm.store).keep_computed(farm.sdist(DYNAMIC), make_target().revision, b"Metadata-Version: 2.1\n")
    assert farm.client.get(sdist_url(farm, DYNAMIC) + ".metadata", headers=stock(farm)).status_code == 200
    assert list(farm.requests.open_requests()) == []


def test_token_that_may_only_read_has_nothing_computed(tmp_path: Path) -> None:
    reads = replace(OPERATOR, scope=Scope.READ)
    farm = Farm(tmp_path, access=cast(Access, SimpleNamespace(principal=lambda _: reads, open_jobs=lambda _: None)))
    farm.requests.register(make_target())
    answer = farm.client.get(sdist_url(farm, DYNAMIC) + ".metadata", headers=stock(farm))
    assert answer.status_code == 425
    assert list(farm.requests.open_requests()) == []


def test_resolution_with_an_id_submits_its_metadata_jobs_itself(farm: Farm) -> None:
    assert farm.metadata(DYNAMIC).status_code == 425
    assert list(farm.requests.open_requests()) == []


def test_beginning_of_a_revision_that_several_targets_have_leads_to_none(farm: Farm) -> None:
    revision = make_target().revision
    assert farm.client.get(SOURCE + "app/").status_code == 200
    farm.store.put(layout.target(make_target().name, revision[:20] + "0" * 44), b"{}")
    refused = farm.client.get(SOURCE + "app/")
    assert (refused.status_code, "2 revisions" in refused.json()["message"]) == (404, True)
    longer = SOURCE.replace(revision[:16], revision[:24])
    assert farm.client.get(longer + "app/").status_code == 200
