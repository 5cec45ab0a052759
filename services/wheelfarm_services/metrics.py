"""Every metric of the farm, declared once. Units stand in the names; labels come from closed sets, never from sdists.

What the ledger and the fleet know (`LedgerMetrics`) is told alike by each API and each reconciler: take the maximum
over them. Everything else is of the process that tells it: sum over those.
"""

import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from wheelfarm import __version__
from wheelfarm.errors import FarmUnavailable
from wheelfarm.traces import Span, span

if TYPE_CHECKING:  # all of these are measured, and so import this module
    from wheelfarm_services.fleet import Fleet
    from wheelfarm_services.ledger import Ledger, Lookups, QueueCounts
    from wheelfarm_services.store import Store

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"

REGISTRY = CollectorRegistry(auto_describe=False)
"""What this process counts itself."""
ProcessCollector(registry=REGISTRY)

_OF_JOBS = (0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200)
_OF_CALLS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_REVISION = re.compile(r"\.[0-9a-f]{16}$")

BUILD_INFO = Gauge("wheelfarm_build_info", "The version that runs; always 1.", ["version"], registry=REGISTRY)
BUILD_INFO.labels(__version__).set(1)

JOB_WAIT = Histogram(
    "wheelfarm_job_wait_seconds",
    "How long jobs could be claimed before a worker claimed them.",
    ["target"],
    buckets=_OF_JOBS,
    registry=REGISTRY,
)
JOB_SECONDS = Histogram(
    "wheelfarm_job_seconds",
    "How long a worker was at a job, by how that turn of it ended.",
    ["target", "kind", "outcome"],
    buckets=_OF_JOBS,
    registry=REGISTRY,
)
PHASE_SECONDS = Histogram(
    "wheelfarm_phase_seconds",
    "How long the phases of jobs took.",
    ["phase"],
    buckets=_OF_JOBS,
    registry=REGISTRY,
)
FAILURES = Counter(
    "wheelfarm_job_failures_total",
    "Turns of jobs that ended in a failure, retried or not, by its class.",
    ["target", "failure_class"],
    registry=REGISTRY,
)
RECONCILED = Gauge(
    "wheelfarm_reconciled_timestamp_seconds",
    "When this process last finished a round of repairs, in seconds since the epoch.",
    registry=REGISTRY,
)
LEASES_LAPSED = Counter(
    "wheelfarm_leases_lapsed_total", "Leases that ended without a word of their workers.", registry=REGISTRY
)
TOKENS_REPUBLISHED = Counter(
    "wheelfarm_tokens_republished_total", "Wake-ups of workers that were lost, and published anew.", registry=REGISTRY
)
REQUESTS_RESUBMITTED = Counter(
    "wheelfarm_requests_resubmitted_total", "Open requests that Redis had forgotten.", registry=REGISTRY
)
STORE_SECONDS = Histogram(
    "wheelfarm_store_seconds",
    "How long operations of the store took.",
    ["operation", "outcome"],
    buckets=_OF_CALLS,
    registry=REGISTRY,
)
UPSTREAM_SECONDS = Histogram(
    "wheelfarm_upstream_seconds",
    "How long an upstream index took to begin its answer, by the status's first digit.",
    ["upstream", "outcome"],
    buckets=_OF_CALLS,
    registry=REGISTRY,
)
API_SECONDS = Histogram(
    "wheelfarm_api_seconds",
    "How long the API took to begin its answer, by operation and the status's first digit.",
    ["operation", "outcome"],
    buckets=_OF_CALLS,
    registry=REGISTRY,
)

_STORE_OPERATIONS = (
    *("get", "get_with_etag", "open", "size", "put", "put_file", "renew", "put_new", "replace"),
    *("delete", "delete_older", "move"),
)


def target_of(queue: str) -> str:
    """The name of the target that a queue is of, without its revision."""
    return _REVISION.sub("", queue)


def status_class(status: int) -> str:
    """A status as a label: `2xx`."""
    return f"{status // 100}xx"


@contextmanager
def phase(name: str) -> Iterator[None]:
    """Observe the phase of a job that is run within: stage, plan, environment, build, check, finish, test or publish.
    It is a span of the job's trace, too."""
    with span(name), PHASE_SECONDS.labels(name).time():
        yield


@contextmanager
def timed(histogram: Histogram, label: str) -> Iterator[None]:
    """Observe what is run within, with the outcome `ok` or `error`."""
    began, outcome = time.monotonic(), "error"
    try:
        yield
        outcome = "ok"
    finally:
        histogram.labels(label, outcome).observe(time.monotonic() - began)


class JobTurn:
    """A worker's turn at a job of a queue, from now to its end; `kind` is told once it is known."""

    def __init__(self, queue: str, traced: Span) -> None:
        self.kind = "unknown"
        self._traced = traced
        self._target = target_of(queue)
        self._began = time.monotonic()

    def ended(self, outcome: str) -> None:
        """Observe it, as done, suspended (until its dependencies are done), failed, handed_back or lost."""
        JOB_SECONDS.labels(self._target, self.kind, outcome).observe(time.monotonic() - self._began)
        self._traced.note(outcome=outcome)


class _MeasuredStore:
    def __init__(self, store: "Store") -> None:
        self._store = store

    def __getattr__(self, name: str) -> object:
        operation = getattr(self._store, name)
        if name not in _STORE_OPERATIONS:
            return operation

        def measured(*arguments: object, **named: object) -> object:
            with timed(STORE_SECONDS, name):
                return operation(*arguments, **named)

        return measured


def measured_store(store: "Store") -> "Store":
    """The store, with the time of its single operations observed; listings are not, for they last as long as their
    readers take."""
    return cast("Store", _MeasuredStore(store))


class LedgerMetrics(Collector):
    """What Redis knows of the farm, read at each scrape. Without Redis it tells that alone."""

    def __init__(self, ledger: "Ledger", fleet: "Fleet") -> None:
        self._ledger = ledger
        self._fleet = fleet

    def collect(self) -> Iterable[Metric]:
        """The families of metrics."""
        broker = GaugeMetricFamily("wheelfarm_broker_up", "Whether Redis answers this process.")
        try:
            told = [*self._jobs(self._ledger.counts()), self._lookups(self._ledger.lookups()), *self._workers()]
        except FarmUnavailable:
            told = []
        broker.add_metric([], float(bool(told)))
        return [broker, *told]

    def _jobs(self, queues: "dict[str, QueueCounts]") -> Iterator[Metric]:
        live = GaugeMetricFamily("wheelfarm_jobs", "Jobs that are not over.", labels=["target", "state"])
        ended = CounterMetricFamily("wheelfarm_jobs_ended", "Jobs that came to an end.", labels=["target", "state"])
        oldest = GaugeMetricFamily(
            "wheelfarm_oldest_queued_seconds", "For how long the job waits that waits longest.", labels=["target"]
        )
        by_target: dict[str, list[QueueCounts]] = {}
        for queue, counts in queues.items():
            by_target.setdefault(target_of(queue), []).append(counts)
        for target, revisions in by_target.items():
            for family, of in ((live, "live"), (ended, "ended")):
                for state in getattr(revisions[0], of):
                    family.add_metric([target, state.value], sum(getattr(one, of)[state] for one in revisions))
            oldest.add_metric([target], max(one.oldest_s for one in revisions))
        return iter((live, ended, oldest))

    def _lookups(self, lookups: "Lookups") -> Metric:
        family = CounterMetricFamily(
            "wheelfarm_lookups",
            "Jobs that requests asked for: hit (it was made), coalesced (it was being made), miss.",
            labels=["outcome"],
        )
        for outcome, count in lookups.items():
            family.add_metric([outcome], count)
        return family

    def _workers(self) -> Iterator[Metric]:
        workers = GaugeMetricFamily("wheelfarm_workers", "Workers that live.", labels=["target", "state"])
        slots = GaugeMetricFamily("wheelfarm_slots", "Builds that the workers run at once.", labels=["target"])
        living = [one.record for one in self._fleet.workers()]
        for target in sorted({target.name for record in living for target in record.targets}):
            serving = [record for record in living if target in {one.name for one in record.targets}]
            for state, drains in (("serves", False), ("drains", True)):
                workers.add_metric([target, state], sum(record.drains is drains for record in serving))
            slots.add_metric([target], sum(record.slots for record in serving if not record.drains))
        return iter((workers, slots))


def exposition(ledger: Collector | None = None) -> bytes:
    """The metrics of this process and, given them, of the ledger, in Prometheus's text format."""
    if ledger is None:
        return generate_latest(REGISTRY)
    shared = CollectorRegistry(auto_describe=False)
    shared.register(ledger)
    return generate_latest(REGISTRY) + generate_latest(shared)
