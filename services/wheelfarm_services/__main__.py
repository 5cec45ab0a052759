"""The services: `python -m wheelfarm_services` answers the API and the source index and repairs what crashes leave."""

import json
import os
import socket
import sys

import click
import uvicorn

from wheelfarm.errors import InputError, WheelfarmError
from wheelfarm.settings import Settings
from wheelfarm_services.accounts import Accounts
from wheelfarm_services.api import Services, create_app
from wheelfarm_services.ledger import Ledger, redis_client
from wheelfarm_services.logs import log_to_stderr
from wheelfarm_services.recipe_book import RecipeBook
from wheelfarm_services.reconciler import Reconciler
from wheelfarm_services.requests import Requests
from wheelfarm_services.source_index import SourceIndex
from wheelfarm_services.store import open_store
from wheelfarm_services.upstream import Upstream, default_index_url
from wheelfarm_services.wakeups import Wakeups, celery_app
from wheelfarm_services.wheel_index import WheelIndex

_RECONCILED_EVERY_S = 1.0


@click.command()
@click.option("--fd", type=int, help="A listening socket that was inherited, instead of an address.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", default=8080, show_default=True, help="The port to listen on.")
@click.option(
    "--clients-since", default=0.0, help="Forget requests from before (seconds since 1970) that are open yet."
)
def main(fd: int | None, host: str, port: int, clients_since: float) -> None:
    """Answer the farm's API until told to stop."""
    log_to_stderr()
    try:
        settings = Settings.from_environment(os.environ, required=["broker"])
        serve(settings, listening(fd, host, port), clients_since=clients_since)
    except WheelfarmError as error:
        print(json.dumps(error.to_json()), flush=True)
        sys.exit(error.exit_code)


def listening(fd: int | None, host: str, port: int) -> socket.socket:
    """The socket to answer on. Raises InputError when the address is taken."""
    if fd is not None:
        return socket.socket(fileno=fd)
    try:
        return socket.create_server((host, port))
    except OSError as error:
        raise InputError(f"The API can't listen on {host}:{port}: {error.strerror}.") from error


def serve(settings: Settings, listener: socket.socket, *, clients_since: float) -> None:
    """Run API, source index and reconciler in this process."""
    store = open_store(settings)
    redis = redis_client(settings.broker)
    wake = Wakeups(celery_app(settings.broker))
    ledger = Ledger(settings.broker, wake=wake, patience_s=5.0)
    sources = SourceIndex(store, Upstream(settings.index or default_index_url(os.environ)))
    recipes = RecipeBook(store)
    recipes.publish(settings.recipes if settings.recipes.name else None)
    requests = Requests(store, ledger, sources, WheelIndex(store), recipes, clients_since=clients_since)
    services = Services(
        store=store,
        ledger=ledger,
        sources=sources,
        requests=requests,
        accounts=Accounts(redis),
        recipes=recipes,
        token=settings.token,
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
    )
    uvicorn.Server(config).run(sockets=[listener])
    reconciler.stop()


if __name__ == "__main__":
    main()
