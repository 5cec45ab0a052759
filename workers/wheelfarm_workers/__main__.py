"""The worker: `python -m wheelfarm_workers` takes jobs until it is told to stop; `wheelfarm worker` starts it."""

import errno
import logging
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import click

from wheelfarm import __version__
from wheelfarm.errors import InputError, WheelfarmError
from wheelfarm.farm import Farm
from wheelfarm.settings import Settings, require_all
from wheelfarm.traces import tracing
from wheelfarm.worker import ServedTarget, WorkerRecord
from wheelfarm_services.fleet import Fleet
from wheelfarm_services.garbage_collector import spare_what_lasts
from wheelfarm_services.ledger import Ledger, redis_client
from wheelfarm_services.log_writer import LogWriter
from wheelfarm_services.logs import configure_logs, log_to_stderr
from wheelfarm_services.metrics_server import metrics_told
from wheelfarm_services.refusal import refuse
from wheelfarm_services.store import Store, open_store
from wheelfarm_services.targets import define, queue_of
from wheelfarm_services.wakeups import Wakeups, celery_app
from wheelfarm_services.wheel_index import WheelIndex
from wheelfarm_workers.cache_bound import CacheBound
from wheelfarm_workers.distributions import Distributions
from wheelfarm_workers.drain import Drain
from wheelfarm_workers.driver import lay_out_driver
from wheelfarm_workers.failure import disk_full
from wheelfarm_workers.finishing import Finisher, lay_out_finisher
from wheelfarm_workers.grounds import DefinedGrounds, Definitions
from wheelfarm_workers.job_run import JobRunner
from wheelfarm_workers.patient_store import PatientStore, open_patiently
from wheelfarm_workers.pipeline import Pipeline
from wheelfarm_workers.presence import Presence
from wheelfarm_workers.roots import Roots
from wheelfarm_workers.sandbox import Limits
from wheelfarm_workers.sandbox.back_ends import BackEnds
from wheelfarm_workers.serving import serve
from wheelfarm_workers.targets import OwnTargets, RegisteredTargets, TargetBook, own_target, read_again
from wheelfarm_workers.trial import lay_out_trial
from wheelfarm_workers.workplace import clear_abandoned, open_workplace

logger = logging.getLogger(__name__)

_BEGINNING_S = 60.0
"""How long a worker waits at its start for a store that is not there yet."""
_PLANNING = 1
"""How many jobs are planned or published while every slot builds; more would keep jobs from other workers."""


@click.command()
@click.argument("queues", nargs=-1)
@click.option("--target", "targets", multiple=True, help="What to build for: host, host:PYTHON or a definition's name.")
@click.option("--json", "as_json", is_flag=True, help="Tell as JSON what keeps the worker from running.")
def main(queues: tuple[str, ...], targets: tuple[str, ...], as_json: bool) -> None:
    """Run a worker. The QUEUES are those of an embedded farm, whose commands register what they want wheels for."""
    log_to_stderr()
    try:
        settings = Settings.from_environment(os.environ, required=["url", "broker"])
        if not queues and not targets:
            raise InputError("A worker needs targets to serve.", hint="Give it --target host")
        run_worker(settings, queues, targets)
    except WheelfarmError as error:
        refuse(error, as_json=as_json)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        refuse(disk_full(error), as_json=as_json)


def run_worker(settings: Settings, queues: tuple[str, ...], targets: tuple[str, ...]) -> None:
    """Serve the queues, or the queues of these targets, with as many slots as the settings give, until SIGTERM."""
    name = settings.worker or f"{socket.gethostname()[:60]}-{uuid.uuid4().hex[:8]}"
    configure_logs(settings.logs, f"worker-{name}", settings.log_format)
    with ExitStack() as stack:
        stack.enter_context(metrics_told(settings.metrics))
        stack.enter_context(tracing("wheelfarm-worker", os.environ, logger.warning))
        work = _workplace(settings, name, stack)
        runtime = settings.container_runtime
        back_ends = stack.enter_context(BackEnds(slots=settings.slots, work=work, runtime=runtime))
        back_ends.back_end(settings.sandbox)
        definitions = Definitions(settings.targets, cache=settings.cache, resource_class=settings.resource_class)
        own = _own_targets(targets, settings, definitions)
        app = celery_app(settings.broker)
        ledger = Ledger(settings.broker, wake=Wakeups(app))
        ending = threading.Event()
        opened = open_patiently(partial(open_store, settings, create=False), patience_s=_BEGINNING_S)
        store = PatientStore(opened, patience_s=settings.store_patience_s, ending=ending)
        grounds = DefinedGrounds(
            definitions=definitions,
            roots=Roots(settings.targets, settings.cache / "roots"),
            distributions=Distributions(lambda: store, settings.cache / "pythons"),
            back_ends=back_ends,
            host=settings.sandbox,
        )
        for target in own.targets:
            grounds.of(target)
            define(store, target)
        record = worker_record(name, settings, own)
        presence = Presence(Fleet(redis_client(settings.broker)), record, lease_s=settings.lease_s)
        if settings.worker:
            ledger.release(name)
        pipeline = _pipeline(settings, work, store, grounds, own if targets else RegisteredTargets(store))
        stack.enter_context(CacheBound(_cached(settings), work, most_bytes=settings.cache_mib << 20))
        logs = stack.enter_context(LogWriter(redis_client(settings.broker), store))
        runner = JobRunner(
            ledger=ledger, logs=logs, pipeline=pipeline, worker=name, lease_s=settings.lease_s, ending=ending
        )
        drain = Drain(runner, grace_s=settings.drain_s, began=presence.drain, last_act=back_ends.close)
        stack.enter_context(presence)
        served = [*queues, *(target.queue for target in record.targets)]
        spare_what_lasts()
        logger.info("worker serves", extra={"worker": name, "queues": served, "slots": settings.slots})
        serve(app, served, runner.run_all, threads=settings.slots + _PLANNING, stop=drain.signalled)
        logger.info("worker ends", extra={"worker": name})


def _workplace(settings: Settings, name: str, stack: ExitStack) -> Path:
    """The worker's own folder, for as long as the stack lasts; those that dead workers have left are removed."""
    workplace = open_workplace(_cache(settings) / "work", name)
    stack.callback(workplace.close)
    clear_abandoned(_cache(settings) / "work")
    return workplace.path


def _own_targets(targets: Sequence[str], settings: Settings, definitions: Definitions) -> OwnTargets:
    """The targets that the worker was told to serve. It ends when one is not what it was any more. Raises InputError
    telling all that can't be served."""
    require_all(partial(own_target, target, settings, definitions) for target in targets)
    return OwnTargets(
        (own_target(target, settings, definitions) for target in targets),
        again=partial(read_again, settings=settings, definitions=definitions),
        outdated=partial(os.kill, os.getpid(), signal.SIGTERM),
    )


def _pipeline(settings: Settings, work: Path, store: Store, grounds: DefinedGrounds, targets: TargetBook) -> Pipeline:
    cache, limits = _cache(settings), limits_of(settings)
    return Pipeline(
        store=store,
        wheels=WheelIndex(store),
        farm=Farm(settings.url, settings.token),
        grounds=grounds,
        finisher=Finisher(grounds=grounds, tools=lay_out_finisher(cache, work), limits=limits),
        trial=lay_out_trial(cache, work),
        driver=lay_out_driver(cache, work),
        targets=targets,
        cache=cache,
        work=work,
        limits=limits,
        cores=settings.build_cores or cores_of(limits),
    )


def _cache(settings: Settings) -> Path:
    return settings.cache / "worker"


def _cached(settings: Settings) -> list[Path]:
    """The folders whose contents can be made anew."""
    own = _cache(settings)
    return [own / "sdists", own / "trees", settings.cache / "roots", settings.cache / "pythons"]


def worker_record(name: str, settings: Settings, own: OwnTargets) -> WorkerRecord:
    """What a worker tells of itself."""
    return WorkerRecord(
        name=name,
        host=socket.gethostname(),
        pid=os.getpid(),
        targets=tuple(
            ServedTarget(
                name=target.name,
                revision=target.revision,
                queue=queue_of(target),
                python_version=target.python_version,
                platform=target.platform,
            )
            for target in own.targets
        ),
        slots=settings.slots,
        sandbox=settings.sandbox,
        version=__version__,
        started_at=time.time(),
    )


def limits_of(settings: Settings) -> Limits:
    """What one build may use, unless its recipe says otherwise."""
    return Limits(
        wall_s=settings.build_timeout_s,
        memory_bytes=settings.build_memory_mib << 20,
        build_bytes=settings.build_disk_mib << 20,
    )


def cores_of(limits: Limits) -> int:
    """How many cores one build may use: all of the worker's, for other slots are often idle and the kernel shares
    fairly where they are not, but no more than its memory is enough for at 1 GiB each."""
    return max(1, min(len(os.sched_getaffinity(0)), limits.memory_bytes >> 30))


if __name__ == "__main__":
    main()
