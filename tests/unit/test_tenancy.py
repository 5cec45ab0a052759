from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import httpx
import pytest

from tests.support.ledger import make_record
from tests.support.projects import Project
from tests.support.values import make_built_wheel, make_job, make_sdist, make_target
from tests.unit.test_api import RESOLUTION, STATIC, put_log, submit
from tests.unit.test_auth import TokenFarm
from tests.unit.test_local_sources import digest
from wheelfarm.job import JobState
from wheelfarm.token_file import Scope
from wheelfarm_services import layout
from wheelfarm_services.store import DirectoryStore
from wheelfarm_services.tenancy import Tenancy, Thing
from wheelfarm_services.wheel_index import Manifest, Plan, WheelIndex

TARGET = make_target()
REQUEST = f"/requests/{RESOLUTION}"


class TenantFarm(TokenFarm):
    """A farm with two tenants."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.mine = self.add("mine", Scope.BUILD, tenant="team-a")
        self.other = self.add("other", Scope.BUILD, tenant="team-b")
        self.job = make_job(self.sdist(STATIC))

    def build(self) -> Manifest:
        """Have the job of the first request done and its wheel on the index."""
        wheel = make_built_wheel()
        manifest = Manifest(
            wheel=wheel,
            unstamped_sha256="0" * 64,
            metadata_sha256="1" * 64,
            requires_python="",
            target=TARGET.name,
            provenance={
                "job": self.job.to_json(),
                "plan": {"build_key": "2" * 64, "requirements": []},
                "target": TARGET.to_json(),
            },
        )
        path = self.store.root.parent / "built.whl"
        path.write_bytes(b"wheel")
        index = WheelIndex(self.store)
        index.record_plan(self.job, Plan(build_key="2" * 64, requirements=()))
        index.publish("2" * 64, manifest, path, b"")
        spec = self.ledger.records[self.job.id].spec
        self.ledger.records[self.job.id] = make_record(self.job.id, spec=spec, state=JobState.DONE)
        put_log(self, self.job.id, "1795000000000-1", b"printed")
        return manifest


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[TenantFarm]:
    farm = TenantFarm(tmp_path)
    with farm.client:
        farm.requests.register(TARGET)
        yield farm


def codes(client: httpx.Client, *paths: str) -> list[int]:
    return [client.get(path).status_code for path in paths]


def test_request_of_another_tenant_does_not_exist(farm: TenantFarm) -> None:
    submit(farm, client=farm.mine)
    assert codes(farm.other, REQUEST, f"/jobs/{farm.job.id}") == [404, 404]
    assert farm.other.delete(REQUEST).status_code == 404
    assert farm.other.patch(REQUEST, json={"priority": 9}).status_code == 404
    assert farm.other.post(f"/cancellations/{RESOLUTION}").status_code == 404
    assert farm.ledger.cancelled == []
    status = farm.other.get("/status").json()
    assert (status["jobs"], status["requests"]) == ([], [])
    assert codes(farm.mine, REQUEST, f"/jobs/{farm.job.id}") == [200, 200]
    assert len(farm.mine.get("/status").json()["requests"]) == 1
    assert len(farm.client.get("/status").json()["jobs"]) == 1


def test_request_of_nobodys_does_not_exist_for_a_tenant(farm: TenantFarm) -> None:
    submit(farm, client=farm.client)
    assert codes(farm.other, REQUEST, f"{REQUEST}/events") == [404, 404]
    assert farm.other.patch(REQUEST, json={"priority": 9}).status_code == 404
    assert farm.other.delete(REQUEST).status_code == 404
    assert farm.ledger.cancelled == []
    assert codes(farm.client, REQUEST) == [200]
    assert farm.client.delete(REQUEST).status_code == 204
    assert farm.other.delete(REQUEST).status_code == 204  # what is closed may be closed again


def test_wheel_is_shared_and_seen_by_a_tenant_once_its_own_request_led_to_it(farm: TenantFarm) -> None:
    submit(farm, client=farm.mine)
    built = farm.build()
    assert list(farm.mine.get(REQUEST).json()["wheels"]) == [farm.job.id]
    wheel = f"/wheels/{built.wheel.sha256}/{built.wheel.filename}"
    explanation = f"/explanations/{TARGET.name}?requirement=app"
    paths = [wheel, f"{wheel}.metadata", f"/jobs/{farm.job.id}/log", f"/jobs/{farm.job.id}/log/events", explanation]
    assert codes(farm.mine, *paths) == [200] * 5
    assert codes(farm.other, *paths) == [404] * 5
    page = f"/flat/{TARGET.name}/"
    assert built.wheel.filename in farm.mine.get(page).text
    assert built.wheel.filename not in farm.other.get(page).text
    asked = {"target": TARGET.name, "target_revision": TARGET.revision, "sdists": [asdict(farm.sdist(STATIC))]}
    forecasts = [client.post("/forecasts", json=asked).json()[0]["wheel"] for client in (farm.mine, farm.other)]
    assert [forecast is None for forecast in forecasts] == [False, True]

    answer = submit(farm, client=farm.other, id="cd" * 16)
    assert list(answer.json()["wheels"]) == [farm.job.id]
    assert codes(farm.other, *paths) == [200] * 5
    assert farm.other.get(page).text == farm.mine.get(page).text
    assert len(farm.ledger.submitted) == 1


def test_token_without_a_tenant_and_an_admin_see_every_tenant(farm: TenantFarm) -> None:
    submit(farm, client=farm.mine)
    built = farm.build()
    for client in (farm.add("reader"), farm.add("root", Scope.ADMIN, tenant="team-b"), farm.client):
        assert codes(client, REQUEST, f"/wheels/{built.wheel.sha256}/{built.wheel.filename}") == [200, 200]


def test_local_source_is_for_the_tenant_that_sent_it_alone(farm: TenantFarm) -> None:
    data = Project(name="secret").sdist()
    path, query = f"/local/{digest(data)}", {"filename": "secret-1.0.tar.gz"}
    sdist = farm.mine.put(path, content=data, params=query).json()["sdist"]
    see = f"/resolutions/{RESOLUTION}/local"
    request = {"sdists": [sdist], "local": [sdist["sha256"]]}
    assert farm.other.put(see, json=[sdist]).status_code == 400
    refused, unknown = (
        submit(farm, client=farm.other, sdists=[one], local=[one["sha256"]])
        for one in (sdist, asdict(make_sdist("secret", data=b"x")))
    )
    assert refused.status_code == unknown.status_code == 400
    assert refused.json()["hint"] == unknown.json()["hint"]
    assert farm.mine.put(see, json=[sdist]).status_code == 204
    assert submit(farm, client=farm.mine, **request).status_code == 202
    assert farm.other.put(path, content=data, params=query).status_code == 200
    assert submit(farm, client=farm.other, id="cd" * 16, **request).status_code == 202


def test_id_that_is_taken_by_another_question_or_tenant_is_a_conflict(farm: TenantFarm) -> None:
    assert submit(farm, client=farm.mine).status_code == 202
    assert submit(farm, client=farm.mine).status_code == 202
    assert submit(farm, client=farm.mine, kind="metadata").status_code == 409
    assert submit(farm, client=farm.other).status_code == 409
    assert farm.mine.get(REQUEST).status_code == 200


def test_tenant_has_no_more_open_jobs_than_it_may(farm: TenantFarm) -> None:
    farm.tenants["team-a"] = 1
    farm.write()
    assert submit(farm, client=farm.mine).status_code == 202
    refused = submit(farm, client=farm.mine, id="cd" * 16, kind="metadata", force=True)
    assert refused.status_code in (202, 429)
    dynamic = {"sdists": [asdict(farm.sdist(Project(name="app", version="2.0", static=False)))]}
    refused = submit(farm, client=farm.mine, id="ef" * 16, **dynamic)
    assert (refused.status_code, refused.json()["error"]) == (429, "too-many-requests")
    assert int(refused.headers["retry-after"]) > 0
    assert farm.mine.get(f"/requests/{'ef' * 16}").status_code == 404
    assert submit(farm, client=farm.mine).status_code == 202
    assert submit(farm, client=farm.other, id="01" * 16, **dynamic).status_code == 202
    farm.build()
    assert submit(farm, client=farm.mine, id="ef" * 16, **dynamic).status_code == 202


def test_only_an_admin_puts_a_request_before_the_others_or_ends_a_job_of_anybody(farm: TenantFarm) -> None:
    assert submit(farm, client=farm.mine, priority=4).status_code == 403
    assert submit(farm, client=farm.mine, priority=50).status_code == 202
    assert farm.ledger.priorities[RESOLUTION] == 50
    assert farm.mine.patch(REQUEST, json={"priority": 5}).status_code == 200
    assert farm.ledger.priorities[RESOLUTION] == 5
    assert farm.mine.patch(REQUEST, json={"priority": 0}).status_code == 403
    assert farm.client.patch(REQUEST, json={"priority": 0}).status_code == 200
    assert [farm.mine.patch(REQUEST, json={"priority": wrong}).status_code for wrong in (-1, 100, "1", None)] == [
        400
    ] * 4
    assert farm.mine.post(f"/cancellations/{farm.job.id[:12]}").status_code == 404
    assert farm.mine.post(f"/cancellations/{RESOLUTION}").status_code == 200


def test_resolutions_of_two_tenants_have_nothing_in_common(farm: TenantFarm) -> None:
    data = Project(name="secret").sdist()
    sdist = farm.mine.put(f"/local/{digest(data)}", content=data, params={"filename": "secret-1.0.tar.gz"}).json()
    assert farm.mine.put(f"/resolutions/{RESOLUTION}/local", json=[sdist["sdist"]]).status_code == 204
    assert list(farm.accounts.seen) == [(f"team-a:{RESOLUTION}", "secret")]


def test_note_that_was_collected_is_made_again_within_the_hour(tmp_path: Path) -> None:
    store, now = DirectoryStore.create(tmp_path / "store"), [0.0]
    tenancy = Tenancy(store, clock=lambda: now[0])
    for moment, there in ((0.0, 1), (3599.0, 0), (3601.0, 1)):
        now[0] = moment
        tenancy.grant("team", Thing.WHEEL, ["0" * 64])
        assert len(list(store.list("tenants/"))) == there
        store.delete(layout.grant("team", Thing.WHEEL, "0" * 64))
