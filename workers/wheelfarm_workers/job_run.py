"""One turn of a worker: claim a job, hold it with heartbeats, run the pipeline, tell the ledger how it ended."""

import json
import logging
import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, Self

from wheelfarm.errors import BuildCycle, FarmUnavailable, JobCancelled, WheelfarmError
from wheelfarm.job import Failure, FailureClass, Job
from wheelfarm.traces import Span, span, trace_id, traceparent
from wheelfarm_services import metrics
from wheelfarm_services.ledger import Beat, Claim, JobRecord, Ledger, SuspensionOutcome
from wheelfarm_services.log_writer import LogWriter, RunLog
from wheelfarm_services.logs import bound, carrier
from wheelfarm_services.submissions import submission_of
from wheelfarm_workers.failure import MOST_ATTEMPTS, REMEMBERED_S, JobFailed, failure_of, retry_pause_s
from wheelfarm_workers.hold import CycleClosed, Hold, Suspended

logger = logging.getLogger(__name__)


class JobPipeline(Protocol):
    def run(self, job: Job, hold: Hold) -> dict[str, Any]: ...


class JobRunner:
    """Runs the jobs of one worker; its methods may be called from several threads at once. `ending` is set when what
    runs shall be handed back, for those that wait to see it."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        logs: LogWriter,
        pipeline: JobPipeline,
        worker: str,
        lease_s: float,
        ending: threading.Event,
    ) -> None:
        self._ledger = ledger
        self._logs = logs
        self._pipeline = pipeline
        self._worker = worker
        self._lease_s = lease_s
        self._holds: set[ClaimedHold] = set()
        self._changed = threading.Condition()
        self._takes_new = True
        self._ending = ending

    def run_all(self, queue: str) -> None:
        """Run jobs of the queue until none can be claimed: one token is enough to wake a slot, and slots don't wait
        for Celery to poll between two jobs."""
        while self.run_next(queue):
            pass

    def run_next(self, queue: str) -> bool:
        """Claim a job of the queue and see it to its end or to its suspension; False where there was none, and once
        the worker takes no new ones."""
        claim = self._ledger.claim(queue, worker=self._worker, lease_s=self._lease_s) if self._takes_new else None
        if claim is None:
            return False
        self._run(claim)
        return True

    def stop_claiming(self) -> None:
        """Take no new jobs."""
        self._takes_new = False

    def hand_back(self) -> None:
        """End what runs, sandboxes included; each job is queued again as soon as it has ended."""
        with self._changed:
            self._ending.set()
            for hold in self._holds:
                hold.hand_back()

    def abandon(self) -> None:
        """Queue again what still has not ended; what it may yet do does no harm, for all of it is safe to repeat."""
        with self._changed:
            left = list(self._holds)
        for hold in left:
            hold.carry(self._return, hold)

    def wait_until_idle(self, timeout_s: float) -> bool:
        """Whether no job runs, now or within that time."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._holds, timeout_s)

    def _run(self, claim: Claim) -> None:
        target = metrics.target_of(claim.queue)
        metrics.JOB_WAIT.labels(target).observe(claim.waited_s)
        with _traced(claim, target) as traced, bound(job=claim.job_id[:12], target=target, **_trace()):
            log = self._logs.begin(claim.job_id, claim.attempt)
            with ClaimedHold(self._ledger, claim, self._lease_s, log) as hold:
                with self._changed:
                    self._holds.add(hold)
                    if self._ending.is_set():
                        hold.hand_back()
                try:
                    self._run_held(claim, hold, log, traced)
                finally:
                    self._logs.end(log)
                    with self._changed:
                        self._holds.discard(hold)
                        self._changed.notify_all()

    def _run_held(self, claim: Claim, hold: "ClaimedHold", log: RunLog, traced: Span) -> None:
        facts: dict[str, str] = {}
        turn = metrics.JobTurn(claim.queue, traced)
        try:
            job = Job.from_json(json.loads(claim.spec))
            facts |= {"sdist": str(job.sdist), "kind": job.kind}
            turn.kind = job.kind
            traced.note(**facts)
            begun = time.monotonic()
            result = self._pipeline.run(job, hold)
            # Without a log nothing was built: the result was there already, and says nothing of how long others take.
            seconds = time.monotonic() - begun if hold.whole_log() else 0.0
            self._logs.keep(log)
            self._ledger.complete(claim, json.dumps(result), seconds=seconds)
            turn.ended("done")
            logger.info("job done", extra=facts)
        except Suspended:
            turn.ended("suspended")
            logger.info("job waits", extra=facts)
        except Exception as error:
            if hold.handed_back and not hold.lost:
                turn.ended("handed_back")
                self._return(hold)
            else:
                turn.ended("lost" if hold.lost else "failed")
                self._fail(claim, hold, log, error, facts, traced)

    def _return(self, hold: "ClaimedHold") -> None:
        try:
            outcome = self._ledger.hand_back(hold.claim)
        except WheelfarmError as error:
            logger.warning("job not handed back", extra={"reason": error.message})
        else:
            logger.info("job handed back", extra={"outcome": outcome})

    def _fail(
        self,
        claim: Claim,
        hold: "ClaimedHold",
        log: RunLog,
        error: Exception,
        facts: dict[str, str],
        traced: Span,
    ) -> None:
        if hold.lost:
            logger.warning("job lost to another worker", extra=facts)
            return
        if not isinstance(error, WheelfarmError | JobFailed):
            logger.exception("job ended by a fault of the farm", extra=facts)
        failure = failure_of(error, hold.whole_log(), facts.get("sdist", "").partition("==")[0])
        metrics.FAILURES.labels(metrics.target_of(claim.queue), failure.failure_class).inc()
        traced.fail(failure.failure_class)
        try:
            self._logs.keep(log)
        except WheelfarmError:
            logger.warning("build log not kept", extra=facts)
        self._ledger.fail(
            claim,
            json.dumps(failure.to_json()),
            retry=failure.failure_class in MOST_ATTEMPTS,
            remember_s=REMEMBERED_S[failure.failure_class],
            max_attempts=MOST_ATTEMPTS.get(failure.failure_class, 1),
            pause_s=retry_pause_s(failure.failure_class, claim.attempt, random.random()),  # noqa: S311 - no secret
        )
        logger.info("job failed", extra={**facts, "reason": failure.message})


@contextmanager
def _traced(claim: Claim, target: str) -> Iterator[Span]:
    """The span of a turn, as a part of what wanted the job; it begins when the job could be claimed."""
    began = time.time() - claim.waited_s
    with span(
        "job",
        role="consumer",
        parent=claim.trace,
        began=began,
        job=claim.job_id,
        target=target,
        attempt=claim.attempt,
    ) as traced:
        with span("wait", began=began):
            pass
        yield traced


def _trace() -> dict[str, str]:
    """The trace of the turn, for its logs."""
    found = trace_id()
    return {"trace": found} if found else {}


class ClaimedHold:
    """The hold on a claimed job: heartbeats from a thread of its own, its dependencies, its log.

    `cancelled` is set when the job was cancelled, when another worker has taken it over (`lost`) and when another shall
    (`handed_back`); a ledger that does not answer or has forgotten the job changes nothing, for the result is safe in
    the store. `carry` calls in other threads as in that which made it, so that logs tell the job.
    """

    def __init__(self, ledger: Ledger, claim: Claim, lease_s: float, log: RunLog) -> None:
        self.cancelled = threading.Event()
        self.attempt = claim.attempt
        self.forced_at = claim.forced_at
        self.lost = False
        self.handed_back = False
        self.claim = claim
        self._ledger = ledger
        self._lease_s = lease_s
        self._log = log
        self._over = threading.Event()
        self.carry = carrier()
        name = f"beat-{claim.job_id[:8]}"
        self._thread = threading.Thread(target=self.carry, args=(self._beat,), name=name, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(timeout=1.0)

    def hand_back(self) -> None:
        """End the job's work here, for another worker to do it."""
        self.handed_back = True
        self.cancelled.set()

    def log(self, data: bytes) -> None:
        """Add to the build log; the sandbox bounds its length."""
        self._log.write(data)

    def whole_log(self) -> bytes:
        return self._log.whole()

    def require(self, jobs: Sequence[Job], *, tolerant: bool = False) -> None:
        """See `wheelfarm_workers.hold.Hold.require`."""
        submissions = [submission_of(job) for job in jobs]
        suspension = self._ledger.suspend(self.claim, submissions, tolerant=tolerant, trace=traceparent())
        match suspension.outcome:
            case SuspensionOutcome.READY:
                return
            case SuspensionOutcome.WAITING:
                raise Suspended
            case SuspensionOutcome.CYCLE:
                raise _cycle(self._ledger, suspension.members, jobs)
            case SuspensionOutcome.DEPENDENCY_FAILED:
                raise _dependency_failed(self._ledger, suspension.members, jobs)
            case SuspensionOutcome.LOST:
                self.lost = True
                raise JobCancelled("Another worker has taken the job over.")
            case SuspensionOutcome.UNKNOWN:
                self.lost = True
                raise FarmUnavailable("The ledger has forgotten the job; it will be submitted again.")
            case SuspensionOutcome.TOO_LARGE:
                raise BuildCycle("The build requirements form a graph too large to be checked for cycles.")

    def is_wanted(self, job: Job) -> bool:
        """See `wheelfarm_workers.hold.Hold.is_wanted`."""
        record = self._ledger.job(job.id)
        return record is not None and not record.state.final

    def forget(self, jobs: Sequence[Job]) -> None:
        """See `wheelfarm_workers.hold.Hold.forget`."""
        self._ledger.forget([job.id for job in jobs])

    def _beat(self) -> None:
        while not self._over.wait(self._lease_s / 4):
            try:
                answer = self._ledger.beat(self.claim, lease_s=self._lease_s)
            except WheelfarmError as error:
                logger.warning("lease not renewed", extra={"reason": error.message})
                continue
            if answer in (Beat.CANCEL, Beat.LOST):
                self.lost = answer is Beat.LOST
                self.cancelled.set()
                return


def _cycle(ledger: Ledger, members: Sequence[str], jobs: Sequence[Job]) -> CycleClosed:
    """The cycle that members[0] would close by waiting for members[1], which is one of `jobs`."""
    named = [_named(ledger.job(job_id), job_id) for job_id in members]
    distinct = [name for number, name in enumerate(named) if number == 0 or name != named[number - 1]]
    error = BuildCycle(
        f"These projects need each other to be built: {' -> '.join(distinct)}.",
        hint="Ask for a version of one of them that does not, or give one a recipe with build-requirements that do.",
    )
    return CycleClosed(error, next(job.sdist for job in jobs if job.id == members[1]))


def _named(record: JobRecord | None, job_id: str) -> str:
    return str(Job.from_json(json.loads(record.spec)).sdist) if record else f"job {job_id[:12]}"


def _dependency_failed(ledger: Ledger, members: Sequence[str], jobs: Sequence[Job]) -> JobFailed | CycleClosed:
    """The reason of the first of the failed `members`, which are among `jobs`."""
    record = ledger.job(members[0]) if members else None
    root = ledger.job(record.cause) if record and record.cause else record
    if root is None or not root.failure:
        reason = Failure(
            failure_class=FailureClass.DEPENDENCY,
            error=FarmUnavailable.code,
            message="A build requirement failed.",
        )
        return JobFailed(reason)
    told = Failure.from_json(json.loads(root.failure)).to_json()
    if told["error"] == BuildCycle.code:
        sdist = next(job.sdist for job in jobs if job.id == members[0])
        return CycleClosed(BuildCycle(told["message"], hint=told["hint"]), sdist)
    cause = told["cause"] or root.id
    return JobFailed(Failure.from_json({**told, "failure_class": FailureClass.DEPENDENCY, "cause": cause}))
