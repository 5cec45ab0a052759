"""Traces for OpenTelemetry: one request, followed through client, API and worker, where the environment wants that.

OTEL_EXPORTER_OTLP_ENDPOINT switches them on, OTEL_SDK_DISABLED off, and OpenTelemetry's other variables mean what they
mean everywhere. While they are off nothing of it is imported. From process to process a trace goes as a `traceparent`
(W3C Trace Context). Spans tell names, times and facts of ours: never what a build printed, a command line or a URL,
for those may hold secrets.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span as OtelSpan
    from opentelemetry.trace import Tracer

Fact = str | int | float | bool
Role = Literal["internal", "server", "consumer"]

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")

_tracer: "Tracer | None" = None
"""This process's, while it traces."""


class Span:
    """What is being done, as a trace shows it; nothing where none is kept."""

    def __init__(self, span: "OtelSpan | None" = None) -> None:
        self._span = span

    def note(self, **facts: Fact) -> None:
        """Tell more of it."""
        if self._span is not None:
            self._span.set_attributes(_attributes(facts))

    def fail(self, cause: str) -> None:
        """Mark it as failed, for a cause out of a closed set."""
        if self._span is not None:
            from opentelemetry.trace import StatusCode

            self._span.set_status(StatusCode.ERROR, cause)


_NOTHING = Span()


def are_wanted(environment: Mapping[str, str]) -> bool:
    """Whether the environment names somebody to send traces to, and nothing there switches them off."""
    disabled = environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    exported = (environment.get("OTEL_TRACES_EXPORTER") or "otlp") == "otlp"
    return exported and not disabled and any(environment.get(name) for name in ENDPOINTS)


@contextmanager
def tracing(service: str, environment: Mapping[str, str], tell: Callable[[str], None]) -> Iterator[None]:
    """Send the spans of what is done within, where that is wanted, as those of `service` unless the environment names
    it otherwise. What keeps them from being sent is told, and keeps nothing else from being done."""
    global _tracer
    if not are_wanted(environment):
        yield
        return
    from wheelfarm.trace_export import exporting

    with exporting(service, environment, tell) as _tracer:
        try:
            yield
        finally:
            _tracer = None


@contextmanager
def span(name: str, *, role: Role = "internal", parent: str = "", began: float = 0.0, **facts: Fact) -> Iterator[Span]:
    """What is done within, as a part of the span around it, or of that with the traceparent `parent`. It may have
    `began` earlier (seconds since the epoch). An error that ends it is told by its class alone."""
    if _tracer is None:
        yield _NOTHING
        return
    from opentelemetry.trace import SpanKind, use_span

    made = _tracer.start_span(
        name,
        context=_context(parent),
        kind=SpanKind[role.upper()],
        attributes=_attributes(facts),
        start_time=int(began * 1e9) or None,
    )
    with use_span(made, end_on_exit=True, record_exception=False, set_status_on_exception=False):
        told = Span(made)
        try:
            yield told
        except Exception as error:
            told.note(ended_by=type(error).__name__)
            raise


def traceparent() -> str:
    """The span that is being done, as others take it for a parent; "" where there is none."""
    if _tracer is None:
        return ""
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier.get("traceparent", "")


def trace_id() -> str:
    """The trace of the span that is being done, for logs; "" where there is none."""
    return traceparent()[3:35]


def _context(parent: str) -> "Context | None":
    """The context of a traceparent; None, which is the current one, without any."""
    if not parent:
        return None
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract({"traceparent": parent}, Context())


def _attributes(facts: Mapping[str, Fact]) -> dict[str, Fact]:
    return {f"wheelfarm.{name}": fact for name, fact in facts.items()}
