"""One trace through the command, the API and a worker, as a collector receives it."""

import pytest

from tests.acceptance.conftest import Home
from tests.support.collector import Collector, Received, collecting
from tests.support.fleet import TOKEN, separate_farm
from tests.support.projects import Project

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
PHASES = ("wait", "stage", "plan", "environment", "build", "check", "finish", "publish")


def test_one_trace_follows_a_request_through_client_api_and_worker(home: Home) -> None:
    pytest.importorskip("opentelemetry.sdk", reason="pip install 'wheelfarm[traces]'")
    home.upstream.add(Project(name="helper"), Project(name="app", build_requires=["helper"]))
    folder = home.root / "farm"
    folder.mkdir()
    with collecting() as collector:
        with separate_farm(folder, home.upstream.url, **collector.environment) as farm:
            farm.start_broker()
            farm.start_services()
            farm.serve("w1", "--slots", "1", settings={"WHEELFARM_LOG_FORMAT": "json"})
            home.settings |= farm.client
            done = home.run("build", "app", environment={**collector.environment, "TRACEPARENT": PARENT})
            assert done.code == 0, done.err + farm.logs()
        assert f'"trace": "{PARENT[3:35]}"' in farm.parts["w1"].said
    _follows(collector)
    assert not [body for body in collector.bodies if TOKEN.encode() in body]


def _follows(collector: Collector) -> None:
    spans = {one.id: one for one in collector.spans if one.trace == PARENT[3:35]}
    assert {one.service for one in spans.values()} == {"wheelfarm-client", "wheelfarm-api", "wheelfarm-worker"}
    (root,) = (one for one in spans.values() if one.parent == PARENT[36:52])
    assert root.name == "wheelfarm build"
    for one in spans.values():
        assert one is root or one.parent in spans, one

    def ancestors(one: Received) -> list[str]:
        names = []
        while one is not root:
            one = spans[one.parent]
            names.append(f"{one.service.removeprefix('wheelfarm-')}: {one.name}")
        return names

    asked = ["api: submitRequest", "client: build", "client: wheelfarm build"]
    jobs = {one.id: one for one in spans.values() if one.name == "job"}
    by_outcome = {(one.facts["wheelfarm.sdist"], one.facts["wheelfarm.outcome"]): one for one in jobs.values()}
    assert set(by_outcome) == {("app==1.0", "suspended"), ("helper==1.0", "done"), ("app==1.0", "done")}
    app, helper = by_outcome["app==1.0", "done"], by_outcome["helper==1.0", "done"]
    assert ancestors(app) == ancestors(by_outcome["app==1.0", "suspended"]) == asked
    assert ancestors(helper) == ["worker: plan", "worker: job", *asked]
    assert {one.name for one in spans.values() if one.parent == app.id} >= set(PHASES)
    wait = next(one for one in spans.values() if one.name == "wait" and one.parent == app.id)
    assert app.began == wait.began <= wait.ended <= app.ended
