"""The worker: `python -m wheelfarm_workers QUEUE…` takes jobs of these queues until it is told to stop."""

import errno
import json
import logging
import os
import sys
import uuid
from pathlib import Path
from typing import NoReturn

from celery.apps.worker import Worker
from celery.signals import setup_logging

from wheelfarm.errors import InputError, WheelfarmError
from wheelfarm.farm import Farm
from wheelfarm.settings import Settings
from wheelfarm_services.ledger import Ledger
from wheelfarm_services.logs import log_to_stderr
from wheelfarm_services.store import open_store
from wheelfarm_services.wakeups import TASK, Wakeups, celery_app, celery_queue, farm_queue
from wheelfarm_services.wheel_index import WheelIndex
from wheelfarm_workers.driver import lay_out_driver
from wheelfarm_workers.failure import disk_full
from wheelfarm_workers.job_run import JobRunner
from wheelfarm_workers.pipeline import Pipeline
from wheelfarm_workers.sandbox import Limits, Sandbox
from wheelfarm_workers.sandbox.bubblewrap import BubblewrapSandbox
from wheelfarm_workers.sandbox.unconfined import UnconfinedSandbox

logger = logging.getLogger(__name__)

_PLANNING = 1
"""How many jobs are planned or published while every slot builds; more would keep jobs from other workers."""


def main() -> None:
    """Run a worker. What keeps it from starting goes, as JSON, to stdout's last line, and its code to the status."""
    log_to_stderr()
    try:
        settings = Settings.from_environment(os.environ, required=["url", "broker"])
        if not sys.argv[1:]:
            raise InputError("A worker needs the queues to serve.")
        run_worker(settings, sys.argv[1:])
    except WheelfarmError as error:
        _refuse(error)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        _refuse(disk_full(error))


def _refuse(error: WheelfarmError) -> NoReturn:
    print(json.dumps(error.to_json()), flush=True)
    sys.exit(error.exit_code)


def run_worker(settings: Settings, queues: list[str]) -> None:
    """Serve the queues with as many slots as the settings give, until SIGTERM."""
    cache = settings.cache / "worker"
    cache.mkdir(parents=True, exist_ok=True)
    limits = Limits(
        wall_s=settings.build_timeout_s,
        memory_bytes=settings.build_memory_mib << 20,
        build_bytes=settings.build_disk_mib << 20,
    )
    sandbox = open_sandbox(settings, cache)
    try:
        sandbox.probe()
        app = celery_app(settings.broker)
        ledger = Ledger(settings.broker, wake=Wakeups(app))
        store = open_store(settings)
        pipeline = Pipeline(
            store=store,
            wheels=WheelIndex(store),
            farm=Farm(settings.url, settings.token),
            sandbox=sandbox,
            driver=lay_out_driver(cache),
            cache=cache,
            limits=limits,
            cores=settings.build_cores or cores_of(limits),
        )
        name = settings.worker or uuid.uuid4().hex
        if settings.worker:
            ledger.release(name)
        runner = JobRunner(ledger=ledger, store=store, pipeline=pipeline, worker=name, lease_s=settings.lease_s)

        @app.task(name=TASK, bind=True)  # type: ignore[untyped-decorator]
        def run(task: object) -> None:
            runner.run_all(farm_queue(task.request.delivery_info["routing_key"]))  # type: ignore[attr-defined]

        serve(app, queues, settings.slots + _PLANNING)
    finally:
        sandbox.close()


def cores_of(limits: Limits) -> int:
    """How many cores one build may use: all of the worker's, for other slots are often idle and the kernel shares
    fairly where they are not, but no more than its memory is enough for at 1 GiB each."""
    return max(1, min(len(os.sched_getaffinity(0)), limits.memory_bytes >> 30))


def open_sandbox(settings: Settings, cache: Path) -> Sandbox:
    """The sandbox back end that the settings name."""
    if settings.sandbox == "none":
        logger.warning("builds are not isolated: --sandbox none")
        return UnconfinedSandbox(slots=settings.slots, work_dir=cache)
    return BubblewrapSandbox(slots=settings.slots, work_dir=cache)


def serve(app: object, queues: list[str], threads: int) -> None:
    """Consume tokens in a pool of so many threads; the remote control that a farm does not use is left out."""
    setup_logging.connect(_leave_logging_alone)
    worker = Worker(
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
    )
    worker.start()


def _leave_logging_alone(**_: object) -> None:
    """A receiver of this signal keeps Celery from configuring the loggers itself."""


if __name__ == "__main__":
    main()
