"""Requests: what a client asked for, accepted durably, followed through the ledger and the store."""

import json
import logging
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any

from wheelfarm.errors import Conflict, InputError, JobCancelled, NotFound, TooManyRequests
from wheelfarm.job import Failure, FailureClass, Job, JobKind, JobState, JobStatus, Sdist
from wheelfarm.policy import refused
from wheelfarm.target import Target
from wheelfarm.traces import traceparent
from wheelfarm_services import layout
from wheelfarm_services.ledger import JobRecord, Ledger
from wheelfarm_services.local_sources import LocalSources, unknown_local
from wheelfarm_services.policy_book import PolicyBook
from wheelfarm_services.recipe_book import RecipeBook
from wheelfarm_services.request import Request, is_request_id
from wheelfarm_services.sdist_metadata import SdistMetadata
from wheelfarm_services.source_index import SourceIndex
from wheelfarm_services.store import Store
from wheelfarm_services.submissions import submission_of
from wheelfarm_services.targets import RegisteredTargets, Targets
from wheelfarm_services.tenancy import Tenancy, Thing
from wheelfarm_services.wheel_index import WheelIndex

logger = logging.getLogger(__name__)

_MIRRORING = 8
_QUOTA_RETRY_S = 10


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
        self._ended: set[str] = set()
        """Open requests of which nothing is left to do, but which nobody has closed."""

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
        targets = self._targets_of(request)
        jobs = self._with_recipes(request.jobs([target.queue for target in targets]), targets)
        request = request.with_recipes_of(jobs)
        request = replace(request, accepted_at=self._ledger.now(), farm=self._farm, trace=traceparent())
        with ThreadPoolExecutor(_MIRRORING) as pool:
            list(pool.map(lambda sdist: self._provide(request, sdist), request.sdists))
        missing = [job for job in jobs if not self._finished(job)]
        if earlier is None and len(missing) < len(jobs):
            self._ledger.note_hits(len(jobs) - len(missing))
        if missing or request.detached:  # whose client comes back for what is there already, too
            for target in targets:
                if any(job.target_revision == target.revision for job in missing):
                    self._targets.require_served(target)
            self._store.put(layout.open_request(request.id), request.to_json())
            if earlier is None and open_jobs is not None:
                self._require_room(request, len(missing), open_jobs)
            self._submit(request, missing)
        return self._status(request, jobs)

    def _with_recipes(self, jobs: list[Job], targets: list[Target]) -> list[Job]:
        python_versions = {target.revision: target.python_version for target in targets}
        return [
            job if job.kind is JobKind.SDIST else self._recipes.apply(job, python_versions[job.target_revision])
            for job in jobs
        ]

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
        request = self._change(request_id, lambda request: replace(request, priority=priority))
        if request is None:
            raise _unknown(request_id)
        jobs = self._jobs(request)
        if not request.cancelled:
            self._submit(replace(request, force=False), [job for job in jobs if not self._finished(job)])
            if self._read(request_id) is None:  # its client has taken leave of it meanwhile
                self._ledger.cancel(request_id)
        return self._status(request, jobs)

    def _change(self, request_id: str, change: Callable[[Request], Request]) -> Request | None:
        """An open request as it was changed in the store, where others may change it or take leave of it at the same
        time; None where there is none."""
        key = layout.open_request(request_id)
        while is_request_id(request_id) and (found := self._store.get_with_etag(key)) is not None:
            data, etag = found
            changed = change(Request.from_store(data))
            if self._store.replace(key, changed.to_json(), etag):
                return changed
        return None

    def tenant_of(self, request_id: str) -> str | None:
        """Whose an open request is; None where there is none."""
        request = self._read(request_id)
        return request.tenant if request else None

    def _read(self, request_id: str) -> Request | None:
        data = self._store.get(layout.open_request(request_id)) if is_request_id(request_id) else None
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
            raise _unknown(request_id)
        return request, self._jobs(request)

    def _jobs(self, request: Request) -> list[Job]:
        return request.jobs([target.queue for target in self._targets_of(request)])

    def _targets_of(self, request: Request) -> list[Target]:
        return [self.target(target.name, target.revision) for target in request.targets]

    def close(self, request_id: str) -> None:
        """The client has read the end of its request, or gives it up: what nobody else waits for is cancelled."""
        if not is_request_id(request_id):
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
        self._change(request_id, lambda request: replace(request, cancelled=True))
        return self._ledger.cancel(request_id)

    def resubmit(self) -> int:
        """Bring back open requests that the ledger has forgotten (Redis was lost); the number of them."""
        count = 0
        keys = {key.rpartition("/")[2].removesuffix(".json"): key for key in self._store.list(layout.open_requests())}
        self._ended &= keys.keys()
        for request_id, key in keys.items():
            known = request_id in self._ended or self._ledger.request_exists(request_id)
            data = None if known else self._store.get(key)
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
        jobs = self._jobs(request)
        missing = [job for job in jobs if not self._finished(job)]
        self._submit(request, missing)
        if not missing:
            self._ended.add(request.id)
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

    def served_targets(self) -> list[Target]:
        """The targets that workers of a fleet serve now."""
        return self._targets.served()

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
            [submission_of(job, sdist_bytes=self._size(job)) for job in jobs],
            share=request.tenant,
            priority=request.priority,
            force=request.force,
            trace=request.trace,
            alive_s=0.0 if request.detached else self._alive_s,
        )
        return {job for job, state in states.items() if state is JobState.DONE}

    def _size(self, job: Job) -> int:
        key = layout.local_archive if job.is_local else layout.sdist
        return self._store.size(key(job.sdist.sha256)) or 0

    def _finished(self, job: Job) -> bool:
        if job.kind is JobKind.WHEEL:
            manifest = self._wheels.find(job)
            return manifest is not None and self._wheels.is_enlisted(manifest)
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
            "targets": [asdict(target) for target in request.targets],
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


def _unknown(request_id: str) -> NotFound:
    return NotFound(f"The farm knows no open request {request_id!r}.")


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
