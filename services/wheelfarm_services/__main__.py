"""The services: `python -m wheelfarm_services` answers the API and the source index and repairs what crashes leave."""

import os
import socket
from functools import cache, partial
from pathlib import Path

import click
import uvicorn

from wheelfarm.errors import InputError, WheelfarmError
from wheelfarm.listening import DEFAULT_ADDRESS, Address
from wheelfarm.settings import Settings
from wheelfarm_services.access import Access
from wheelfarm_services.accounts import Accounts
from wheelfarm_services.api import Services, create_app
from wheelfarm_services.audit import keep_audit
from wheelfarm_services.fleet import Fleet
from wheelfarm_services.ledger import Ledger, redis_client
from wheelfarm_services.log_reader import LogReader
from wheelfarm_services.logs import log_to_file, log_to_stderr
from wheelfarm_services.policy_book import PolicyBook
from wheelfarm_services.rate_limits import RateLimits
from wheelfarm_services.recipe_book import RecipeBook
from wheelfarm_services.reconciler import Reconciler
from wheelfarm_services.refusal import refuse
from wheelfarm_services.requests import Requests
from wheelfarm_services.source_index import SourceIndex
from wheelfarm_services.store import open_store
from wheelfarm_services.targets import RegisteredTargets, ServedTargets
from wheelfarm_services.tenancy import Tenancy
from wheelfarm_services.upstreams import Upstreams, routes_of
from wheelfarm_services.wakeups import Wakeups, celery_app
from wheelfarm_services.wheel_index import WheelIndex

_RECONCILED_EVERY_S = 1.0
_MOST_CONNECTIONS = 4000
"""What comes beyond that is answered 503 at once, for each follower of a log keeps one."""


@click.command()
@click.option("--fd", type=int, help="A listening socket that was inherited, instead of an address.")
@click.option("--listen", default=DEFAULT_ADDRESS, show_default=True, help="HOST:PORT, or unix:PATH.")
@click.option(
    "--embedded-since",
    type=float,
    help="The farm of one machine's commands, begun then (seconds since 1970): targets are as they register them, and "
    "requests from before are forgotten.",
)
@click.option("--json", "as_json", is_flag=True, help="Tell as JSON what keeps the services from running.")
def main(fd: int | None, listen: str, embedded_since: float | None, as_json: bool) -> None:
    """Answer the farm's API until told to stop."""
    log_to_stderr()
    try:
        settings = Settings.from_environment(os.environ, required=["broker"])
        if settings.logs.name:
            log_to_file(settings.logs, "services")
        if fd is not None:
            listener = socket.socket(fileno=fd)
        else:
            address = Address.parse(listen)
            address.require_safe(settings.token or settings.tokens.name)
            listener = address.bind()
        serve(settings, listener, embedded_since=embedded_since)
    except WheelfarmError as error:
        refuse(error, as_json=as_json)


def _embedded_farm() -> str:
    """The name of this user's embedded farms on this machine."""
    return f"{socket.gethostname()}-{os.getuid()}"


def serve(settings: Settings, listener: socket.socket, *, embedded_since: float | None) -> None:
    """Run API, source index and reconciler in this process."""
    if not (settings.token or settings.tokens.name):
        raise InputError("The API needs WHEELFARM_TOKEN or WHEELFARM_TOKENS: nobody is let in without a token.")
    keep_audit(_given(settings.audit))
    store = open_store(settings)
    redis = redis_client(settings.broker)
    wake = Wakeups(celery_app(settings.broker))
    ledger = Ledger(settings.broker, wake=wake, patience_s=5.0)
    policies = PolicyBook(store)
    judged_anew = policies.publish(_given(settings.policy))
    wheels = WheelIndex(store)
    if judged_anew:
        wheels.render_all()
    routes = cache(partial(routes_of, settings, os.environ))
    if settings.upstreams.name:
        routes()  # what is wrong with the file is told at start
    sources = SourceIndex(store, Upstreams(routes, store, offline=settings.offline))
    recipes = RecipeBook(store)
    recipes.publish(_given(settings.recipes))
    fleet = Fleet(redis)
    tenancy = Tenancy(store)
    requests = Requests(
        store,
        ledger,
        sources,
        wheels,
        recipes,
        targets=RegisteredTargets(store) if embedded_since is not None else ServedTargets(store, fleet),
        tenancy=tenancy,
        clients_since=embedded_since or 0.0,
        farm="" if embedded_since is None else _embedded_farm(),
        alive_s=settings.request_alive_s,
    )
    services = Services(
        store=store,
        ledger=ledger,
        sources=sources,
        requests=requests,
        accounts=Accounts(redis),
        recipes=recipes,
        tenancy=tenancy,
        logs=LogReader(store, settings.broker),
        fleet=fleet,
        access=Access(settings.token, _given(settings.tokens)),
        limits=RateLimits(redis),
    )
    reconciler = Reconciler(ledger, redis, requests, wake, every_s=_RECONCILED_EVERY_S)
    reconciler.start()
    config = uvicorn.Config(
        create_app(services),
        log_level="warning",
        access_log=False,
        lifespan="off",
        ws="none",
        timeout_graceful_shutdown=1,
        limit_concurrency=_MOST_CONNECTIONS,
    )
    uvicorn.Server(config).run(sockets=[listener])
    reconciler.stop()


def _given(path: Path) -> Path | None:
    return path if path.name else None


if __name__ == "__main__":
    main()
