"""The typed adapter of the ledger: one method an operation, Redis replies parsed into frozen values."""

import json
import logging
import re
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from importlib.resources import files
from itertools import chain, islice
from math import ceil
from typing import Any, TypeVar

from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ConnectionError,
    ReadOnlyError,
    TimeoutError,
)

from wheelfarm.errors import FarmUnavailable, InputError, WorkerLost
from wheelfarm.job import Failure, FailureClass, JobState
from wheelfarm_services.ledger.connection import redis_client, redis_py_url, without_credentials
from wheelfarm_services.ledger.news import news
from wheelfarm_services.ledger.types import (
    Beat,
    Claim,
    Completion,
    FailureOutcome,
    JobRecord,
    Lookups,
    QueueCounts,
    Submission,
    Suspension,
    SuspensionOutcome,
    Wake,
)

logger = logging.getLogger(__name__)

MOST_WAKE_UPS = 200
"""More than so many tokens in a queue of the broker wake nobody else."""

T = TypeVar("T")

_PREFIX = "{wheelfarm}:"  # as in prelude.lua
_OPERATIONS = (
    "audit",
    "beat",
    "cancel",
    "cancel_job",
    "claim",
    "complete",
    "fail",
    "forget",
    "hand_back",
    "reap",
    "release",
    "submit",
    "suspend",
)
_FIELDS = (
    *("queue", "state", "spec", "result", "failure", "cause", "attempt", "priority", "worker"),
    *("queued_at", "started_at", "finished_at", "cancel"),
)
_TRANSPORT_ERRORS = (ConnectionError, TimeoutError, BusyLoadingError, ReadOnlyError)
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 1.0
_REQUEST_JOBS = 20_000
_FOUND_JOBS = 10
_EVENTS_READ = 5000
_BATCH = 1000


class Ledger:
    """Jobs, edges, priorities and leases, shared by all parts of a farm; safe to use from many threads.

    While Redis can't be reached, an operation is repeated for `patience_s`, then FarmUnavailable is raised.
    When only the reply was lost, the repetition answers LOST or DUPLICATE to one's own change, and a claim is
    leased to nobody until it is reaped.
    """

    def __init__(self, url: str, *, wake: Wake, patience_s: float = 60.0) -> None:
        self._shown_url = without_credentials(url)
        self._url = url
        self._wake = wake
        self._patience_s = patience_s
        self._redis = redis_client(url)
        self._scripts = {name: self._redis.register_script(_script_text(name)) for name in _OPERATIONS}

    def submit(
        self,
        request_id: str,
        jobs: Sequence[Submission],
        *,
        share: str = "",
        priority: int = 5,
        force: bool = False,
        alive_s: float = 0.0,
        trace: str = "",
    ) -> dict[str, JobState]:
        """The state of each job, after those were begun or joined that have no standing answer.

        `share` names the tenant: tenants take turns, and the requests of each among themselves (lines.lua). With
        `alive_s` the request expires when `keep` is not called for so long.

        A lower `priority` (0 to 99) is claimed sooner. DONE stands, FAILED for as long as it is remembered.
        The same request may be submitted again: what failed or was cancelled for it stays so. `force` begins
        failed and cancelled jobs anew, and those of their dependencies that failed before this call. Jobs that are
        begun keep `trace`, the traceparent of who wants them.
        """
        asked = ("submit", request_id, share, priority, int(force), _ms(alive_s), trace)
        flat, woken = self._run(*asked, *_flattened(jobs))
        self._wake_all(woken)
        return {id_: JobState(state) for id_, state in zip(flat[::2], flat[1::2], strict=True)}

    def forget(self, job_ids: Sequence[str]) -> int:
        """Forget those of the jobs that are done, because what they made is gone: submitted again, they begin anew."""
        return int(self._run("forget", *job_ids))

    def claim(self, queue: str, *, worker: str, lease_s: float) -> Claim | None:
        """The most urgent job of `queue`, leased to `worker`; None when there is none.

        Among those of one priority requests take turns. In its turn a request gets the job at the start of the longest
        chain of jobs that wait for it, and among such equals the longest queued one.
        """
        reply = self._run("claim", queue, worker, _ms(lease_s))
        if reply is None:
            return None
        job_id, fence, spec, attempt, forced_at, queued_at, now, trace = reply
        return Claim(
            job_id=job_id,
            fence=int(fence),
            spec=spec,
            attempt=attempt,
            queue=queue,
            forced_at=int(forced_at or 0) / 1000,
            waited_s=max(0, int(now) - int(queued_at)) / 1000,
            trace=trace,
        )

    def beat(self, claim: Claim, *, lease_s: float) -> Beat:
        """Whether to go on; OK and CANCEL renew the lease."""
        return Beat(self._run("beat", claim.job_id, claim.fence, _ms(lease_s)))

    def suspend(
        self, claim: Claim, dependencies: Sequence[Submission], *, tolerant: bool = False, trace: str = ""
    ) -> Suspension:
        """READY when all dependencies are done; otherwise the job is queued again when the last of them is.

        When one fails the job fails, too; a `tolerant` one is queued again instead, and is told DEPENDENCY_FAILED when
        it asks for that one again. Dependencies are begun or joined with this job's priority, and with `trace` as by
        `submit`. A cycle is found before any of that.
        """
        asked = ("suspend", claim.job_id, claim.fence, int(tolerant), trace)
        outcome, members, woken = self._run(*asked, *_flattened(dependencies))
        self._wake_all(woken)
        return Suspension(outcome=SuspensionOutcome(outcome), members=tuple(members))

    def complete(self, claim: Claim, result: str, *, seconds: float = 0.0) -> Completion:
        """Records the result and queues the jobs that waited for nothing else; a late result counts too.

        `seconds` is what the work took, remembered for the job's subject; 0 when there was none to do.
        """
        outcome, woken = self._run("complete", claim.job_id, result, ceil(seconds))
        self._wake_all(woken)
        return Completion(outcome)

    def fail(
        self,
        claim: Claim,
        failure: str,
        *,
        retry: bool,
        remember_s: float,
        max_attempts: int = 3,
        pause_s: float = 0.0,
    ) -> FailureOutcome:
        """Queues the job again, to be claimed after `pause_s`, if `retry` holds and attempts are left; else fails it
        and all that wait.

        For `remember_s` new requests get the failure as their answer; later ones begin the job anew. The record itself
        stays for an hour at least.
        """
        arguments = (failure, int(retry), _ms(pause_s), _ms(remember_s), max_attempts)
        outcome, woken = self._run("fail", claim.job_id, claim.fence, *arguments)
        self._wake_all(woken)
        return FailureOutcome(outcome)

    def hand_back(self, claim: Claim) -> FailureOutcome:
        """Queues the job again without a charge: its worker ends before it is done, and not because of it."""
        outcome, woken = self._run("hand_back", claim.job_id, claim.fence)
        self._wake_all(woken)
        return FailureOutcome(outcome)

    def cancel(self, request_id: str) -> list[str]:
        """The ids of the jobs that nobody else wants: cancelled or, if running, told at the next beat."""
        return list(self._run("cancel", request_id))

    def cancel_job(self, job_id: str) -> list[str]:
        """The ids of the jobs that end with it, whoever wants them: itself, all that wait for it, and what only those
        waited for. They are cancelled or, if running, told at the next beat; none when it is over."""
        return list(self._run("cancel_job", job_id))

    def reap(self, *, max_attempts: int = 5) -> int:
        """The number of lapsed leases, 500 at most; jobs are queued again or, at `max_attempts`, failed. Jobs whose
        pause is over can be claimed from then on."""
        failure = _worker_lost(f"The job lost its worker in each of {max_attempts} attempts.")
        reaped, woken = self._run("reap", failure, max_attempts)
        self._wake_all(woken)
        return int(reaped)

    def release(self, worker: str, *, max_releases: int = 10) -> int:
        """The number of jobs taken from `worker`, whose process is dead, and queued again without a charge.

        A job that this happened to `max_releases` times fails: it may be what kills its workers.
        """
        failure = _worker_lost(f"The job's worker was restarted under it {max_releases} times.")
        released, woken = self._run("release", worker, failure, max_releases)
        self._wake_all(woken)
        return int(released)

    def audit(self) -> int:
        """The number of waiting jobs repaired: those whose dependencies are finished, failed or lost."""
        repaired = 0
        for ids in self._waiting_ids():
            count, woken = self._run("audit", *ids)
            self._wake_all(woken)
            repaired += count
        return repaired

    def keep(self, request_id: str, *, alive_s: float) -> None:
        """Somebody asks about the request: unless it stays anyway, it lives for another `alive_s`."""
        name, until = f"{_PREFIX}alive", _ms(self.now() + alive_s)
        self._patiently(lambda: self._redis.zadd(name, {request_id: until}, xx=True, gt=True))

    def expired(self) -> list[str]:
        """The requests that nobody has asked about for as long as they were to live."""
        now = _ms(self.now())
        return self._patiently(lambda: _strings(self._redis.zrange(f"{_PREFIX}alive", 0, now, byscore=True)))

    def take_turn(self, duty: str, every_s: float) -> bool:
        """Whether the caller is to do what several could do: one of them may, each `every_s`."""
        name = f"{_PREFIX}turn:{duty}"
        return self._patiently(lambda: bool(self._redis.set(name, 1, nx=True, px=max(1, _ms(every_s)))))

    def remember_seconds(self, seconds: Mapping[str, float]) -> None:
        """Tell how long jobs of some subjects took, where the ledger does not know."""
        known = {subject: ceil(value) for subject, value in seconds.items() if value > 0}
        self._patiently(lambda: self._remember(known))

    def job(self, job_id: str) -> JobRecord | None:
        """The job of that id, None when Redis has none (any more)."""
        return next(iter(self._read([job_id])), None)

    def find(self, prefix: str) -> list[str]:
        """At most ten ids that begin with `prefix`, sorted; InputError unless it is 4 to 64 hex digits."""
        if not re.fullmatch(r"[0-9a-f]{4,64}", prefix):
            raise InputError(f"A job is named by 4 to 64 hexadecimal digits of its id, not {prefix!r}.")
        start = f"{_PREFIX}j:"
        return self._patiently(lambda: sorted(self._matching(f"{start}{prefix}*", len(start))))

    def request(self, request_id: str) -> list[JobRecord]:
        """The jobs of a request as given, then their dependencies, level by level; 20 000 at most."""
        records: list[JobRecord] = []
        level = self._patiently(lambda: _strings(self._redis.zrange(f"{_PREFIX}r:{request_id}", 0, -1)))
        seen: set[str] = set()
        while level and len(records) < _REQUEST_JOBS:
            seen.update(level)
            found = self._read(level)
            records += found
            further = dict.fromkeys(chain.from_iterable(record.dependencies for record in found))
            level = [id_ for id_ in further if id_ not in seen]
        return records[:_REQUEST_JOBS]

    def unfinished(self, limit: int) -> list[JobRecord]:
        """The jobs that run, those in the queues in their order, those that wait; at most `limit` of each sort."""
        ids = self._patiently(lambda: self._unfinished_ids(limit))
        return [record for record in self._read(ids) if not record.state.final]

    def recently_failed(self, limit: int) -> list[JobRecord]:
        """The jobs that failed last, as far as the ledger remembers, the latest first."""
        read: Callable[[], Any] = partial(self._redis.xrevrange, f"{_PREFIX}ev", count=_EVENTS_READ)
        events = [event for _, event in self._patiently(read)]
        ids = dict.fromkeys(str(event["job"]) for event in events if event["state"] == JobState.FAILED)
        records = self._read(list(ids)[: 2 * limit])
        return [record for record in records if record.state is JobState.FAILED][:limit]

    def last_event(self) -> str:
        """The id of the last change of any job's state, which `changed` takes; "0-0" where there was none."""
        read: Callable[[], Any] = partial(self._redis.xrevrange, f"{_PREFIX}ev", count=1)
        return next((str(event_id) for event_id, _ in self._patiently(read)), "0-0")

    def changed_since(self, event_id: str) -> set[str] | None:
        """The jobs whose state has changed after an event; None where that is not remembered any more."""
        read: Callable[[], Any] = partial(self._redis.xrange, f"{_PREFIX}ev", min=event_id, count=_EVENTS_READ)
        events = self._patiently(read)
        if not events or events[0][0] != event_id or len(events) == _EVENTS_READ:
            return None
        return {str(event["job"]) for _, event in events[1:]}

    async def changed(self, after: str, awaited: Collection[str]) -> None:
        """Wait for an event after the one of that id: for the end of an awaited job, or a little longer for others.
        Returns without one, too, after some seconds."""
        await news(redis_py_url(self._url), f"{_PREFIX}ev", after, awaited)

    def request_exists(self, request_id: str) -> bool:
        """True until 30 days after its last submission; a cancelled request exists for one hour more."""
        return self._patiently(lambda: bool(self._redis.exists(f"{_PREFIX}r:{request_id}")))

    def queues(self) -> dict[str, int]:
        """The number of claimable jobs for each queue that ever had one."""
        names = self._patiently(lambda: sorted(_strings(self._redis.smembers(f"{_PREFIX}queues"))))
        return dict(zip(names, self._patiently(lambda: self._queue_lengths(names)), strict=True))

    def counts(self) -> dict[str, QueueCounts]:
        """The counts of each queue that ever had a claimable job: a few small reads, however many jobs there are."""
        names, now = list(self.queues()), self.now()
        read: Callable[[], Any] = partial(self._redis.hgetall, f"{_PREFIX}count")
        counted: Mapping[str, str] = self._patiently(read)
        first = self._patiently(lambda: self._first_queued_at(names))
        return {name: _queue_counts(name, counted, now - first.get(name, now)) for name in names}

    def note_hits(self, count: int) -> None:
        """Count jobs that a request asked for and that need not be submitted, for what they make is there."""
        self._patiently(lambda: self._redis.hincrby(f"{_PREFIX}lookups", "hit", count))

    def lookups(self) -> Lookups:
        """What requests found of the jobs that they asked for, each counted once, since Redis is what it is."""
        read: Callable[[], Any] = partial(self._redis.hgetall, f"{_PREFIX}lookups")
        counted = self._patiently(read)
        return {outcome: int(counted.get(outcome, 0)) for outcome in ("hit", "coalesced", "miss")}

    def unpublished(self, queue_lengths: Mapping[str, int]) -> dict[str, int]:
        """How many wake-ups each queue misses, given how many lie in the broker's queues of those names."""
        wanted = {name: min(jobs, MOST_WAKE_UPS) for name, jobs in self.queues().items()}
        return {name: max(0, count - queue_lengths.get(name, 0)) for name, count in wanted.items()}

    def now(self) -> float:
        """The clock by which all times of jobs are told, in seconds since the epoch."""
        seconds, microseconds = self._patiently(self._redis.time)
        return int(seconds) + int(microseconds) / 1e6

    def ping(self) -> None:
        """Nothing, once Redis answers."""
        self._patiently(lambda: bool(self._redis.ping()))

    def close(self) -> None:
        self._redis.close()

    def _run(self, operation: str, *arguments: str | int) -> Any:
        return self._patiently(lambda: self._scripts[operation](args=arguments))

    def _patiently(self, operation: Callable[[], T]) -> T:
        """The operation's result, tried with growing pauses while only the way to Redis is at fault."""
        deadline = time.monotonic() + self._patience_s
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                return operation()
            except _TRANSPORT_ERRORS as error:
                hopeless = isinstance(error, AuthenticationError)
                if hopeless or time.monotonic() + pause_s > deadline:
                    raise self._unavailable(error) from error
            time.sleep(pause_s)
            pause_s = min(_LONGEST_PAUSE_S, 2 * pause_s)

    def _unavailable(self, error: Exception) -> FarmUnavailable:
        return FarmUnavailable(
            f"Redis at {self._shown_url} can't be used ({type(error).__name__}).",
            hint="Check that the server runs and that its URL and password are right, then try again.",
        )

    def _wake_all(self, queues: Iterable[str]) -> None:
        """Tell each queue, at most MOST_WAKE_UPS times: a slot that was woken goes on until no job is left.

        Stops at the first failure: all wait for the same broker, and the reconciler makes up for it.
        """
        counted = Counter(queues)
        for queue in chain.from_iterable([queue] * min(count, MOST_WAKE_UPS) for queue, count in counted.items()):
            try:
                self._wake(queue)
            except Exception:
                logger.warning("wake-up not published", extra={"queue": queue}, exc_info=True)
                return

    def _read(self, ids: Sequence[str]) -> list[JobRecord]:
        """The records of those jobs that exist, in the order of `ids`."""
        batches = [ids[start : start + _BATCH] for start in range(0, len(ids), _BATCH)]
        return list(chain.from_iterable(self._read_batch(batch) for batch in batches))

    def _read_batch(self, ids: Sequence[str]) -> Iterator[JobRecord]:
        replies = self._patiently(lambda: self._fetch(ids))
        for id_, values, waits_for, dependencies in zip(ids, replies[::3], replies[1::3], replies[2::3], strict=True):
            fields = {name: value or "" for name, value in zip(_FIELDS, values, strict=True)}
            if fields["state"]:
                yield _record(id_, fields, waits_for, dependencies)

    def _fetch(self, ids: Sequence[str]) -> list[Any]:
        with self._redis.pipeline(transaction=False) as pipeline:
            for id_ in ids:
                pipeline.hmget(f"{_PREFIX}j:{id_}", _FIELDS)
                pipeline.smembers(f"{_PREFIX}u:{id_}")
                pipeline.smembers(f"{_PREFIX}d:{id_}")
            return list(pipeline.execute())

    def _queue_lengths(self, names: Sequence[str]) -> list[int]:
        with self._redis.pipeline(transaction=False) as pipeline:
            for name in names:
                pipeline.zcard(f"{_PREFIX}q:{name}")
            return [int(length) for length in pipeline.execute()]

    def _first_queued_at(self, names: Sequence[str]) -> dict[str, float]:
        found = {name: _strings(self._redis.zrange(f"{_PREFIX}q:{name}", 0, 0)) for name in names}
        return {
            name: _seconds(str(self._redis.hget(f"{_PREFIX}j:{ids[0]}", "queued_at") or 0))
            for name, ids in found.items()
            if ids
        }

    def _remember(self, seconds: Mapping[str, int]) -> None:
        with self._redis.pipeline(transaction=False) as pipeline:
            for subject, value in seconds.items():
                pipeline.hsetnx(f"{_PREFIX}seconds", subject, str(value))
            pipeline.execute()

    def _unfinished_ids(self, limit: int) -> list[str]:
        ids = _strings(self._redis.zrange(f"{_PREFIX}lease", 0, limit - 1))
        for name in sorted(_strings(self._redis.smembers(f"{_PREFIX}queues"))):
            ids += _strings(self._redis.zrange(f"{_PREFIX}q:{name}", 0, limit - 1))
        return ids + list(islice(map(str, self._redis.sscan_iter(f"{_PREFIX}waiting", count=_BATCH)), limit))

    def _matching(self, pattern: str, skipped: int) -> set[str]:
        found: set[str] = set()
        for key in self._redis.scan_iter(match=pattern, count=_BATCH):
            found.add(str(key)[skipped:])
            if len(found) == _FOUND_JOBS:
                break
        return found

    def _waiting_ids(self) -> Iterator[list[str]]:
        cursor = 0
        while True:
            cursor, ids = self._patiently(partial(self._scan_waiting, cursor))
            if ids:
                yield ids
            if cursor == 0:
                return

    def _scan_waiting(self, cursor: int) -> tuple[int, list[str]]:
        following, ids = self._redis.sscan(f"{_PREFIX}waiting", cursor, count=_BATCH)
        return int(following), _strings(ids)


def _script_text(operation: str) -> str:
    folder = files("wheelfarm_services.ledger")
    parts = ("prelude", "lines", "moves", operation)
    return "\n".join((folder / f"{name}.lua").read_text(encoding="utf-8") for name in parts)


def _flattened(jobs: Iterable[Submission]) -> Iterator[str | int]:
    return chain.from_iterable((job.id, job.queue, job.subject, ceil(job.seconds), job.spec) for job in jobs)


def _queue_counts(name: str, counted: Mapping[str, str], oldest_s: float) -> QueueCounts:
    counts = {state: int(counted.get(f"{state} {name}", 0)) for state in JobState}
    return QueueCounts(
        live={state: count for state, count in counts.items() if not state.final},
        ended={state: count for state, count in counts.items() if state.final},
        oldest_s=max(0.0, oldest_s),
    )


def _strings(values: Iterable[Any]) -> list[str]:
    return [str(value) for value in values]


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _seconds(ms: str) -> float:
    return int(ms or 0) / 1000


def _worker_lost(message: str) -> str:
    failure = Failure(failure_class=FailureClass.WORKER_LOST, error=WorkerLost.code, message=message)
    return json.dumps(failure.to_json())


def _record(job_id: str, fields: Mapping[str, str], waits_for: Iterable[str], dependencies: Iterable[str]) -> JobRecord:
    return JobRecord(
        id=job_id,
        queue=fields["queue"],
        state=JobState(fields["state"]),
        spec=fields["spec"],
        result=fields["result"],
        failure=fields["failure"],
        cause=fields["cause"],
        attempt=int(fields["attempt"]),
        priority=int(fields["priority"]),
        worker=fields["worker"],
        queued_at=_seconds(fields["queued_at"]),
        started_at=_seconds(fields["started_at"]),
        finished_at=_seconds(fields["finished_at"]),
        waits_for=tuple(sorted(waits_for)),
        dependencies=tuple(sorted(dependencies)),
        cancel=bool(fields["cancel"]),
    )
