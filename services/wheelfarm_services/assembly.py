"""What services and reconcilers have in common, put together by the settings."""

import os
import socket
from dataclasses import dataclass
from functools import cache, partial

from redis import Redis

from wheelfarm.settings import Settings
from wheelfarm_services.broker_check import check_broker
from wheelfarm_services.fleet import Fleet
from wheelfarm_services.ledger import Ledger, redis_client
from wheelfarm_services.past_durations import tell_durations
from wheelfarm_services.recipe_book import RecipeBook
from wheelfarm_services.reconciliation import Reconciler
from wheelfarm_services.requests import Requests
from wheelfarm_services.source_index import SourceIndex
from wheelfarm_services.store import Store, open_store
from wheelfarm_services.targets import RegisteredTargets, ServedTargets
from wheelfarm_services.tenancy import Tenancy
from wheelfarm_services.upstream_watch import UpstreamWatch
from wheelfarm_services.upstreams import Upstreams, routes_of
from wheelfarm_services.wakeups import Wakeups, celery_app
from wheelfarm_services.wheel_index import WheelIndex
from wheelfarm_services.wheel_index.curation import Curation

_RECONCILED_EVERY_S = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Assembly:
    """The parts that answer for one broker and one store."""

    redis: Redis
    store: Store
    ledger: Ledger
    sources: SourceIndex
    wheels: WheelIndex
    recipes: RecipeBook
    fleet: Fleet
    tenancy: Tenancy
    requests: Requests
    reconciler: Reconciler


def assemble(settings: Settings, *, embedded_since: float | None = None) -> Assembly:
    """The parts of a farm, whose broker is checked, or of the embedded one begun then (seconds since the epoch).

    Raises InputError for upstreams or a broker that can't be used as they are.
    """
    embedded = embedded_since is not None
    store = open_store(settings)
    redis = redis_client(settings.broker)
    wake = Wakeups(celery_app(settings.broker))
    ledger = Ledger(settings.broker, wake=wake, patience_s=5.0)
    if not embedded:  # whose broker is the farm's own
        check_broker(redis, reach=ledger.ping)
    routes = cache(partial(routes_of, settings, os.environ))
    if settings.upstreams.name:
        routes()  # what is wrong with the file is told at start
    wheels, recipes, fleet, tenancy = WheelIndex(store), RecipeBook(store), Fleet(redis), Tenancy(store)
    targets = RegisteredTargets(store) if embedded else ServedTargets(store, fleet)
    begin = partial(tell_durations, store, ledger, targets)
    upstreams = Upstreams(routes, store, offline=settings.offline)
    follow = Curation(store, wheels.pages).follow
    asks = not settings.offline
    sources = SourceIndex(store, upstreams, told=follow) if asks else SourceIndex(store, upstreams)
    watch = UpstreamWatch(store, redis, upstreams, follow).look if asks and not embedded else lambda: None
    requests = Requests(
        *(store, ledger, sources, wheels, recipes),
        targets=targets,
        tenancy=tenancy,
        clients_since=embedded_since or 0.0,
        farm=_embedded_farm() if embedded else "",
        alive_s=settings.request_alive_s,
    )
    return Assembly(
        redis=redis,
        store=store,
        ledger=ledger,
        sources=sources,
        wheels=wheels,
        recipes=recipes,
        fleet=fleet,
        tenancy=tenancy,
        requests=requests,
        reconciler=Reconciler(
            *(ledger, redis, requests, wake, wheels.pages), every_s=_RECONCILED_EVERY_S, begin=begin, watch=watch
        ),
    )


def _embedded_farm() -> str:
    """The name of this user's embedded farms on this machine."""
    return f"{socket.gethostname()}-{os.getuid()}"
