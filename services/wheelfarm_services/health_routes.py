"""How the services are: alive, ready, and in figures."""

from starlette.requests import Request as HttpRequest
from starlette.responses import PlainTextResponse, Response

from wheelfarm_services.fleet import Fleet
from wheelfarm_services.ledger import Ledger
from wheelfarm_services.metrics import MEDIA_TYPE, LedgerMetrics, exposition
from wheelfarm_services.operation import TEXT, Answer, Operation
from wheelfarm_services.store import Store


def health_operations(store: Store, ledger: Ledger, fleet: Fleet) -> list[Operation]:
    """`/healthz` and `/readyz`, open to all, and `/metrics`."""

    def health(_: HttpRequest) -> Response:
        return PlainTextResponse("ok\n")

    def ready(_: HttpRequest) -> Response:
        ledger.ping()
        store.size("ready")
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
