"""The OpenAPI document, held against the API: by Schemathesis, and by one good answer of each operation."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import positive_data_acceptance

from tests.support.ledger import make_record
from tests.support.projects import Project
from tests.support.values import make_built_wheel, make_job, make_sdist, make_target
from tests.support.wheels import METADATA, wheel_bytes
from tests.unit.test_api import RESOLUTION, STATIC, TOKEN, Farm, put_log, submit
from tests.unit.test_interpreter_routes import python_archive
from wheelfarm.job import JobState
from wheelfarm.resolution import source_index_path
from wheelfarm_services import layout
from wheelfarm_services.recipe_book import RecipeBook
from wheelfarm_services.wheel_index import Manifest, WheelIndex
from wheelfarm_services.wheel_index.negotiation import SIMPLE_HTML
from wheelfarm_services.wheel_index.page import SIMPLE_JSON

HEADERS = {"Authorization": f"Bearer {TOKEN}"}
CONTENT_DECIDES = {
    "registerTarget",
    "submitRequest",
    "mirrorSdists",
    "sendLocal",
    "seeLocal",
    "forecasts",
    "explanation",
    "collectGarbage",
    "changeIndex",
    "keepPython",
    "sendWheel",
    "enlistWheel",
}
"""What is well-formed is refused all the same where a digest, a target or a requirement in it is not what it says."""


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[Farm]:
    farm = Farm(tmp_path)
    with farm.client:
        farm.requests.register(make_target())
        yield farm


def described(farm: Farm) -> Any:
    return schemathesis.openapi.from_asgi("/openapi.json", farm.app, headers=HEADERS)


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=lambda mode: mode.name.lower())
def test_schemathesis_finds_nothing(farm: Farm, mode: GenerationMode) -> None:
    found = [result.ok() for result in described(farm).get_all_operations()]
    assert len(found) > 20
    for operation in found:
        _examine(operation, mode)


def _examine(operation: Any, mode: GenerationMode) -> None:
    excluded = [positive_data_acceptance] if operation.definition.raw["operationId"] in CONTENT_DECIDES else []

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=12,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def examine(case: Any) -> None:
        case.call_and_validate(headers=HEADERS, excluded_checks=excluded)

    try:
        examine()
    except Unsatisfiable:  # it has no parameters that could be wrong
        assert mode is GenerationMode.NEGATIVE


def test_each_operation_answers_well_as_the_document_tells(farm: Farm) -> None:
    document = described(farm)
    known = {operation.definition.raw["operationId"]: operation for operation in _operations(document)}
    answered = set()
    for name, answer in _good_answers(farm):
        assert answer.is_success or answer.status_code in (301, 304), (name, answer.text)
        answer.elapsed = timedelta()  # which nobody measured, and Schemathesis reads
        known[name].validate_response(answer)
        answered.add(name)
    assert answered == set(known)


def _operations(document: Any) -> list[Any]:
    return [result.ok() for result in document.get_all_operations()]


def _good_answers(farm: Farm) -> Iterator[tuple[str, httpx.Response]]:
    """An operation's name and what it answers, for all of them."""
    target, job, client = make_target(), make_job(), farm.client
    sdist, built = farm.sdist(STATIC), _built(farm)
    put_log(farm, job.id, "1795000000000-1", b"log")
    farm.ledger.records[job.id] = make_record(job.id, spec=json.dumps(job.to_json()), state=JobState.RUNNING)
    yield "health", client.get("/healthz")
    yield "readiness", client.get("/readyz")
    yield "metrics", client.get("/metrics")
    yield "registerTarget", client.put(f"/targets/{target.name}/{target.revision}", json=target.to_json())
    yield "listTargets", client.get("/targets")
    yield "submitRequest", submit(farm)
    yield "changeRequest", client.patch(f"/requests/{RESOLUTION}", json={"priority": 1})
    yield "requestStatus", client.get(f"/requests/{RESOLUTION}")
    yield "status", client.get("/status")
    for job_id, record in list(farm.ledger.records.items()):
        farm.ledger.records[job_id] = replace(record, state=JobState.DONE)
    yield "requestEvents", client.get(f"/requests/{RESOLUTION}/events")
    yield "cancel", client.post(f"/cancellations/{RESOLUTION}")
    yield "closeRequest", client.delete(f"/requests/{RESOLUTION}")
    yield "job", client.get(f"/jobs/{job.id[:12]}")
    yield "jobLog", client.get(f"/jobs/{job.id[:12]}/log")
    farm.ledger.records[job.id] = make_record(job.id, spec=json.dumps(job.to_json()), state=JobState.DONE)
    yield "jobLogEvents", client.get(f"/jobs/{job.id[:12]}/log/events")
    yield "wheel", client.get(f"/wheels/{built.wheel.sha256}/{built.wheel.filename}")
    for name, path in (
        ("flatPage", "flat/{}/"),
        ("projectList", "simple/{}/"),
        ("projectPage", "simple/{}/app/"),
        ("combinedProjectList", "combined/{}/"),
        ("combinedProjectPage", "combined/{}/app/"),
    ):
        for media_type in (SIMPLE_JSON, SIMPLE_HTML, "text/html"):
            answer = client.get(path.format(target.name), headers={"Accept": media_type})
            assert answer.headers["content-type"].startswith(media_type)
            yield name, answer
        yield name, client.get(path.format(target.name), params={"format": SIMPLE_JSON})
    moved = client.get(f"simple/{target.name}/App/", follow_redirects=False)
    assert moved.headers["location"] == "../app/"
    yield "projectPage", moved
    yield "combinedProjectPage", client.get(f"combined/{target.name}/App/", follow_redirects=False)
    yield "changeIndex", client.post("/index/app", json={"action": "unyank", "version": "1.0", "reason": "fine"})
    yield "explanation", client.get(f"/explanations/{target.name}", params={"requirement": "app"})
    yield "export", client.get(f"/exports/{target.name}", params={"projects": "app", "build_requirements": "true"})
    place = f"/imports/{built.wheel.sha256}/{built.wheel.filename}"
    farm.store.put(layout.manifest("2" * 64), built.to_json())
    yield "sendWheel", client.put(place, content=wheel_bytes())
    yield "enlistWheel", client.post(place, json=asdict(built))
    RecipeBook(farm.store).publish(None)
    yield "recipes", client.get("/recipes")
    yield "recipe", client.get("/recipes/numpy")
    yield "policy", client.get("/policy")
    for view, name in (("default", ""), ("estimate", "Estimate")):
        page = source_index_path(target, estimate=view == "estimate") + "app/"
        below = page.removesuffix("simple/app/")
        answer = client.get(page)
        yield f"sourcePage{name}", answer
        yield f"sourcePage{name}", client.get(page, headers={"If-None-Match": answer.headers["etag"]})
        yield f"sourcePage{name}", client.get(page, headers={"Accept": "text/html"})
        metadata = "app-1.0-0-py3-none-any.whl.metadata"
        yield f"virtualMetadata{name}", client.get(f"{below}virtual/app/{sdist.sha256}/{metadata}")
        yield f"sourceSdist{name}", client.get(f"{below}sdists/app/{sdist.sha256}/{sdist.filename}")
    yield "resolutionAccount", client.get(f"/resolutions/{RESOLUTION}")
    yield "mirrorSdists", client.post("/sdists", json=[asdict(sdist)])
    data = Project(name="mine").sdist()
    path = f"/local/{hashlib.sha256(data).hexdigest()}"
    answer = client.put(path, content=data, params={"filename": "mine-1.0.tar.gz"})
    yield "sendLocal", answer
    yield "seeLocal", client.put(f"/resolutions/{RESOLUTION}/local", json=[answer.json()["sdist"]])
    data, build = python_archive(), "/pythons/20261120/"
    told = {"sha256": hashlib.sha256(data).hexdigest(), "key": "cpython-3.12.1-linux-x86_64-gnu"}
    yield "keepPython", client.put(f"{build}x.tar.gz", content=data, params=told)
    yield "pythons", client.get("/pythons")
    for path, name in (("/pythons/downloads.json", ""), (f"{build}downloads.json", "OfBuild")):
        answer = client.get(path)
        yield f"pythonDownloads{name}", answer
        yield f"pythonDownloads{name}", client.get(path, headers={"If-None-Match": answer.headers["etag"]})
    yield "pythonArchive", client.get(f"{build}x.tar.gz")
    yield "removePython", client.delete(f"{build}x.tar.gz")
    asked = {"target": target.name, "target_revision": target.revision, "sdists": [asdict(sdist)]}
    yield "collectGarbage", client.post("/garbage", json={"dry_run": True})
    yield "forecasts", client.post("/forecasts", json=asked)


def _built(farm: Farm) -> Manifest:
    """A wheel on the target's index."""
    data = wheel_bytes()
    wheel = make_built_wheel(data=data)
    manifest = Manifest(
        wheel=wheel,
        unstamped_sha256="0" * 64,
        metadata_sha256=hashlib.sha256(METADATA).hexdigest(),
        requires_python="",
        target=make_target().name,
        provenance={
            "job": make_job(make_sdist()).to_json(),
            "plan": {"build_key": "2" * 64, "requirements": []},
            "target": make_target().to_json(),
        },
    )
    farm.store.put(layout.wheel(wheel.sha256, wheel.filename), data)
    WheelIndex(farm.store).enlist(manifest)
    return manifest
