"""How the services are: alive, ready, and in figures."""

import logging
import threading
import time
from collections.abc import Callable

from starlette.requests import Request as HttpRequest
from starlette.responses import PlainTextResponse, Response

from wheelfarm.errors import FarmUnavailable
from wheelfarm_services.fleet import Fleet
from wheelfarm_services.ledger import Ledger
from wheelfarm_services.metrics import MEDIA_TYPE, LedgerMetrics, exposition
from wheelfarm_services.operation import TEXT, Answer, Operation
from wheelfarm_services.store import Store

logger = logging.getLogger(__name__)

_LOOKED_EVERY_S = 1.0


def health_operations(
    store: Store, ledger: Ledger, fleet: Fleet, *, clock: Callable[[], float] = time.monotonic
) -> list[Operation]:
    """`/healthz` and `/readyz`, open to all, and `/metrics`."""

    def health(_: HttpRequest) -> Response:
        return PlainTextResponse("ok\n")

    readiness = _Readiness(store, ledger, clock)

    def ready(_: HttpRequest) -> Response:
        if missing := readiness.missing():
            raise FarmUnavailable(f"{missing} can't be used.")
        return PlainTextResponse("ok\n")

    def metrics(_: HttpRequest) -> Response:
        return Response(exposition(LedgerMetrics(ledger, fleet)), media_type=MEDIA_TYPE)

    ok = {200: Answer(told="It is.", media=(TEXT,))}
    return [
        Operation(
            name="health",
            path="/healthz",
            endpoint=health,
            told="Whether this process answers at all.",
            scope=None,
            answers=ok,
        ),
        Operation(
            name="readiness",
            path="/readyz",
            endpoint=ready,
            told="Whether Redis and the store can be used; otherwise 503 says which can't.",
            scope=None,
            answers=ok,
        ),
        Operation(
            name="metrics",
            path="/metrics",
            endpoint=metrics,
            told="Figures of the farm, as Prometheus reads them.",
            answers={200: Answer(told="Metrics by name.", media=(TEXT,))},
        ),
    ]


class _Readiness:
    """What the farm lacks, looked at once a second at most, however many ask: anybody may, and each look has its cost.

    Who asks while somebody looks is told what was so before.
    """

    def __init__(self, store: Store, ledger: Ledger, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._looks: tuple[tuple[str, Callable[[], object]], ...] = (
            ("Redis", ledger.ping),
            ("The store", lambda: store.size("ready")),
        )
        self._looking = threading.Lock()
        self._looked_at = -_LOOKED_EVERY_S
        self._missing: str | None = None

    def missing(self) -> str:
        """The part that can't be used, with nothing of where it is; "" when none lacks."""
        due = self._missing is None or self._clock() - self._looked_at > _LOOKED_EVERY_S
        if due and self._looking.acquire(blocking=self._missing is None):
            try:
                self._missing = self._look()
                self._looked_at = self._clock()
            finally:
                self._looking.release()
        return self._missing or ""

    def _look(self) -> str:
        for part, look in self._looks:
            try:
                look()
            except FarmUnavailable as error:
                logger.warning("not ready", extra={"reason": error.message})
                return part
        return ""
