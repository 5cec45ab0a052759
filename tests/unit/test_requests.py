import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.ledger import FakeLedger, make_record
from tests.support.values import make_built_wheel, make_job, make_sdist, make_target
from wheelfarm.errors import InputError, NotFound
from wheelfarm.farm import RequestStatus
from wheelfarm.job import Failure, FailureClass, Job, JobKind, JobState, Sdist
from wheelfarm_services import layout
from wheelfarm_services.recipe_book import RecipeBook
from wheelfarm_services.request import Request, RequestTarget
from wheelfarm_services.requests import Requests
from wheelfarm_services.source_index import SourceIndex
from wheelfarm_services.store import DirectoryStore
from wheelfarm_services.wheel_index import Manifest, Plan, WheelIndex

ID = "0123456789abcdef" * 2
BODY: dict[str, Any] = {
    "id": ID,
    "kind": "wheel",
    "target": make_target().name,
    "target_revision": make_target().revision,
    "sdists": [asdict(make_sdist())],
}
TARGETS = (make_target("host-cp311"), replace(make_target("host-cp312", revision="c" * 64), python_version="3.12.1"))
ELSEWHERE: dict[str, Any] = {
    **{name: value for name, value in BODY.items() if not name.startswith("target")},
    "targets": [{"name": target.name, "revision": target.revision} for target in TARGETS],
}


class FakeSources:
    """A source index that lists whatever it is asked for, unless it is told to refuse."""

    def __init__(self) -> None:
        self.mirrored: list[Sdist] = []
        self.refusal: Exception | None = None

    def mirror(self, sdist: Sdist) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.mirrored.append(sdist)


class Services:
    def __init__(self, folder: Path) -> None:
        self.store = DirectoryStore.create(folder / "store")
        self.ledger = FakeLedger()
        self.sources = FakeSources()
        self.wheels = WheelIndex(self.store)
        self.requests = self.with_clients_since(0.0)
        self.requests.register(make_target())

    def with_clients_since(self, clients_since: float, farm: str = "", alive_s: float = 0.0) -> Requests:
        """Requests over the same store and ledger."""
        sources: SourceIndex = self.sources  # type: ignore[assignment]  # all that requests ask of it is `mirror`
        recipes = RecipeBook(self.store)
        return Requests(
            *(self.store, self.ledger.as_ledger, sources, self.wheels, recipes),
            clients_since=clients_since,
            farm=farm,
            alive_s=alive_s,
        )

    def commit(self, job: Job) -> Manifest:
        """Have the wheel of a job in the store."""
        wheel = make_built_wheel(job.sdist.name)
        manifest = Manifest(
            wheel=wheel,
            unstamped_sha256="0" * 64,
            metadata_sha256="1" * 64,
            requires_python="",
            target=job.target,
            provenance={},
        )
        self.wheels.record_plan(job, Plan(build_key=job.request_key, requirements=()))
        self.store.put(layout.wheel(wheel.sha256, wheel.filename), b"wheel")
        self.store.put(layout.manifest(job.request_key), manifest.to_json())
        self.store.put(layout.index_entry(manifest.target, manifest.wheel.filename), manifest.to_json())
        return manifest


@pytest.fixture
def services(tmp_path: Path) -> Services:
    return Services(tmp_path)


def test_request_is_read_off_the_wire() -> None:
    request = Request.from_json({**BODY, "force": True})
    assert request == Request(
        id=ID,
        kind=JobKind.WHEEL,
        targets=(RequestTarget(name=make_target().name, revision=make_target().revision),),
        sdists=(make_sdist(),),
        force=True,
    )
    assert Request.from_store(request.to_json()) == request


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        "text",
        {},
        {**BODY, "id": ID[1:]},
        {**BODY, "id": ID.upper()},
        {**BODY, "id": None},
        {**BODY, "kind": "image"},
        {**BODY, "kind": ["wheel"]},
        {**BODY, "kind": {}},
        {**BODY, "sdists": []},
        {**BODY, "sdists": {}},
        {**BODY, "sdists": [asdict(make_sdist())] * 5001},
        {**BODY, "sdists": ["app"]},
        {**BODY, "sdists": [None]},
        {**BODY, "targets": [{"name": "host", "revision": "0" * 64}]},
        {**ELSEWHERE, "targets": []},
        {**ELSEWHERE, "targets": {}},
        {**ELSEWHERE, "targets": ["host"]},
        {**ELSEWHERE, "targets": [{"name": "host"}]},
        {**ELSEWHERE, "targets": [{"name": "../host", "revision": "0" * 64}]},
        {**ELSEWHERE, "targets": [{"name": "host", "revision": "0" * 64}] * 2},
        {**ELSEWHERE, "target": "host"},
        {**BODY, "id": "0" * 64},
        {**BODY, "local": 3},
        {**BODY, "local": [None]},
        {**BODY, "local": None},
        {**BODY, "sdists": [{**asdict(make_sdist()), "name": "../app"}]},
    ],
)
def test_malformed_request_is_refused(body: Any) -> None:
    with pytest.raises(InputError):
        Request.from_json(body)


def test_jobs_of_a_request_are_in_the_order_of_its_sdists() -> None:
    sdists = [make_sdist(name, data=name.encode()) for name in ("b", "a", "c")]
    request = Request.from_json({**BODY, "sdists": [asdict(sdist) for sdist in sdists]})
    assert request.jobs(["host"]) == [make_job(sdist) for sdist in sdists]


def test_one_request_asks_for_several_targets(services: Services, tmp_path: Path) -> None:
    """Each of which has recipes of its own, by its Python."""
    sdists = [make_sdist(name, data=name.encode()) for name in ("b", "a")]
    for target in TARGETS:
        services.requests.register(target)
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "a.toml").write_text(
        'project = "a"\n[[recipe]]\nreason = "Why."\npython = ">=3.12"\nenvironment = { A = "1" }\n'
    )
    RecipeBook(services.store).publish(tmp_path / "recipes")
    request = Request.from_json({**ELSEWHERE, "sdists": [asdict(sdist) for sdist in sdists]})
    status = RequestStatus.from_json(services.requests.accept(request))
    jobs = [Job.from_json(json.loads(found.spec)) for found in services.ledger.submitted[ID]]
    assert [(job.target, job.sdist.name) for job in jobs] == [
        (target.name, sdist.name) for target in TARGETS for sdist in sdists
    ]
    assert status.requested == tuple(job.id for job in jobs)
    assert [bool(job.recipe) for job in jobs] == [False, False, False, True]
    again = services.requests.accept(request)
    assert again["requested"] == list(status.requested)
    assert again["targets"] == ELSEWHERE["targets"]


def test_too_many_jobs_are_refused_however_they_are_asked_for() -> None:
    with pytest.raises(InputError, match="not 2501 sdists on 2 targets"):
        Request.from_json({**ELSEWHERE, "sdists": [asdict(make_sdist())] * 2501})


def test_accepted_request_is_mirrored_kept_and_submitted(services: Services) -> None:
    status = RequestStatus.from_json(services.requests.accept(Request.from_json(BODY)))
    assert services.sources.mirrored == [make_sdist()]
    assert list(services.store.list(layout.open_requests())) == [layout.open_request(ID)]
    (submission,) = services.ledger.submitted[ID]
    assert Job.from_json(json.loads(submission.spec)) == make_job()
    assert status.requested == (make_job().id,)
    assert status.jobs[make_job().id].state is JobState.QUEUED
    assert RequestStatus.from_json(services.requests.status(ID)) == status


def test_force_is_passed_on(services: Services) -> None:
    services.requests.accept(Request.from_json({**BODY, "force": True}))
    assert services.ledger.forced == [ID]


def test_wheel_that_is_in_the_store_needs_no_job(services: Services) -> None:
    manifest = services.commit(make_job())
    status = RequestStatus.from_json(services.requests.accept(Request.from_json(BODY)))
    assert status.final
    assert status.wheels == {make_job().id: manifest.wheel}
    assert services.ledger.submitted == {}
    assert list(services.store.list(layout.open_requests())) == []


def test_wheel_whose_worker_died_before_it_stood_on_the_index_needs_its_job(services: Services) -> None:
    manifest = services.commit(make_job())
    services.store.delete(layout.index_entry(manifest.target, manifest.wheel.filename))
    services.requests.accept(Request.from_json(BODY))
    assert [job.id for jobs in services.ledger.submitted.values() for job in jobs] == [make_job().id]


@pytest.mark.parametrize("static", [True, False])
def test_metadata_that_is_in_the_store_needs_no_job(services: Services, static: bool) -> None:
    sha256 = make_sdist().sha256
    key = layout.static_metadata(sha256) if static else layout.built_metadata(sha256, make_target().revision)
    services.store.put(key, b"")
    status = RequestStatus.from_json(services.requests.accept(Request.from_json({**BODY, "kind": "metadata"})))
    assert status.final
    assert services.ledger.submitted == {}


def test_sdist_that_the_index_does_not_list_leaves_nothing_behind(services: Services) -> None:
    services.sources.refusal = InputError("not listed")
    with pytest.raises(InputError):
        services.requests.accept(Request.from_json(BODY))
    assert list(services.store.list(layout.open_requests())) == []
    assert services.ledger.submitted == {}


@pytest.mark.parametrize("change", [{"target": "unknown"}, {"target_revision": "f" * 64}])
def test_unknown_target_is_refused(services: Services, change: dict[str, str]) -> None:
    with pytest.raises(InputError, match="no target"):
        services.requests.accept(Request.from_json({**BODY, **change}))
    assert services.sources.mirrored == []


@pytest.mark.parametrize("request_id", [ID, "../../targets/x", ""])
def test_request_that_is_not_open_is_not_found(services: Services, request_id: str) -> None:
    with pytest.raises(NotFound):
        services.requests.status(request_id)


def test_closed_request_is_cancelled_and_forgotten(services: Services) -> None:
    services.requests.accept(Request.from_json(BODY))
    services.requests.close(ID)
    services.requests.close(ID)
    assert services.ledger.cancelled == [ID, ID]
    assert list(services.store.list(layout.open_requests())) == []
    with pytest.raises(NotFound):
        services.requests.close("../x")


def test_expired_requests_are_given_up_and_others_stay(services: Services) -> None:
    other = "f" * 32
    for request_id in (ID, other):
        services.requests.accept(Request.from_json({**BODY, "id": request_id}))
    assert services.requests.close_expired() == 0

    services.ledger.expired_requests = [ID]
    assert services.requests.close_expired() == 1
    assert services.ledger.cancelled == [ID]
    assert [request.id for request in services.requests.open_requests()] == [other]


def test_request_that_expired_after_its_client_closed_it_is_taken_out_all_the_same(services: Services) -> None:
    services.ledger.expired_requests = [ID]
    assert services.requests.close_expired() == 1
    assert services.ledger.cancelled == [ID]


@pytest.mark.parametrize(("detached", "alive_s"), [(False, 900.0), (True, 0.0)])
def test_request_lives_while_it_is_asked_about_and_a_detached_one_anyway(
    services: Services, detached: bool, alive_s: float
) -> None:
    requests = services.with_clients_since(0.0, alive_s=900.0)
    requests.accept(replace(Request.from_json(BODY), detached=detached))
    assert services.ledger.alive == {ID: alive_s}
    requests.status(ID)
    assert services.ledger.kept[ID] == 900.0


def test_cancelled_request_looks_cancelled_to_its_client_until_that_closes_it(services: Services) -> None:
    services.requests.accept(Request.from_json(BODY))
    ended = services.requests.cancel(ID[:8])
    assert [job.id for job in ended] == [make_job().id]
    assert services.ledger.cancelled == [ID]
    status = RequestStatus.from_json(services.requests.status(ID))
    assert status.final
    (job,) = status.failed
    assert job.failure is not None
    assert (job.failure.error, job.failure.message) == ("cancelled", "The build of app==1.0 was cancelled.")
    services.requests.close(ID)
    assert list(services.requests.open_requests()) == []


def test_cancelled_request_that_nobody_closed_is_not_resubmitted_but_forgotten(services: Services) -> None:
    services.requests.accept(Request.from_json(BODY))
    services.requests.cancel(ID)
    services.ledger.submitted.clear()
    assert services.requests.resubmit() == 0
    assert services.ledger.submitted == {}
    assert list(services.requests.open_requests()) == []


@pytest.mark.parametrize(("clients_since", "resubmitted"), [(999.0, 1), (1001.0, 0)])
def test_request_whose_client_is_known_to_be_gone_is_forgotten(
    services: Services, clients_since: float, resubmitted: int
) -> None:
    services.requests.accept(Request.from_json(BODY))
    services.ledger.submitted.clear()
    assert services.with_clients_since(clients_since).resubmit() == resubmitted
    assert len(list(services.requests.open_requests())) == resubmitted


def test_client_cannot_submit_a_request_as_cancelled(services: Services) -> None:
    assert not Request.from_json({**BODY, "cancelled": True}).cancelled


def test_job_is_cancelled_by_the_beginning_of_its_id(services: Services) -> None:
    services.ledger.records = {"cd" * 32: make_record("cd" * 32, spec=json.dumps(make_job().to_json()))}
    assert [job.id for job in services.requests.cancel("cdcd")] == ["cd" * 32]


@pytest.mark.parametrize(("name", "said"), [("abab", "Several"), ("ffff", "No open request"), ("abababcc", "is over")])
def test_what_is_not_one_thing_under_way_cannot_be_cancelled(services: Services, name: str, said: str) -> None:
    spec = json.dumps(make_job().to_json())
    services.ledger.records = {
        "abababcc": make_record("abababcc", spec=spec, state=JobState.DONE),
        "ababdd": make_record("ababdd", spec=spec),
    }
    with pytest.raises(NotFound, match=said):
        services.requests.cancel(name)


def test_job_that_redis_forgot_counts_as_queued(services: Services) -> None:
    services.requests.accept(Request.from_json(BODY))
    services.ledger.records.clear()
    status = RequestStatus.from_json(services.requests.status(ID))
    assert status.jobs[make_job().id].state is JobState.QUEUED


def test_priority_of_a_request_that_is_cancelled_or_left_meanwhile_brings_nothing_back(services: Services) -> None:
    requests, replace_now = services.requests, services.store.replace
    requests.accept(Request.from_json(BODY))

    def cancelled_before(key: str, data: bytes, etag: str | None) -> bool:
        services.store.replace = replace_now  # type: ignore[method-assign]
        requests.cancel(ID)
        return replace_now(key, data, etag)

    services.store.replace = cancelled_before  # type: ignore[method-assign]
    requests.prioritise(ID, 1)
    (kept,) = requests.open_requests()
    assert (kept.cancelled, kept.priority) == (True, 1)
    requests.close(ID)
    with pytest.raises(NotFound, match="no open request"):
        requests.prioritise(ID, 2)
    assert list(requests.open_requests()) == []


def test_only_requests_that_redis_forgot_are_resubmitted(services: Services) -> None:
    services.requests.accept(Request.from_json(BODY))
    assert services.requests.resubmit() == 0
    services.ledger.submitted.clear()
    assert services.requests.resubmit() == 1
    assert [job.id for job in services.ledger.submitted[ID]] == [make_job().id]


def test_requests_of_another_machines_embedded_farm_are_left_to_it(services: Services) -> None:
    services.with_clients_since(0.0, "there").accept(Request.from_json(BODY))
    services.ledger.submitted.clear()
    assert services.with_clients_since(9999.0, "here").resubmit() == 0
    assert list(services.store.list(layout.open_requests())) == [layout.open_request(ID)]
    assert services.with_clients_since(0.0, "there").resubmit() == 1


def test_detached_request_is_kept_for_its_client_though_everything_was_there(services: Services) -> None:
    services.commit(make_job())
    services.requests.accept(Request.from_json(BODY))
    assert list(services.requests.open_requests()) == []
    services.requests.accept(Request.from_json({**BODY, "detached": True}))
    assert [request.detached for request in services.requests.open_requests()] == [True]
    services.ledger.submitted.clear()
    assert [services.requests.resubmit() for _ in range(2)] == [0, 0]
    assert RequestStatus.from_json(services.requests.status(ID)).final
    services.requests.close(ID)
    assert list(services.requests.open_requests()) == []


def test_request_whose_wheels_are_finished_is_not_counted_as_resubmitted(services: Services) -> None:
    services.requests.accept(Request.from_json(BODY))
    services.ledger.submitted.clear()
    services.commit(make_job())
    assert services.requests.resubmit() == 0


@pytest.mark.parametrize("poison", [b"", b"not json", b"[]", json.dumps({**BODY, "target": "unknown"}).encode()])
def test_request_that_cannot_be_read_does_not_keep_others_from_being_resubmitted(
    services: Services, poison: bytes
) -> None:
    services.requests.accept(Request.from_json(BODY))
    services.ledger.submitted.clear()
    services.store.put(layout.open_request("0" * 32), poison)
    assert services.requests.resubmit() == 1


def failure(**fields: Any) -> str:
    value = Failure(failure_class=FailureClass.BUILD, error="build-failed", message="no header", log_tail="tail")
    return json.dumps(replace(value, **fields).to_json())


def record(name: str, **fields: Any) -> Any:
    job = make_job(make_sdist(name, data=name.encode()))
    return make_record(job.id, spec=json.dumps(job.to_json()), **fields)


def test_failure_of_a_job_is_its_own(services: Services) -> None:
    found = services.requests.job_status(record("app", state=JobState.FAILED, failure=failure()))
    assert found.failure is not None
    assert (found.failure.failure_class, found.failure.message) == (FailureClass.BUILD, "no header")


def test_failure_of_a_dependency_is_told_with_the_job_that_really_failed(services: Services) -> None:
    root = record("tool", state=JobState.FAILED, failure=failure())
    services.ledger.records[root.id] = root
    found = services.requests.job_status(record("app", state=JobState.FAILED, cause=root.id))
    assert found.failure is not None
    assert found.failure.failure_class is FailureClass.DEPENDENCY
    assert (found.failure.cause, found.failure.log_tail) == (root.id, "tail")


@pytest.mark.parametrize("cause", ["", "0" * 64])
def test_failure_whose_reason_was_lost_says_so(services: Services, cause: str) -> None:
    found = services.requests.job_status(record("app", state=JobState.FAILED, cause=cause))
    assert found.failure is not None
    assert found.failure.failure_class is FailureClass.INFRASTRUCTURE
    assert "lost the reason" in found.failure.message


def test_cancelled_job_failed_by_being_cancelled_and_others_did_not_fail(services: Services) -> None:
    cancelled = services.requests.job_status(record("app", state=JobState.CANCELLED)).failure
    assert cancelled is not None
    assert cancelled.failure_class is FailureClass.CANCELLED
    for state in (JobState.WAITING, JobState.QUEUED, JobState.RUNNING, JobState.DONE):
        assert services.requests.job_status(record("app", state=state, failure=failure())).failure is None


def test_job_is_found_by_the_beginning_of_its_id_where_it_is_the_only_one(services: Services) -> None:
    one, other = record("app"), record("tool")
    services.ledger.records = {one.id: one, other.id: other}
    assert services.requests.job(one.id[:12]).sdist.name == "app"
    services.ledger.records[one.id[:12] + "0" * 52] = one
    for prefix, said in (
        (one.id[:12], "Several jobs begin"),
        ("0" * 8, "No job"),
        ("abc", "No job"),
        ("../x", "No job"),
    ):
        with pytest.raises(NotFound, match=said):
            services.requests.job(prefix)
