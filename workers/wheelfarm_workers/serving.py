"""Celery's worker as the farm uses it: a pool of threads that tokens wake, without remote control or clustering."""

import signal
import uuid
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from celery import Celery
from celery.apps.worker import Worker
from celery.exceptions import SecurityWarning
from celery.signals import setup_logging
from celery.worker import state

from wheelfarm_services.wakeups import TASK, celery_queue, farm_queue


class _Worker(Worker):  # type: ignore[misc]
    """Celery's own way of reacting to signals waits for running tasks without end, so it is left out."""

    def install_platform_tweaks(self, worker: Any) -> None:
        pass


def serve(
    app: Celery, queues: Sequence[str], run: Callable[[str], None], *, threads: int, stop: Callable[[], None]
) -> None:
    """Call `run` with the queue's name for each token, in so many threads at once, until the first SIGTERM or SIGINT;
    returns when those that run have returned. `stop` is called at every such signal."""
    setup_logging.connect(_leave_logging_alone)
    # a worker of root's runs its sandboxes as other users, and takes nothing but strings from its queue
    warnings.simplefilter("ignore", SecurityWarning)

    @app.task(name=TASK, bind=True)  # type: ignore[untyped-decorator]
    def woken(task: Any) -> None:
        run(farm_queue(task.request.delivery_info["routing_key"]))

    def signalled(*_: object) -> None:
        state.should_stop = 0  # with this exit code
        stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signalled)
    _Worker(
        app=app,
        hostname=f"wheelfarm@{uuid.uuid4().hex[:8]}",
        pool_cls="threads",
        concurrency=threads,
        queues=[celery_queue(queue) for queue in queues],
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        quiet=True,
        redirect_stdouts=False,
    ).start()


def _leave_logging_alone(**_: object) -> None:
    """A receiver of this signal keeps Celery from configuring the loggers itself."""
