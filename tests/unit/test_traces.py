"""Traces: off nothing is imported, on they are sent, and nobody suffers from a collector that is away."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping

import pytest

from tests.support.collector import Collector, collecting
from tests.support.fleet import free_port
from wheelfarm.traces import are_wanted, span, trace_id, traceparent, tracing

AT = "OTEL_EXPORTER_OTLP_ENDPOINT"
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """A collector, which OpenTelemetry's own reading of the environment leads to."""
    pytest.importorskip("opentelemetry.sdk", reason="pip install 'wheelfarm[traces]'")
    with collecting() as made:
        for name in [name for name in os.environ if name.startswith("OTEL_")]:
            monkeypatch.delenv(name)
        for name, value in made.environment.items():
            monkeypatch.setenv(name, value)
        yield made


def traced(environment: Mapping[str, str] | None = None) -> list[str]:
    """Do something, with a part of it that fails, as a process of the environment would; what was told."""
    told: list[str] = []
    with (
        tracing("wheelfarm-test", os.environ if environment is None else environment, told.append),
        span("whole", parent=PARENT, jobs=2) as whole,
        pytest.raises(ValueError, match="hidden"),
        span("part", began=1.5),
    ):
        whole.fail("build-failed")
        raise ValueError("hidden")
    return told


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, False),
        ({AT: ""}, False),
        ({AT: "http://c:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/v1/traces"}, True),
        ({AT: "http://c:4318", "OTEL_SDK_DISABLED": "TRUE"}, False),
        ({AT: "http://c:4318", "OTEL_SDK_DISABLED": "false"}, True),
        ({AT: "http://c:4318", "OTEL_TRACES_EXPORTER": "none"}, False),
    ],
)
def test_traces_are_wanted_where_the_standard_variables_say_so(environment: dict[str, str], wanted: bool) -> None:
    assert are_wanted(environment) is wanted


def test_nothing_of_opentelemetry_is_imported_while_it_is_off() -> None:
    code = """
import sys
import wheelfarm.commands.install, wheelfarm.chain
from wheelfarm.traces import span, traceparent, tracing
with tracing("x", {"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c"}, print), span("x") as it:
    it.note(jobs=1)
    it.fail("cause")
    assert traceparent() == ""
print([name for name in sys.modules if name.startswith("opentelemetry") or name == "wheelfarm.trace_export"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_spans_are_sent_with_their_parents_and_facts(collector: Collector) -> None:
    assert traced() == []
    part, whole = sorted(collector.spans, key=lambda one: one.name)
    assert {part.service, whole.service} == {"wheelfarm-test"}
    assert part.trace == whole.trace == PARENT[3:35]
    assert (whole.parent, part.parent) == (PARENT[36:52], whole.id)
    assert whole.facts == {"wheelfarm.jobs": 2}
    assert (whole.failed, part.failed) == ("build-failed", "")
    assert (part.facts, part.began) == ({"wheelfarm.ended_by": "ValueError"}, 1_500_000_000)
    assert not [body for body in collector.bodies if b"hidden" in body]


def test_service_is_named_by_the_environment(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "ours")
    traced()
    assert {one.service for one in collector.spans} == {"ours"}


def test_traceparent_is_that_of_the_span_that_is_being_done(collector: Collector) -> None:
    with tracing("x", os.environ, pytest.fail):
        assert (traceparent(), trace_id()) == ("", "")
        with span("one"):
            mine, trace = traceparent(), trace_id()
    assert traceparent() == ""
    (one,) = collector.spans
    assert mine.startswith(f"00-{one.trace}-{one.id}-0")
    assert trace == one.trace


def test_malformed_parent_begins_a_trace(collector: Collector) -> None:
    with tracing("x", os.environ, pytest.fail), span("one", parent="00-nonsense"):
        pass
    (one,) = collector.spans
    assert one.parent == ""


def test_protocol_that_is_not_spoken_is_told() -> None:
    (told,) = traced({AT: "http://c:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"})
    assert "OTEL_EXPORTER_OTLP_PROTOCOL is grpc" in told


def test_collector_that_is_away_is_told_once_and_keeps_nothing_from_being_done(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(AT, f"http://user:geheim@127.0.0.1:{free_port()}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    (told,) = traced()
    assert AT in told
    assert "geheim" not in told


def test_headers_that_are_malformed_are_not_quoted(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "Authorization Bearer geheim")
    (told,) = traced()
    assert "Header format invalid" in told
    assert "geheim" not in told


def test_variables_that_cannot_be_read_are_told(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "0")
    (told,) = traced()
    assert "variables can't be used (ValueError)" in told
    assert collector.spans == []
