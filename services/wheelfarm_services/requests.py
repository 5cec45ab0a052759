"""Requests: what a client asked for, accepted durably, followed through the ledger and the store."""

import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from wheelfarm.digest import SHA256
from wheelfarm.errors import Conflict, InputError, JobCancelled, NotFound, TooManyRequests
from wheelfarm.job import DEFAULT_VIEW, LOCAL_VIEW, Failure, FailureClass, Job, JobKind, JobState, JobStatus, Sdist
from wheelfarm.policy import refused
from wheelfarm.target import TARGET_NAME, Target
from wheelfarm_services import layout
from wheelfarm_services.ledger import JobRecord, Ledger
from wheelfarm_services.local_sources import LocalSources, unknown_local
from wheelfarm_services.policy_book import PolicyBook
from wheelfarm_services.recipe_book import RecipeBook
from wheelfarm_services.sdist_metadata import SdistMetadata
from wheelfarm_services.source_index import SourceIndex
from wheelfarm_services.store import Store
from wheelfarm_services.submissions import submission_of
from wheelfarm_services.targets import RegisteredTargets, Targets
from wheelfarm_services.tenancy import Tenancy, Thing
from wheelfarm_services.wheel_index import WheelIndex

logger = logging.getLogger(__name__)

_ID = re.compile(r"[0-9a-f]{32}")
MOST_SDISTS = 5000
USUAL_PRIORITY, LEAST_PRIORITY = 5, 99
_MIRRORING = 8
_QUOTA_RETRY_S = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """A job of `kind` for each of `sdists`, on one target. The client makes up the id, so that it may ask twice.

    Those whose sha256 is in `local` were sent by a client, as every tree was; of those in `hashed` the user gave the
    digest. `recipes` are the digests of the sdists' recipes, by sha256, as they were when the farm accepted the
    request. One that was `cancelled` is kept until its client has seen it, a `detached` one for as long as it takes,
    whether anybody asks about it or not. `tenant` is whose it is; the lower its `priority`, the sooner its jobs are
    done. `farm` is the one that accepted it: embedded farms of several machines may share a bucket.
    """

    id: str
    kind: JobKind
    target: str
    target_revision: str
    sdists: tuple[Sdist, ...]
    force: bool = False
    local: tuple[str, ...] = ()
    hashed: tuple[str, ...] = ()
    recipes: Mapping[str, str] = field(default_factory=dict)
    cancelled: bool = False
    detached: bool = False
    accepted_at: float = 0.0
    tenant: str = ""
    priority: int = USUAL_PRIORITY
    farm: str = ""

    @classmethod
    def from_json(cls, value: Any) -> "Request":
        """Read a request off the wire. Raises InputError naming the field that is malformed."""
        if not isinstance(value, Mapping) or not isinstance(value.get("sdists"), list):
            raise InputError("request: an object with a list of 'sdists' is expected.")
        if not _ID.fullmatch(str(value.get("id", ""))) or value.get("kind") not in list(JobKind):
            raise InputError("request: 'id' must be 32 hex digits and 'kind' a kind of job.")
        target, revision = str(value.get("target")), str(value.get("target_revision"))
        if not TARGET_NAME.fullmatch(target) or not SHA256.fullmatch(revision):
            raise InputError("request: 'target' must be the name of a target and 'target_revision' a sha256.")
        if not 0 < len(value["sdists"]) <= MOST_SDISTS:
            raise InputError(f"request: from 1 to {MOST_SDISTS} sdists are accepted, not {len(value['sdists'])}.")
        local, hashed = (_sha256s(value, name) for name in ("local", "hashed"))
        return cls(
            id=str(value["id"]),
            kind=JobKind(value["kind"]),
            target=target,
            target_revision=revision,
            sdists=tuple(Sdist.from_json(sdist) for sdist in value["sdists"]),
            force=bool(value.get("force", False)),
            local=local,
            hashed=hashed,
            priority=read_priority(value.get("priority", USUAL_PRIORITY)),
            detached=bool(value.get("detached", False)),
        )

    @classmethod
    def from_store(cls, data: bytes) -> "Request":
        """Read what was written when the farm accepted the request."""
        value = json.loads(data)
        return replace(
            cls.from_json(value),
            recipes=dict(value.get("recipes", {})),
            cancelled=bool(value.get("cancelled", False)),
            accepted_at=float(value.get("accepted_at", 0.0)),
            tenant=str(value.get("tenant", "")),
            farm=str(value.get("farm", "")),
        )

    def asks_for_same(self, other: "Request") -> bool:
        """Whether another one is this one, sent again."""
        mine, others = (
            replace(one, recipes={}, cancelled=False, accepted_at=0.0, force=False, priority=0, farm="")
            for one in (self, other)
        )
        return mine == others

    def is_local(self, sdist: Sdist) -> bool:
        return self.kind is JobKind.SDIST or sdist.sha256 in self.local

    def jobs(self, queue: str) -> list[Job]:
        """The jobs asked for, in the order of the sdists."""
        names = {
            "kind": self.kind,
            "target": self.target,
            "target_revision": self.target_revision,
            "queue": queue,
        }
        return [
            Job(
                sdist=sdist,
                recipe=self.recipes.get(sdist.sha256, ""),
                source_view=LOCAL_VIEW if self.is_local(sdist) else DEFAULT_VIEW,
                **names,  # type: ignore[arg-type]
            )
            for sdist in self.sdists
        ]


def read_priority(value: Any) -> int:
    """A priority off the wire. Raises InputError."""
    if type(value) not in (int, float) or not 0 <= value <= LEAST_PRIORITY or value % 1:  # 7.0 is one in JSON, too
        raise InputError(f"priority: a whole number from 0 to {LEAST_PRIORITY} is expected, the lower the sooner.")
    return int(value)


class Requests:
    """Accepts, follows and gives up requests. The clients of those accepted before `clients_since` are known to be
    gone, and so are those that have not asked for `alive_s` (0: no end), unless their requests are detached."""

    def __init__(
        self,
        store: Store,
        ledger: Ledger,
        sources: SourceIndex,
        wheels: WheelIndex,
        recipes: RecipeBook,
        *,
        targets: Targets | None = None,
        tenancy: Tenancy | None = None,
        clients_since: float = 0.0,
        farm: str = "",
        alive_s: float = 0.0,
    ) -> None:
        self._farm = farm
        self._alive_s = alive_s
        self._targets = targets or RegisteredTargets(store)
        self._clients_since = clients_since
        self._store = store
        self._recipes = recipes
        self._ledger = ledger
        self._sources = sources
        self._wheels = wheels
        self._locals = LocalSources(store)
        self._tenancy = tenancy or Tenancy(store)
        self._metadata = SdistMetadata(store)
        self._policies = PolicyBook(store)

    def accept(self, request: Request, *, open_jobs: int | None = None) -> dict[str, Any]:
        """Take a request on: its sdists mirrored, itself durable, its jobs in the ledger; the status is returned.

        Safe to repeat. Raises InputError for an sdist that the source index does not list and an unknown target,
        NoWorker when something has to be made for a target that nobody serves, Conflict when the id is another
        request's, and TooManyRequests when the tenant would have more than `open_jobs` unfinished.
        """
        earlier = self._read(request.id)
        if earlier is not None and not earlier.asks_for_same(request):
            raise Conflict(
                f"There is a request {request.id} already, which asks for something else.",
                hint="Give each request an id of its own.",
            )
        target = self.target(request.target, request.target_revision)
        jobs = [
            job if job.kind is JobKind.SDIST else self._recipes.apply(job, target.python_version)
            for job in request.jobs(target.queue)
        ]
        found = {job.sdist.sha256: job.recipe for job in jobs if job.recipe}
        request = replace(request, recipes=found, accepted_at=self._ledger.now(), farm=self._farm)
        with ThreadPoolExecutor(_MIRRORING) as pool:
            list(pool.map(lambda sdist: self._provide(request, sdist), request.sdists))
        missing = [job for job in jobs if not self._finished(job)]
        if missing:
            self._targets.require_served(target)
            self._store.put(layout.open_request(request.id), json.dumps(asdict(request)).encode())
            if earlier is None and open_jobs is not None:
                self._require_room(request, len(missing), open_jobs)
            self._submit(request, missing)
        return self._status(request, jobs)

    def _require_room(self, request: Request, jobs: int, most: int) -> None:
        """Raise TooManyRequests unless a tenant may have so many jobs more, and forget the request, which is in the
        store: of several at once each sees the others."""
        others = [other for other in self.open_requests() if other.tenant == request.tenant and other.id != request.id]
        unfinished = sum(self._unfinished(other) for other in others)
        if unfinished + jobs > most:
            self._store.delete(layout.open_request(request.id))
            raise TooManyRequests(
                f"{request.tenant} may have {most} jobs open at once: {unfinished} are, and this asks for {jobs} more.",
                hint="Ask for fewer at once, or again when some have ended.",
                retry_after_s=_QUOTA_RETRY_S,
            )

    def _unfinished(self, request: Request) -> int:
        wanted = {job.id for job in self._opened(request.id)[1]}
        return sum(record.id in wanted and not record.state.final for record in self._ledger.request(request.id))

    def prioritise(self, request_id: str, priority: int) -> dict[str, Any]:
        """Have an open request's jobs done sooner; the status. What others want sooner stays so. Raises NotFound."""
        request, jobs = self._opened(request_id)
        request = replace(request, priority=priority)
        self._store.put(layout.open_request(request_id), json.dumps(asdict(request)).encode())
        self._submit(replace(request, force=False), [job for job in jobs if not self._finished(job)])
        return self._status(request, jobs)

    def tenant_of(self, request_id: str) -> str | None:
        """Whose an open request is; None where there is none."""
        request = self._read(request_id)
        return request.tenant if request else None

    def _read(self, request_id: str) -> Request | None:
        data = self._store.get(layout.open_request(request_id)) if _ID.fullmatch(request_id) else None
        return None if data is None else Request.from_store(data)

    def _provide(self, request: Request, sdist: Sdist) -> None:
        if request.is_local(sdist):
            self.require_local(request.tenant, request.kind, sdist)
            if reason := self._policies.policy.local_refusal(sdist):
                raise refused(sdist, reason)
        else:
            needs_hash = self._policies.policy.require_hashes and request.kind is JobKind.WHEEL
            if needs_hash and sdist.sha256 not in request.hashed:
                raise refused(sdist, "the request gives no sha256 for it (--hash, or a lock), as every one must")
            self._sources.mirror(sdist)

    def require_local(self, tenant: str, kind: JobKind, sdist: Sdist) -> None:
        """Raise InputError unless a job of that kind may be made of a local sdist, for that tenant."""
        if not self._tenancy.has(tenant, Thing.LOCAL, sdist.sha256):
            raise unknown_local(sdist)
        self._locals.require(kind, sdist)

    def awaited(self, request_id: str) -> list[str]:
        """The ids of the jobs that an open request asked for. Raises NotFound."""
        return [job.id for job in self._opened(request_id)[1]]

    def status(self, request_id: str) -> dict[str, Any]:
        """The request as `wheelfarm.farm.RequestStatus.from_json` reads it. Raises NotFound."""
        if self._alive_s:
            self._ledger.keep(request_id, alive_s=self._alive_s)
        return self._status(*self._opened(request_id))

    def _opened(self, request_id: str) -> tuple[Request, list[Job]]:
        request = self._read(request_id)
        if request is None:
            raise NotFound(f"The farm knows no open request {request_id!r}.")
        return request, request.jobs(self.target(request.target, request.target_revision).queue)

    def close(self, request_id: str) -> None:
        """The client has read the end of its request, or gives it up: what nobody else waits for is cancelled."""
        if not _ID.fullmatch(request_id):
            raise NotFound(f"{request_id!r} is not the id of a request.")
        self._ledger.cancel(request_id)
        self._store.delete(layout.open_request(request_id))

    def cancel(
        self, name: str, *, of: Callable[[str], bool] = lambda _: True, jobs_too: bool = True
    ) -> list[JobStatus]:
        """End an open request or, with all that wait for it, a job, whose id begins with `name`; the jobs that end.

        A request takes along what nobody else wants, a job also what others wait for. Only requests `of` certain
        tenants count, and with `jobs_too` jobs. Raises NotFound when `name` is no beginning of just one id, or when
        the job is over.
        """
        requests = [found for found in self._open_ids(name) if of(self.tenant_of(found) or "")]
        jobs = self._ledger.find(name) if jobs_too else []
        if len(requests) + len(jobs) > 1:
            raise NotFound(f"Several requests or jobs begin with {name!r}.", hint="Give more digits of it.")
        if not requests and not jobs:
            raise NotFound(f"No open request and no job of this farm begins with {name!r}.", hint="wheelfarm status")
        ended = self._cancel_request(requests[0]) if requests else self._ledger.cancel_job(jobs[0])
        if not requests and not ended:
            raise NotFound(f"The job {jobs[0][:12]} is over, or is told to stop already.", hint="wheelfarm status")
        records = [self._ledger.job(job) for job in ended]
        return [self.job_status(record) for record in records if record is not None]

    def open_requests(self) -> Iterator[Request]:
        """The requests that are not finished, as far as they can be read."""
        for key in self._store.list(layout.open_requests()):
            with suppress(InputError, ValueError):
                yield Request.from_store(self._store.get(key) or b"")

    def _open_ids(self, prefix: str) -> list[str]:
        return [
            key.rpartition("/")[2].removesuffix(".json") for key in self._store.list(layout.open_requests() + prefix)
        ]

    def _cancel_request(self, request_id: str) -> list[str]:
        """Mark the request, for its client to see, and end what it alone wants."""
        data = self._store.get(layout.open_request(request_id))
        if data is not None:
            cancelled = replace(Request.from_store(data), cancelled=True)
            self._store.put(layout.open_request(request_id), json.dumps(asdict(cancelled)).encode())
        return self._ledger.cancel(request_id)

    def resubmit(self) -> int:
        """Bring back open requests that the ledger has forgotten (Redis was lost); the number of them."""
        count = 0
        for key in self._store.list(layout.open_requests()):
            request_id = key.rpartition("/")[2].removesuffix(".json")
            data = None if self._ledger.request_exists(request_id) else self._store.get(key)
            try:
                count += data is not None and self._resubmit(Request.from_store(data))
            except (InputError, ValueError):  # one that can't be read must not keep the others from being brought back
                logger.exception("open request can't be resubmitted", extra={"request": request_id})
        return count

    def close_expired(self) -> int:
        """Give up the requests of clients that are gone without a word; the number of them."""
        expired = self._ledger.expired()
        for request_id in expired:
            logger.warning("request given up: its client asks no more", extra={"request": request_id})
            self.close(request_id)
        return len(expired)

    def _resubmit(self, request: Request) -> bool:
        if request.farm != self._farm:
            return False
        if request.cancelled or request.accepted_at < self._clients_since:  # nobody will ask how it ended
            self._store.delete(layout.open_request(request.id))
            return False
        jobs = request.jobs(self.target(request.target, request.target_revision).queue)
        missing = [job for job in jobs if not self._finished(job)]
        self._submit(request, missing)
        return bool(missing)

    def target(self, name: str, revision: str) -> Target:
        """The target of that name and revision, with the queue of its jobs. Raises InputError where there is none."""
        return self._targets.known(name, revision)

    def job_for(self, kind: JobKind, sdist: Sdist, target: Target) -> Job:
        """The job that a request for an sdist would get now."""
        job = Job(kind=kind, sdist=sdist, target=target.name, target_revision=target.revision, queue=target.queue)
        return self._recipes.apply(job, target.python_version)

    def register(self, target: Target) -> None:
        """A client names the target that it wants wheels for. Raises NoWorker for one that nobody ever served."""
        self._targets.register(target)

    def job(self, prefix: str) -> JobStatus:
        """The job whose id begins with `prefix`. Raises NotFound when there is none or more than one."""
        found = self._ledger.find(prefix) if re.fullmatch(r"[0-9a-f]{4,64}", prefix) else []
        record = self._ledger.job(found[0]) if len(found) == 1 else None
        if record is None:
            raise NotFound(
                f"{'Several jobs begin' if len(found) > 1 else 'No job of this farm begins'} with {prefix!r}.",
                hint="Job ids stand in the output of install and build.",
            )
        return self.job_status(record)

    def job_status(self, record: JobRecord) -> JobStatus:
        """A job as clients see it."""
        job = Job.from_json(json.loads(record.spec))
        return JobStatus(
            id=record.id,
            kind=job.kind,
            sdist=job.sdist,
            state=record.state,
            attempt=record.attempt,
            queued_at=record.queued_at,
            started_at=record.started_at,
            finished_at=record.finished_at,
            waits_for=record.waits_for,
            failure=self.failure(record),
        )

    def failure(self, record: JobRecord) -> Failure | None:
        """Why a job failed: its own reason, or that of the job it depended on."""
        if record.state is JobState.CANCELLED:
            return _cancelled(Job.from_json(json.loads(record.spec)).sdist)
        if record.state is not JobState.FAILED:
            return None
        root = self._ledger.job(record.cause) if record.cause else None
        if root is None or root.id == record.id or not root.failure:
            return Failure.from_json(json.loads(record.failure)) if record.failure else _UNKNOWN
        value = json.loads(root.failure)
        return Failure.from_json({**value, "failure_class": FailureClass.DEPENDENCY, "cause": root.id})

    def _submit(self, request: Request, jobs: list[Job]) -> None:
        done = self._submitted(request, jobs)
        lost = [job.id for job in jobs if job.id in done and not self._finished(job)]
        if lost:  # what they made is gone from the store
            self._ledger.forget(lost)
            self._submitted(request, jobs)

    def _submitted(self, request: Request, jobs: list[Job]) -> set[str]:
        """Jobs as the ledger has them; the ids of those that it says are done."""
        states = self._ledger.submit(
            request.id,
            [submission_of(job) for job in jobs],
            share=request.tenant,
            priority=request.priority,
            force=request.force,
            alive_s=0.0 if request.detached else self._alive_s,
        )
        return {job for job, state in states.items() if state is JobState.DONE}

    def _finished(self, job: Job) -> bool:
        if job.kind is JobKind.WHEEL:
            return self._wheels.find(job) is not None
        if job.kind is JobKind.SDIST:
            return self._locals.made(job) is not None
        return self._metadata.told_first(job.sdist, job.target_revision) is not None

    def _status(self, request: Request, jobs: list[Job]) -> dict[str, Any]:
        event = self._ledger.last_event()  # before what it led to is read
        records = {record.id: record for record in self._ledger.request(request.id)}
        statuses = {job.id: self._unrecorded(job) for job in jobs if job.id not in records}
        statuses |= {record.id: self.job_status(record) for record in records.values()}
        if request.cancelled:
            statuses |= {job.id: _given_up(statuses[job.id]) for job in jobs if not statuses[job.id].state.final}
        manifests = {job.id: manifest for job in jobs if statuses[job.id].state is JobState.DONE
                     and (manifest := self._wheels.find(job))}  # fmt: skip
        revisions = {job: manifest.metadata_revision for job, manifest in manifests.items()}
        made = {
            job.id: asdict(sdist) for job in jobs if job.kind is JobKind.SDIST and (sdist := self._locals.made(job))
        }
        self._tenancy.grant(request.tenant, Thing.JOB, statuses)
        self._tenancy.grant(request.tenant, Thing.WHEEL, {manifest.wheel.sha256 for manifest in manifests.values()})
        self._tenancy.grant(request.tenant, Thing.LOCAL, {sdist["sha256"] for sdist in made.values()})
        return {
            "id": request.id,
            "requested": [job.id for job in jobs],
            "jobs": [status.to_json() for status in statuses.values()],
            "wheels": {job: manifest.wheel.to_json() for job, manifest in manifests.items()},
            "revisions": {job: one.to_json() for job, one in revisions.items() if one.revision},
            "sdists": made,
            "now": self._ledger.now(),
            "event": event,
        }

    def _unrecorded(self, job: Job) -> JobStatus:
        """A job that the ledger does not know: finished before, or forgotten by Redis and soon resubmitted."""
        state = JobState.DONE if self._finished(job) else JobState.QUEUED
        return JobStatus(id=job.id, kind=job.kind, sdist=job.sdist, state=state)


def _sha256s(value: Mapping[str, Any], name: str) -> tuple[str, ...]:
    found = value.get(name, [])
    if not isinstance(found, list | tuple) or not all(isinstance(sha256, str) for sha256 in found):
        raise InputError(f"request: {name!r} must be a list of sha256s.")
    return tuple(found)


def _given_up(status: JobStatus) -> JobStatus:
    """A job as it looks to a request that was cancelled; others may want it still."""
    return replace(status, state=JobState.CANCELLED, failure=_cancelled(status.sdist))


def _cancelled(sdist: Sdist) -> Failure:
    return Failure(
        failure_class=FailureClass.CANCELLED,
        error=JobCancelled.code,
        message=f"The build of {sdist} was cancelled.",
        hint="The same command begins it anew.",
    )


_UNKNOWN = Failure(
    failure_class=FailureClass.INFRASTRUCTURE,
    error="farm-unavailable",
    message="The farm lost the reason of a failure.",
)
