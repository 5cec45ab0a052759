"""`python -m benchmarks.followers`: many who follow build logs through one API, some of whom read nothing.

Against real services and a real Redis; it tells whether everybody read the whole log in its order, what that cost, and
how much memory the services took meanwhile.
"""

import asyncio
import json
import re
import socket
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import click
import httpx
from tests.support.fleet import TOKEN, Part, separate_farm
from tests.support.values import make_job, make_sdist

from wheelfarm.event_stream import read_events
from wheelfarm_services.ledger import Ledger, redis_client
from wheelfarm_services.log_writer import LogWriter, RunLog
from wheelfarm_services.store import DirectoryStore
from wheelfarm_services.submissions import submission_of

HEADERS = {"Authorization": f"Bearer {TOKEN}"}


@dataclass(frozen=True, kw_only=True)
class Read:
    """What one follower read of a job's log, and when it had read the end of it."""

    job: str
    text: str
    ended_at: float


@click.command()
@click.option("--followers", default=300, show_default=True, help="Who read.")
@click.option("--stuck", default=20, show_default=True, help="Who read nothing.")
@click.option("--jobs", default=20, show_default=True, help="Logs that are followed, each by as many.")
@click.option("--mib", default=2.0, show_default=True, help="Length of each log.")
@click.option("--seconds", default=20.0, show_default=True, help="How long it takes to print.")
def main(followers: int, stuck: int, jobs: int, mib: float, seconds: float) -> None:
    """Follow logs while they are printed, and tell what was read and what it took."""
    with tempfile.TemporaryDirectory(prefix="wf-", dir="/tmp") as folder, separate_farm(Path(folder), "") as farm:
        farm.settings["WHEELFARM_INDEX"] = "http://127.0.0.1:9/simple/"  # nobody asks it
        farm.start_broker()
        services = farm.start_services()
        before = memory_mib(services, "VmRSS")
        with ExitStack() as stack:
            redis = stack.enter_context(closing(redis_client(farm.broker)))
            ledger = stack.enter_context(closing(Ledger(farm.broker, wake=lambda _: None)))
            writer = stack.enter_context(LogWriter(redis, DirectoryStore.create(farm.root / "store")))
            running = Running(ledger, writer, jobs)
            names = list(running.logs)
            for number in range(stuck):
                stack.enter_context(read_nothing(farm.port, names[number % jobs]))
            wanted = [names[number % jobs] for number in range(followers)]
            read, printed_at = asyncio.run(follow_all(farm.url, wanted, running, mib, seconds))
        peak, used_s = memory_mib(services, "VmHWM"), processor_s(services)
    whole = sum(one.text == running.text(one.job) for one in read)
    rows = {
        "followers, and beside them such as read nothing": f"{followers}, {stuck}",
        "who read the whole log, in its order": whole,
        "MB that they read": f"{sum(len(one.text) for one in read) / 1e6:.0f}",
        "seconds from the last line to the last reader's end": f"{max(one.ended_at for one in read) - printed_at:.1f}",
        "processor seconds of the services": f"{used_s:.1f}",
        "memory of the services before, at most (MiB)": f"{before:.0f}, {peak:.0f}",
    }
    click.echo("| | |\n|---|---|")
    for what, figure in rows.items():
        click.echo(f"| {what} | {figure} |")
    sys.exit(0 if whole == followers else 1)


class Running:
    """Jobs that run, as far as the ledger knows, and their logs."""

    def __init__(self, ledger: Ledger, writer: LogWriter, count: int) -> None:
        found = [make_job(make_sdist(f"p{number}", data=b"%d" % number)) for number in range(count)]
        ledger.submit("f" * 32, [submission_of(job) for job in found])
        claims = [ledger.claim(found[0].queue, worker="benchmark", lease_s=3600) for _ in found]
        self._ledger, self._writer = ledger, writer
        self._claims = {claim.job_id: claim for claim in claims if claim is not None}
        self.logs: dict[str, RunLog] = {name: writer.begin(name, 1) for name in self._claims}

    def text(self, job: str) -> str:
        return self.logs[job].whole().decode()

    def print(self, mib: float, seconds: float) -> float:
        """Print all logs line by line, and end their jobs; when that was."""
        lines = round(mib * (1 << 20) / 100)
        begun = time.monotonic()
        for number in range(lines):
            for job, log in self.logs.items():
                log.write(f"{job[:8]} {number:08d} {'x' * 81}\n".encode())
            time.sleep(max(0.0, begun + seconds * number / lines - time.monotonic()))
        for job, log in self.logs.items():
            self._writer.keep(log)
            self._writer.end(log)
            self._ledger.complete(self._claims[job], json.dumps({}))
        return time.monotonic()


async def follow_all(
    url: str, wanted: Sequence[str], running: Running, mib: float, seconds: float
) -> tuple[list[Read], float]:
    """Follow these jobs while they print; what was read, and when the last line was printed."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, headers=HEADERS, timeout=120, limits=limits, trust_env=False) as client:
        following = [asyncio.create_task(follow(client, job)) for job in wanted]
        printed_at = await asyncio.to_thread(running.print, mib, seconds)
        return list(await asyncio.gather(*following)), printed_at


async def follow(client: httpx.AsyncClient, job: str) -> Read:
    async with client.stream("GET", f"/jobs/{job}/log/events") as answer:
        answer.raise_for_status()
        lines = (await answer.aread()).decode().split("\n")
    ended_at = time.monotonic()
    text = "".join(event.data for event in read_events(lines) if event.name == "log")
    return Read(job=job, text=text, ended_at=ended_at)


def read_nothing(port: int, job: str) -> socket.socket:
    """A connection that asks for a log and reads nothing of it."""
    connection = socket.create_connection(("127.0.0.1", port))
    connection.sendall(
        f"GET /jobs/{job}/log/events HTTP/1.1\r\nHost: x\r\nAuthorization: {HEADERS['Authorization']}\r\n\r\n".encode()
    )
    return connection


def memory_mib(part: Part, field: str) -> float:
    status = Path(f"/proc/{part.process.pid}/status").read_text()
    found = re.search(rf"^{field}:\s+(\d+) kB", status, re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0


def processor_s(part: Part) -> float:
    fields = Path(f"/proc/{part.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


if __name__ == "__main__":
    main()
