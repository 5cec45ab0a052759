"""Values of the farm's vocabulary, complete and plausible, for tests that care about one field of them."""

import hashlib

from wheelfarm.interpreter import Interpreter
from wheelfarm.job import Job, JobKind, Sdist
from wheelfarm.target import Target
from wheelfarm.wheel import BuiltWheel
from wheelfarm.worker import ServedTarget, WorkerRecord


def make_sdist(name: str = "app", version: str = "1.0", *, filename: str = "", data: bytes = b"sdist") -> Sdist:
    """An sdist; `data` decides its sha256."""
    return Sdist(
        name=name,
        version=version,
        filename=filename or f"{name.replace('-', '_')}-{version}.tar.gz",
        sha256=hashlib.sha256(data).hexdigest(),
    )


def make_target(name: str = "host-cp311-0badcafe", *, revision: str = "e" * 64) -> Target:
    """A target of CPython 3.11 on x86_64."""
    return Target(
        name=name,
        revision=revision,
        queue="host",
        python="/usr/bin/python3.11",
        prefix="/usr",
        python_version="3.11.7",
        abi="cp311",
        platform="linux-x86_64",
    )


def make_job(sdist: Sdist | None = None, *, kind: JobKind = JobKind.WHEEL) -> Job:
    """A job for `make_target()`."""
    target = make_target()
    return Job(
        kind=kind,
        sdist=sdist or make_sdist(),
        target=target.name,
        target_revision=target.revision,
        queue=target.queue,
    )


def make_built_wheel(
    name: str = "app", version: str = "1.0", *, data: bytes = b"wheel", filename: str = ""
) -> BuiltWheel:
    """A wheel of the farm; `data` are its bytes."""
    return BuiltWheel(
        name=name,
        version=version,
        filename=filename or f"{name.replace('-', '_')}-{version}-1-py3-none-any.whl",
        sha256=hashlib.sha256(data).hexdigest(),
        size=len(data),
    )


def make_worker_record(name: str = "w1", *targets: Target) -> WorkerRecord:
    """A worker of four slots that serves these targets, or `make_target()`."""
    return WorkerRecord(
        name=name,
        host="build1",
        pid=7,
        targets=tuple(
            ServedTarget(
                name=target.name,
                revision=target.revision,
                queue=target.queue,
                python_version=target.python_version,
                platform=target.platform,
            )
            for target in targets or (make_target(),)
        ),
        slots=4,
        sandbox="bubblewrap",
        version="1",
        started_at=900.0,
    )


def make_interpreter(**changes: str) -> Interpreter:
    """A distribution that was never packed."""
    given = {
        "key": "cpython-3.12.1-linux-x86_64-gnu",
        "build": "20261120",
        "sha256": "5" * 64,
        "root": "python",
    } | changes
    named = {"filename": f"python-{given['build']}.tar.gz", "prefix": "/install", "source": ""}
    return Interpreter(size=10, **(named | given))
