"""Forecasts: for sdists that may be built, what the store, the ledger and the sdists themselves can tell beforehand."""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime

from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response

from wheelfarm.digest import SHA256
from wheelfarm.errors import (
    BadSdist,
    DirectReferenceRefused,
    FarmUnavailable,
    HashMismatch,
    UpstreamError,
    error_from_json,
)
from wheelfarm.forecast import Doubt, Forecast
from wheelfarm.job import Failure, Job, JobKind, JobState, Sdist
from wheelfarm.target import TARGET_NAME, Target
from wheelfarm.token_file import Scope
from wheelfarm_services import layout
from wheelfarm_services.access import Principal, principal_of
from wheelfarm_services.build_history import BuildHistory, PastBuild, expected_seconds
from wheelfarm_services.doubts import compiles, needed_tools, stated_doubts
from wheelfarm_services.failures import Failures
from wheelfarm_services.json_body import json_object, read_json_body, sdist_list
from wheelfarm_services.ledger import Ledger
from wheelfarm_services.operation import Answer, Operation
from wheelfarm_services.parameters import SDISTS, matching
from wheelfarm_services.policy_book import PolicyBook
from wheelfarm_services.recipe_book import RecipeBook
from wheelfarm_services.requests import Requests
from wheelfarm_services.sdist_records import sdist_record
from wheelfarm_services.source_index import SourceIndex
from wheelfarm_services.stated_build import stated_build
from wheelfarm_services.store import Store
from wheelfarm_services.tenancy import Tenancy, Thing
from wheelfarm_services.threads import run_waiting
from wheelfarm_services.wheel_index import WheelIndex

_READING = 8
_NOT_HERE = Doubt(text="its sdist is not here yet, and a token that may only read has none brought", likely=False)


def forecast_operations(
    store: Store, ledger: Ledger, sources: SourceIndex, requests: Requests, tenancy: Tenancy
) -> list[Operation]:
    """`POST /forecasts`: the forecasts of `sdists` on a `target` in a `target_revision`, in their order."""
    forecasts = Forecasts(store, ledger, sources, requests)

    async def post(http: HttpRequest) -> Response:
        return await run_waiting(answer, await read_json_body(http), principal_of(http))

    def answer(body: object, principal: Principal) -> Response:
        value = json_object(body)
        sdists = sdist_list(value.get("sdists"))
        target = requests.target(str(value.get("target")), str(value.get("target_revision")))
        principal.require_target(target.name)
        known = forecasts.of(sdists, target, bring=principal.scope.includes(Scope.BUILD))
        found = [_visible(forecast, principal, tenancy) for forecast in known]
        return JSONResponse([forecast.to_json() for forecast in found])

    asked = {
        "type": "object",
        "properties": {
            "target": matching(TARGET_NAME.pattern),
            "target_revision": matching(SHA256.pattern),
            "sdists": SDISTS,
        },
        "required": ["target", "target_revision", "sdists"],
    }
    return [
        Operation(
            name="forecasts",
            method="POST",
            path="/forecasts",
            endpoint=post,
            told="What the farm can tell of builds before they are made, in the order of the sdists.",
            body=asked,
            answers={200: Answer(told="The forecasts.", shape=list[Forecast])},
            errors=(404, 422, 502),
        )
    ]


def _visible(forecast: Forecast, principal: Principal, tenancy: Tenancy) -> Forecast:
    """The forecast without a wheel, and without how a build failed, that the bearer of a token was not told of."""
    if forecast.wheel is not None and not tenancy.sees(principal, Thing.WHEEL, forecast.wheel.sha256):
        forecast = replace(forecast, wheel=None)
    if forecast.failure is not None and not tenancy.sees(principal, Thing.JOB, forecast.job):
        forecast = replace(forecast, failure=None)
    return forecast


class Forecasts:
    """Forecasts builds from one store; `clock` tells the time in UTC."""

    def __init__(
        self,
        store: Store,
        ledger: Ledger,
        sources: SourceIndex,
        requests: Requests,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._sources = sources
        self._requests = requests
        self._recipes = RecipeBook(store)
        self._policies = PolicyBook(store)
        self._failures = Failures(store)
        self._wheels = WheelIndex(store)
        self._history = BuildHistory(store)
        self._clock = clock

    def of(self, sdists: Sequence[Sdist], target: Target, *, bring: bool = True) -> list[Forecast]:
        """The forecasts of sdists; nothing is built and nothing submitted. To `bring` them is to mirror those that are
        not here, of which little can be told otherwise.

        Raises InputError for an sdist that the source index does not list.
        """
        past = self._history.of(target.name)
        with ThreadPoolExecutor(_READING) as pool:
            return list(pool.map(lambda sdist: self._forecast(sdist, target, past, bring), sdists))

    def _forecast(self, sdist: Sdist, target: Target, past: Sequence[PastBuild], bring: bool) -> Forecast:
        job = self._requests.job_for(JobKind.WHEEL, sdist, target)
        if (manifest := self._wheels.find(job)) is not None:
            return Forecast(sdist=sdist, job=job.id, wheel=manifest.wheel, prebuilt=self._exception(sdist))
        if not bring and self._store.size(layout.sdist(sdist.sha256)) is None:
            return Forecast(sdist=sdist, job=job.id, doubts=(_NOT_HERE,))
        if sdist.is_prebuilt:
            self._sources.mirror(sdist)
            return Forecast(sdist=sdist, job=job.id, prebuilt=self._exception(sdist))
        try:
            stated = stated_build(sdist, self._store, self._sources)
        except (BadSdist, DirectReferenceRefused, HashMismatch) as error:
            return Forecast(sdist=sdist, job=job.id, doubts=(Doubt(text=error.message, likely=True),))
        system, recipe = stated.build_system, self._recipes.recipe(job)
        asked = self._asked(sdist, target)
        requires = recipe.requirements((*system.requires, *(asked or ())))
        native = compiles(requires)
        seconds, source = expected_seconds(sdist, system.backend, native, past)
        return Forecast(
            sdist=sdist,
            job=job.id,
            backend=system.backend,
            requires=requires,
            constraints=recipe.build_constraints,
            recipe=recipe.reason,
            backend_asked=asked is not None,
            native=native,
            tools=needed_tools(requires),
            seconds=seconds,
            seconds_from=source,
            failure=self._failure(job),
            doubts=stated_doubts(stated, self._upload_time(sdist), target.python_version, self._clock()),
        )

    def _exception(self, sdist: Sdist) -> str:
        """Why a prebuilt wheel is taken; "" for an sdist."""
        if not sdist.is_prebuilt:
            return ""
        found = self._policies.policy.prebuilt_for(sdist, self._policies.now())
        return f"{found.filename}: {found.reason} (until {found.expires})"

    def _asked(self, sdist: Sdist, target: Target) -> tuple[str, ...] | None:
        data = self._store.get(layout.hook_requirements(sdist.sha256, target.revision))
        return None if data is None else tuple(json.loads(data))

    def _failure(self, job: Job) -> Failure | None:
        """The failure that the next request of a job would be answered with."""
        if (remembered := self._failures.find(job.request_key)) is not None:
            return remembered.failure
        record = self._ledger.job(job.id)
        if record is None or record.state is not JobState.FAILED:
            return None
        failure = self._requests.failure(record)
        passing = failure and isinstance(error_from_json(failure.to_json()), FarmUnavailable | UpstreamError)
        return None if passing else failure

    def _upload_time(self, sdist: Sdist) -> str:
        return str(sdist_record(self._store, sdist).get("upload_time", ""))
