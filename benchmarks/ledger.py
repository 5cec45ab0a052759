"""`python -m benchmarks.ledger`: what a move of the ledger costs, and what a job takes in Redis.

A graph of jobs is driven to its end through the adapter, on a private server on a unix socket: requests submit its
roots, and one worker claims, suspends and completes. Nothing is built, and nobody is woken.
"""

import os
import random
import subprocess
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import click
from redis import Redis

from wheelfarm.broker import broker_command
from wheelfarm_services.ledger import Ledger, Submission, SuspensionOutcome, redis_client

_MOST_NEEDED = 3
_ROOTS_OF_REQUEST = 20
_SPEC_BYTES = 800
_READY_S = 10.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Graph:
    """The jobs by id, what each of them needs, and those that nothing needs."""

    jobs: dict[str, Submission]
    needs: dict[str, list[str]]

    @property
    def roots(self) -> list[str]:
        needed = {need for needs in self.needs.values() for need in needs}
        return [id_ for id_ in self.jobs if id_ not in needed]


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """What the server had used at a moment: processor seconds, and bytes for data."""

    cpu_s: float
    data_bytes: int


class Clock:
    """Wall seconds and calls of each operation."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.calls: Counter[str] = Counter()

    @contextmanager
    def timed(self, operation: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[operation] += time.perf_counter() - start
        self.calls[operation] += 1


@click.command()
@click.option("--jobs", "sizes", type=click.IntRange(10), multiple=True, default=[10_000], show_default=True)
def main(sizes: Sequence[int]) -> None:
    """Print a table with a row for each size, and one with each operation of the last."""
    click.echo(
        "| jobs | moves | µs a move | of these Redis | moves a second | bytes a job, at most | once all are done |"
    )
    click.echo("|---|---|---|---|---|---|---|")
    clock = Clock()
    for size in sizes:
        with tempfile.TemporaryDirectory(prefix="wf-ledger-", dir="/tmp") as folder, private_server(folder) as url:
            clock = measure(url, size)
    click.echo("\n| operation | calls | µs a call |\n|---|---|---|")
    for operation, seconds in clock.seconds.items():
        calls = clock.calls[operation]
        click.echo(f"| {operation} | {calls} | {1e6 * seconds / calls:.0f} |")
    click.echo(f"\n{len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}")


def measure(url: str, size: int) -> Clock:
    """Drive a graph of that size, and print its row."""
    graph, clock = make_graph(size), Clock()
    ledger = Ledger(url, wake=lambda queue: None)
    with redis_client(url) as redis:
        before = usage(redis)
        submit(ledger, graph, clock)
        most = usage(redis).data_bytes
        while work(ledger, graph, clock, steps=size // 10):
            most = max(most, usage(redis).data_bytes)
        after = usage(redis)
        done = sum(counts.ended.get("done", 0) for counts in ledger.counts().values())  # type: ignore[call-overload]
    ledger.close()
    if done != size:
        raise click.ClickException(f"{done} of {size} jobs were done.")
    moves = (
        size + clock.calls["claim"] - 1 + clock.calls["suspend"] + clock.calls["complete"]
    )  # the last claim got none
    wall_us = 1e6 * sum(clock.seconds.values()) / moves
    redis_us = 1e6 * (after.cpu_s - before.cpu_s) / moves
    kept = [round((at - before.data_bytes) / size) for at in (most, after.data_bytes)]
    row = (size, moves, f"{wall_us:.0f}", f"{redis_us:.0f}", f"{1e6 / wall_us:.0f}", *kept)
    click.echo(f"| {' | '.join(map(str, row))} |")
    return clock


def make_graph(size: int) -> Graph:
    """Each job needs up to three of those before it, the same every time: the first ones most often, as it is with
    setuptools, and through chains of some dozens."""
    chance = random.Random(size)  # noqa: S311 - no secret
    ids = [sha256(str(number).encode()).hexdigest() for number in range(size)]
    jobs = {
        id_: Submission(id=id_, queue="host", subject=f"wheel project-{number}", spec="x" * _SPEC_BYTES)
        for number, id_ in enumerate(ids)
    }
    needs = {
        id_: sorted(
            {ids[int(number * chance.random() ** 2)] for _ in range(chance.randint(0, min(number, _MOST_NEEDED)))}
        )
        for number, id_ in enumerate(ids)
    }
    return Graph(jobs=jobs, needs=needs)


def submit(ledger: Ledger, graph: Graph, clock: Clock) -> None:
    roots = [graph.jobs[id_] for id_ in graph.roots]
    for start in range(0, len(roots), _ROOTS_OF_REQUEST):
        with clock.timed("submit"):
            ledger.submit(f"request-{start}", roots[start : start + _ROOTS_OF_REQUEST])


def work(ledger: Ledger, graph: Graph, clock: Clock, *, steps: int) -> bool:
    """Claim and do jobs, `steps` times; False when none is left."""
    for _ in range(steps):
        with clock.timed("claim"):
            claim = ledger.claim("host", worker="bench", lease_s=600)
        if claim is None:
            return False
        if needs := graph.needs[claim.job_id]:
            with clock.timed("suspend"):
                suspension = ledger.suspend(claim, [graph.jobs[id_] for id_ in needs])
            if suspension.outcome is SuspensionOutcome.WAITING:
                continue
        with clock.timed("complete"):
            ledger.complete(claim, '{"wheel": "project-1.0-1-py3-none-any.whl"}', seconds=3.0)
    return True


@contextmanager
def private_server(folder: str) -> Iterator[str]:
    """The URL of a server of our own without persistence, as the embedded farm has it."""
    socket = Path(folder) / "s"
    process = subprocess.Popen(broker_command(socket, Path(folder)), stdout=subprocess.DEVNULL)
    url = f"redis+socket://{socket}"
    try:
        deadline = time.monotonic() + _READY_S
        while not socket.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        yield url
    finally:
        process.terminate()
        process.wait()


def usage(redis: Redis) -> Usage:
    info: Any = redis.info()
    return Usage(cpu_s=info["used_cpu_user"] + info["used_cpu_sys"], data_bytes=info["used_memory_dataset"])


if __name__ == "__main__":
    main()
