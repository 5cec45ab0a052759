"""What the farm has to do, for those who look after it, and the end of what they don't want."""

import json
import logging
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice

from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response

from wheelfarm.errors import InputError
from wheelfarm.farm_status import FarmStatus, JobUnderWay, OpenRequest
from wheelfarm.job import Job, JobStatus
from wheelfarm.token_file import Scope
from wheelfarm_services.access import Principal, principal_of
from wheelfarm_services.fleet import Fleet
from wheelfarm_services.ledger import JobRecord, Ledger
from wheelfarm_services.operation import Answer, Operation, Parameter
from wheelfarm_services.requests import Requests
from wheelfarm_services.tenancy import Tenancy

logger = logging.getLogger(__name__)

_MOST_JOBS = 1000
_MOST_REQUESTS = 200
_FAILURES = 10


def overview_operations(ledger: Ledger, requests: Requests, fleet: Fleet, tenancy: Tenancy) -> list[Operation]:
    """`GET /status`, and `POST /cancellations/ID` with the beginning of a request's or a job's id."""

    def status(http: HttpRequest) -> Response:
        whole, principal = farm_status(ledger, requests, fleet, principal_of(http)), principal_of(http)
        return JSONResponse(_visible(whole, principal, tenancy).to_json())

    def cancel(http: HttpRequest) -> Response:
        principal = principal_of(http)
        jobs_too = principal.scope.includes(Scope.ADMIN)
        ended = requests.cancel(http.path_params["name"], of=principal.may_see, jobs_too=jobs_too)
        return JSONResponse([job.to_json() for job in ended])

    name = Parameter(name="name", told="The id of a request or a job, or its first digits.", form="[0-9a-f]{4,64}")
    return [
        Operation(
            name="status",
            path="/status",
            endpoint=status,
            told="What is under way and open, and what failed last.",
            answers={200: Answer(told="The farm.", shape=FarmStatus)},
        ),
        Operation(
            name="cancel",
            method="POST",
            path="/cancellations/{name}",
            endpoint=cancel,
            told="End an open request with what nobody else wants; with scope `admin` also a job, for all who wait.",
            scope=Scope.BUILD,
            parameters=(name,),
            answers={200: Answer(told="The jobs that end.", shape=list[JobStatus])},
            errors=(404,),
        ),
    ]


def farm_status(ledger: Ledger, requests: Requests, fleet: Fleet, principal: Principal) -> FarmStatus:
    """What is under way and open, what failed last, and who works; of each no more than anybody reads."""
    return FarmStatus(
        now=ledger.now(),
        jobs=tuple(_under_way(ledger.unfinished(_MOST_JOBS), requests)),
        requests=tuple(islice(_open_requests(requests, principal), _MOST_REQUESTS)),
        failures=tuple(job for _, job in _readable(ledger.recently_failed(_FAILURES), requests)),
        workers=tuple(fleet.workers()),
    )


def _under_way(records: Iterable[JobRecord], requests: Requests) -> Iterator[JobUnderWay]:
    for record, job in _readable(records, requests):
        yield JobUnderWay(job=job, target=Job.from_json(json.loads(record.spec)).target, worker=record.worker)


def _visible(status: FarmStatus, principal: Principal, tenancy: Tenancy) -> FarmStatus:
    """What the bearer of a token may see of it."""
    if principal.sees_all:
        return status
    seen = tenancy.visible_jobs(principal, {one.job.id for one in status.jobs} | {job.id for job in status.failures})
    return replace(
        status,
        jobs=tuple(one for one in status.jobs if one.job.id in seen),
        failures=tuple(job for job in status.failures if job.id in seen),
    )


def _open_requests(requests: Requests, principal: Principal) -> Iterator[OpenRequest]:
    for request in requests.open_requests():
        if not principal.may_see(request.tenant):
            continue
        yield OpenRequest(
            id=request.id,
            kind=request.kind,
            target=", ".join(target.name for target in request.targets),
            jobs=len(request.targets) * len(request.sdists),
            cancelled=request.cancelled,
            accepted_at=request.accepted_at,
        )


def _readable(records: Iterable[JobRecord], requests: Requests) -> Iterator[tuple[JobRecord, JobStatus]]:
    """The jobs whose records can be read; one that can't must not hide the others."""
    for record in records:
        try:
            yield record, requests.job_status(record)
        except (InputError, ValueError, AttributeError):
            logger.warning("job can't be read", extra={"job": record.id[:12]})
