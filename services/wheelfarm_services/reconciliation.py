"""Reconciliation: stateless repairs of whatever a crash can leave behind. Any number may run at once."""

import logging
import threading
from collections.abc import Callable
from typing import Protocol

from redis import Redis

from wheelfarm.errors import WheelfarmError
from wheelfarm_services import metrics, upstream_watch
from wheelfarm_services.ledger import Ledger
from wheelfarm_services.wakeups import celery_queue

logger = logging.getLogger(__name__)

_BEGUN_EVERY_S = 7 * 86400


class OpenRequests(Protocol):
    def resubmit(self) -> int: ...

    def close_expired(self) -> int: ...


class StalePages(Protocol):
    def render_stale(self) -> int: ...


class Reconciler:
    """Republishes missing tokens, reaps lapsed leases, audits waiting jobs, resubmits open requests, gives up those
    of clients that are gone, and brings the index's pages up to date. What is to be done once with a ledger that
    begins, by itself or anew, `begin` does; `watch` is done once in a while, by one of all reconcilers, beside the
    rest."""

    def __init__(
        self,
        ledger: Ledger,
        redis: Redis,
        requests: OpenRequests,
        wake: Callable[[str], None],
        pages: StalePages,
        *,
        every_s: float,
        begin: Callable[[], None] = lambda: None,
        watch: Callable[[], object] = lambda: None,
    ) -> None:
        self._ledger = ledger
        self._redis = redis
        self._requests = requests
        self._wake = wake
        self._pages = pages
        self._every_s = every_s
        self._begin = begin
        self._watch = watch
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self.run, name="reconciler", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    def run(self) -> None:
        """Reconcile until it is stopped, in this thread."""
        while not self._stop.wait(self._every_s):
            try:
                self.reconcile()
            except WheelfarmError as error:
                logger.warning("reconciliation put off", extra={"reason": error.message})
            except Exception:  # a repair that fails must never end the repairs
                logger.exception("reconciliation failed")

    def reconcile(self) -> None:
        """One round of repairs, unless another reconciler has just begun one."""
        if not self._ledger.take_turn("reconcile", 0.9 * self._every_s):
            metrics.RECONCILED.set_to_current_time()  # by another one, just now
            return
        if self._ledger.take_turn("begin", _BEGUN_EVERY_S):  # so also when Redis has been emptied
            threading.Thread(target=self._begin, name="begin", daemon=True).start()
        if self._ledger.take_turn("watch", upstream_watch.EVERY_S):
            threading.Thread(target=self._watched, name="watch", daemon=True).start()
        self._requests.close_expired()
        if resubmitted := self._requests.resubmit():
            metrics.REQUESTS_RESUBMITTED.inc(resubmitted)
            logger.warning("open requests resubmitted", extra={"count": resubmitted})
        if reaped := self._ledger.reap():
            metrics.LEASES_LAPSED.inc(reaped)
            logger.warning("leases lapsed", extra={"count": reaped})
        self._ledger.audit()
        self._republish()
        self._pages.render_stale()
        metrics.RECONCILED.set_to_current_time()

    def _watched(self) -> None:
        try:
            self._watch()
        except Exception:  # an hour later it is tried again
            logger.exception("upstream can't be followed")

    def _republish(self) -> None:
        lengths = {queue: self._redis.llen(celery_queue(queue)) for queue in self._ledger.queues()}
        for queue, missing in self._ledger.unpublished(lengths).items():
            for _ in range(missing):
                self._wake(queue)
                metrics.TOKENS_REPUBLISHED.inc()
