"""Metrics: what is told of the ledger, what a process observes itself, and the port where it is told."""

import logging
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from tests.deployment.test_monitoring import ledger_metrics
from tests.support.values import make_worker_record
from wheelfarm.errors import FarmUnavailable, InputError, UpstreamError
from wheelfarm_services.fleet import Fleet
from wheelfarm_services.ledger import Ledger
from wheelfarm_services.metrics import REGISTRY, LedgerMetrics, exposition, measured_store, phase, target_of
from wheelfarm_services.metrics_server import metrics_told
from wheelfarm_services.store import DirectoryStore
from wheelfarm_services.upstreams.http_index import HttpIndex
from wheelfarm_services.upstreams.settings import UpstreamSettings


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def lines() -> list[str]:
    return exposition(ledger_metrics()).decode().splitlines()


def test_revisions_of_a_target_are_told_together() -> None:
    told = lines()
    assert 'wheelfarm_jobs{state="queued",target="host"} 2.0' in told
    assert 'wheelfarm_jobs_ended_total{state="failed",target="host"} 2.0' in told
    assert 'wheelfarm_oldest_queued_seconds{target="host"} 7.0' in told
    assert 'wheelfarm_workers{state="serves",target="host"} 1.0' in told
    assert f'wheelfarm_slots{{target="host"}} {make_worker_record().slots}.0' in told
    assert "wheelfarm_broker_up 1.0" in told


def test_queue_without_a_revision_is_its_own_target() -> None:
    assert [target_of(name) for name in ("host", "host-cp311.0123456789abcdef", "a.b")] == ["host", "host-cp311", "a.b"]


def test_without_redis_that_alone_is_told_of_the_ledger() -> None:
    class Gone:
        def counts(self) -> Any:
            raise FarmUnavailable("gone")

    told = exposition(LedgerMetrics(cast(Ledger, Gone()), cast(Fleet, None))).decode()
    assert "wheelfarm_broker_up 0.0" in told
    assert "wheelfarm_jobs" not in told
    assert "wheelfarm_build_info" in told


def test_store_is_observed_by_operation_and_outcome(tmp_path: Path) -> None:
    store = measured_store(DirectoryStore.create(tmp_path / "store"))
    names = {"operation": "put", "outcome": "ok"}
    before = value("wheelfarm_store_seconds_count", **names)
    store.put("a/b", b"data")
    assert value("wheelfarm_store_seconds_count", **names) == before + 1
    assert list(store.list("a/")) == ["a/b"]

    failed = {"operation": "get", "outcome": "error"}
    before = value("wheelfarm_store_seconds_count", **failed)
    with pytest.raises(Exception, match="key"):
        store.get("../up")
    assert value("wheelfarm_store_seconds_count", **failed) == before + 1


def test_phase_is_observed_when_it_fails_too() -> None:
    before = value("wheelfarm_phase_seconds_count", phase="check")
    with pytest.raises(ZeroDivisionError), phase("check"):
        raise ZeroDivisionError
    assert value("wheelfarm_phase_seconds_count", phase="check") == before + 1


def test_metrics_are_told_at_an_address_until_its_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with httpx.Client(trust_env=False) as client:
        with metrics_told("127.0.0.1:0", ledger_metrics()) as address:
            metrics, health, other = (client.get(f"http://{address}{path}") for path in ("/metrics", "/healthz", "/"))
        with pytest.raises(httpx.ConnectError):
            client.get(f"http://{address}/metrics")
    assert (metrics.status_code, health.status_code, other.status_code) == (200, 200, 404)
    assert 'wheelfarm_jobs{state="running",target="host"} 2.0' in metrics.text
    assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert [record.message for record in caplog.records if "metrics" in record.name] == ["metrics told"]


def test_without_an_address_nothing_is_told() -> None:
    with metrics_told("") as address:
        assert address == ""


def test_address_that_is_taken_is_refused() -> None:
    with metrics_told("127.0.0.1:0") as address:
        with pytest.raises(InputError, match="Metrics can't be told") as refused, metrics_told(address):
            pass
        assert "WHEELFARM_METRICS" in refused.value.hint


def test_upstreams_are_observed_by_name_and_outcome() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/away/"):
            raise httpx.ConnectError("away", request=request)
        return httpx.Response(404)

    settings = UpstreamSettings(name="observed", url="https://index.example/simple", retries=0)
    index = HttpIndex(settings, transport=httpx.MockTransport(answer), inside=lambda _: False)
    assert index.page("absent").page is None
    with pytest.raises(UpstreamError):
        index.page("away")
    for outcome in ("4xx", "error"):
        assert value("wheelfarm_upstream_seconds_count", upstream="observed", outcome=outcome) == 1
