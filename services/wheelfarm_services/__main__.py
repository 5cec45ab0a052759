"""The services: `python -m wheelfarm_services` answers the API and the source index and repairs what crashes leave."""

import logging
import os
import signal
import socket
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path

import click

from wheelfarm.errors import FarmUnavailable, InputError, WheelfarmError
from wheelfarm.listening import DEFAULT_ADDRESS, Address
from wheelfarm.settings import Settings, require_all
from wheelfarm.traces import tracing
from wheelfarm_services.access import Access
from wheelfarm_services.accounts import Accounts
from wheelfarm_services.api import Services, create_app
from wheelfarm_services.assembly import Assembly, assemble
from wheelfarm_services.audit import keep_audit
from wheelfarm_services.configuration_check import configuration_checks
from wheelfarm_services.garbage_collector import spare_what_lasts
from wheelfarm_services.http_server import HttpServer
from wheelfarm_services.log_reader import LogReader
from wheelfarm_services.logs import configure_logs, log_to_stderr
from wheelfarm_services.metrics import LedgerMetrics
from wheelfarm_services.metrics_server import metrics_told
from wheelfarm_services.on_demand import OnDemand, builder
from wheelfarm_services.policy_book import PolicyBook
from wheelfarm_services.rate_limits import RateLimits
from wheelfarm_services.refusal import refuse

logger = logging.getLogger(__name__)


@click.command()
@click.option("--fd", type=int, help="A listening socket that was inherited, instead of an address.")
@click.option("--listen", default=DEFAULT_ADDRESS, show_default=True, help="HOST:PORT, or unix:PATH.")
@click.option(
    "--embedded-since",
    type=float,
    help="The farm of one machine's commands, begun then (seconds since 1970): targets are as they register them, and "
    "requests from before are forgotten.",
)
@click.option("--no-reconciler", is_flag=True, help="Repair nothing: reconcilers of their own do.")
@click.option("--json", "as_json", is_flag=True, help="Tell as JSON what keeps the services from running.")
def main(fd: int | None, listen: str, embedded_since: float | None, no_reconciler: bool, as_json: bool) -> None:
    """Answer the farm's API until told to stop."""
    log_to_stderr()
    try:
        settings = Settings.from_environment(os.environ, required=["broker"])
        require_all([*configuration_checks(settings), partial(_safe_address, settings, listen)])
        configure_logs(settings.logs, "services", settings.log_format)
        spare_what_lasts()
        listener = socket.socket(fileno=fd) if fd is not None else Address.parse(listen).bind()
        serve(settings, listener, embedded_since=embedded_since, reconciles=not no_reconciler)
    except WheelfarmError as error:
        refuse(error, as_json=as_json)


def serve(settings: Settings, listener: socket.socket, *, embedded_since: float | None, reconciles: bool) -> None:
    """Run API, source index and, unless others do, a reconciler in this process."""
    keep_audit(_given(settings.audit))
    parts = assemble(settings, embedded_since=embedded_since)
    if PolicyBook(parts.store).publish(_given(settings.policy)):
        parts.wheels.pages.render_all()
    parts.recipes.publish(_given(settings.recipes))
    services = Services(
        store=parts.store,
        ledger=parts.ledger,
        sources=parts.sources,
        requests=parts.requests,
        accounts=Accounts(parts.redis),
        recipes=parts.recipes,
        tenancy=parts.tenancy,
        logs=LogReader(parts.store, settings.broker),
        fleet=parts.fleet,
        access=Access(settings.token, _given(settings.tokens)),
        limits=RateLimits(parts.redis),
        on_demand=_on_demand(settings, parts, listener),
    )
    if reconciles:
        parts.reconciler.start()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # the server ends at it, then raises it again
    try:
        with (
            metrics_told(settings.metrics, LedgerMetrics(parts.ledger, parts.fleet)),
            tracing("wheelfarm-api", os.environ, logger.warning),
        ):
            HttpServer(create_app(services), services.streams).run(sockets=[listener])
    finally:
        parts.reconciler.stop()
        with suppress(FarmUnavailable):  # another reconciler does it, or the next one to start
            parts.wheels.pages.render_stale()


def _safe_address(settings: Settings, listen: str) -> None:
    Address.parse(listen).require_safe(settings.token or settings.tokens.name)


def _on_demand(settings: Settings, parts: Assembly, listener: socket.socket) -> OnDemand | None:
    """Builds on demand, where they are wanted, by this very API."""
    if not settings.on_demand:
        return None
    return OnDemand(
        settings.on_demand.split(","),
        redis=parts.redis,
        store=parts.store,
        fleet=parts.fleet,
        limits=RateLimits(parts.redis),
        build=builder(_own_url(settings, listener), settings),
    )


def _own_url(settings: Settings, listener: socket.socket) -> str:
    """Where this API is reached from this machine. Raises InputError for a unix socket, which uv can't ask."""
    if listener.family == socket.AF_UNIX:
        if settings.url:
            return settings.url
        raise InputError(
            "WHEELFARM_ON_DEMAND needs an API that uv can ask, and this one listens on a unix socket.",
            hint="Set WHEELFARM_URL to where the API is reached by HTTP.",
        )
    host, port = listener.getsockname()[:2]
    known = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  (compared, not bound)
    return f"http://{Address(host=known, port=port)}"


def _given(path: Path) -> Path | None:
    return path if path.name else None


if __name__ == "__main__":
    main()
