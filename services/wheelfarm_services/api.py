"""The farm's HTTP face: every operation it has, behind the tokens; each subject's are in a module of their own."""

from dataclasses import dataclass, field

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from wheelfarm_services.access import Access
from wheelfarm_services.accounts import Accounts
from wheelfarm_services.answer_memory import AnswerMemory
from wheelfarm_services.answers import routing_answer
from wheelfarm_services.auth import Authenticated
from wheelfarm_services.combined_index import combined_operations
from wheelfarm_services.curation_routes import curation_operations
from wheelfarm_services.event_stream import EventStreams
from wheelfarm_services.explanations import explanation_operations
from wheelfarm_services.export_routes import export_operations
from wheelfarm_services.fleet import Fleet
from wheelfarm_services.forecasts import forecast_operations
from wheelfarm_services.garbage_routes import garbage_operations
from wheelfarm_services.health_routes import health_operations
from wheelfarm_services.index_routes import index_operations
from wheelfarm_services.interpreters.routes import interpreter_operations
from wheelfarm_services.job_routes import job_operations
from wheelfarm_services.ledger import Ledger
from wheelfarm_services.local_routes import local_operations
from wheelfarm_services.log_reader import LogReader
from wheelfarm_services.on_demand import OnDemand
from wheelfarm_services.on_demand_routes import building_on_demand
from wheelfarm_services.operation import Answer, Operation, routes_of
from wheelfarm_services.overview import overview_operations
from wheelfarm_services.rate_limits import RateLimits
from wheelfarm_services.read_ahead import ReadAhead
from wheelfarm_services.recipe_book import RecipeBook
from wheelfarm_services.request_routes import request_operations
from wheelfarm_services.requests import Requests
from wheelfarm_services.sdist_metadata import SdistMetadata
from wheelfarm_services.source_index import SourceIndex
from wheelfarm_services.source_operations import source_operations
from wheelfarm_services.source_routes import SourceEndpoints
from wheelfarm_services.store import Store
from wheelfarm_services.tenancy import Tenancy
from wheelfarm_services.wheel_index import WheelIndex
from wheelfarm_services.wheel_index.curation import Curation
from wheelfarm_services.wheel_routes import wheel_operations


@dataclass(frozen=True, kw_only=True, slots=True)
class Services:
    """What the API speaks for, and whom it lets in."""

    store: Store
    ledger: Ledger
    sources: SourceIndex
    requests: Requests
    accounts: Accounts
    recipes: RecipeBook
    logs: LogReader
    tenancy: Tenancy
    fleet: Fleet
    access: Access
    limits: RateLimits | None = None
    on_demand: OnDemand | None = None
    streams: EventStreams = field(default_factory=EventStreams)


def create_app(services: Services) -> ASGIApp:
    """The ASGI application. Every path but /healthz and /readyz asks for a token, as Bearer or as Basic's password."""
    routes = routes_of(operations_of(services))
    app = Starlette(routes=routes, exception_handlers={HTTPException: routing_answer})
    return Authenticated(AnswerMemory(app), services.access, services.limits)


def operations_of(services: Services) -> list[Operation]:
    """Everything that the API can be asked for."""
    store, ledger, requests = services.store, services.ledger, services.requests
    tenancy, index = services.tenancy, WheelIndex(store)
    curation = Curation(store, index.pages)
    sources = SourceEndpoints(
        store=store,
        ledger=ledger,
        sources=services.sources,
        requests=requests,
        accounts=services.accounts,
        metadata=SdistMetadata(store),
        ahead=ReadAhead(services.sources),
    )
    operations = [
        *health_operations(store, ledger, services.fleet),
        *request_operations(requests, ledger, services.access, services.streams),
        *job_operations(requests, ledger, services.logs, tenancy, services.streams),
        *wheel_operations(store, services.recipes, curation, tenancy),
        *index_operations(store, index, tenancy),
        *combined_operations(store, index, tenancy),
        *curation_operations(curation),
        *export_operations(store, index, tenancy),
        *source_operations(sources),
        *overview_operations(ledger, requests, services.fleet, tenancy),
        *explanation_operations(store, tenancy),
        *garbage_operations(store),
        *interpreter_operations(store),
        *local_operations(store, services.accounts, tenancy),
        *forecast_operations(store, ledger, services.sources, requests, tenancy),
    ]
    if services.on_demand is not None:
        operations = building_on_demand(operations, services.on_demand)
    return [*operations, _description(operations)]


def _description(operations: list[Operation]) -> Operation:
    def describe(_: HttpRequest) -> Response:
        from wheelfarm_services.openapi import openapi_document  # for those who ask, not for every start

        return JSONResponse(openapi_document(described))

    described = [
        *operations,
        Operation(
            name="openapi",
            path="/openapi.json",
            endpoint=describe,
            told="This document.",
            answers={200: Answer(told="An OpenAPI 3.1 document.", shape={"type": "object"})},
        ),
    ]
    return described[-1]
