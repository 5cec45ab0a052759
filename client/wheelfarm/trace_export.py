"""OpenTelemetry's SDK as the farm uses it: spans go to a collector in batches, by OTLP over HTTP.

Imported by those processes alone that trace (`wheelfarm.traces`).
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from threading import Thread
from typing import TYPE_CHECKING

from wheelfarm import __version__
from wheelfarm.traces import ENDPOINTS

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Tracer

_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_SPOKEN = "http/protobuf"
_SENT_S = 3.0
"""For how long a process that ends goes on sending: a collector that is away keeps nobody waiting."""


@contextmanager
def exporting(service: str, environment: Mapping[str, str], tell: Callable[[str], None]) -> Iterator["Tracer | None"]:
    """A tracer whose spans are sent; None, and `tell` is told why, where they can't be."""
    spoken = next((environment[name] for name in _PROTOCOLS if environment.get(name)), _SPOKEN)
    if spoken != _SPOKEN:
        tell(f"no traces are sent: {_PROTOCOLS[1]} is {spoken}, and only {_SPOKEN} is spoken")
        yield None
        return
    _hush(tell)
    try:
        provider = _provider(service)
    except ImportError:
        tell(f"no traces are sent, though {ENDPOINTS[1]} is set: pip install 'wheelfarm[traces]'")
        yield None
        return
    except (OSError, ValueError) as error:
        tell(f"no traces are sent: OpenTelemetry's variables can't be used ({type(error).__name__})")
        yield None
        return
    try:
        yield provider.get_tracer("wheelfarm", __version__)
    finally:
        sending = Thread(target=provider.shutdown, name="traces", daemon=True)
        sending.start()
        sending.join(_SENT_S)


def _provider(service: str) -> "TracerProvider":
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    ours = Resource.create({"service.name": service, "service.version": __version__})
    provider = TracerProvider(resource=ours.merge(OTELResourceDetector().detect()), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


class _Complaints(logging.Handler):
    """Tells once that OpenTelemetry complains. What it says may quote headers and URLs, in which secrets stand, so of
    that only the sentence without its facts is told."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        tell, self._tell = self._tell, lambda _: None
        tell(f"traces may be lost: is the collector of {ENDPOINTS[1]} there? OpenTelemetry: {record.msg!s:.200}")


def _hush(tell: Callable[[str], None]) -> None:
    """Keep the words of OpenTelemetry's own loggers from logs and terminals."""
    logger = logging.getLogger("opentelemetry")
    logger.handlers, logger.propagate = [_Complaints(tell)], False
