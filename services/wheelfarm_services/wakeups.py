"""Celery's part in the farm: interchangeable wake-up tokens, "there is work on queue Q".

The ledger owns the jobs. A lost token is published again by the reconciler, a doubled one finds nothing to claim, so
acknowledgement is early and there is no result backend (the settings that matter, and why: docs/architecture.md).
Prefetching is left on: without it a worker whose slots are full looks at its queue only once a second.
"""

import logging

from celery import Celery

logger = logging.getLogger(__name__)

TASK = "wheelfarm.run"
_QUEUE = "wheelfarm."


def celery_app(broker: str) -> Celery:
    """The Celery application of a farm, on its broker URL."""
    app = Celery("wheelfarm", broker=broker, set_as_current=False)
    app.conf.update(
        task_ignore_result=True,
        task_acks_late=False,
        task_default_queue=_QUEUE + "none",
        task_serializer="json",
        accept_content=["json"],
        worker_prefetch_multiplier=1,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            "visibility_timeout": 3600,
            "unacked_restore_interval": 10,
            "unacked_restore_throttle": 1,
            "socket_timeout": 10,
            "socket_connect_timeout": 5,
            "health_check_interval": 10,
        },
        task_publish_retry_policy={"max_retries": 1, "interval_start": 0, "interval_max": 0.2},
    )
    return app


def celery_queue(queue: str) -> str:
    """The Celery queue (a Redis list of that name) that carries the tokens of a farm queue."""
    return _QUEUE + queue


def farm_queue(celery_name: str) -> str:
    """The farm queue whose tokens a Celery queue carries."""
    return celery_name.removeprefix(_QUEUE)


class Wakeups:
    """Publishes tokens; instances are called with the queue's name."""

    def __init__(self, app: Celery) -> None:
        self._app = app

    def __call__(self, queue: str) -> None:
        self._app.send_task(TASK, queue=celery_queue(queue))
