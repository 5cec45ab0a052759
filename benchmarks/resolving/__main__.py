"""`python -m benchmarks.resolving`: resolve the sets, cold and warm, rounds interleaved, and print the tables."""

import os
import platform
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

import click

from benchmarks.measure import CommandFailed
from benchmarks.resolving.proxy import counting_proxy, counts_of
from benchmarks.resolving.tools import TOOLS, Pip, Uv, Wheelfarm
from wheelfarm_services.upstreams import default_index_url

SETS = {
    "requests": ("requests",),
    "services": ("requests", "flask", "celery", "boto3"),
}


@dataclass(kw_only=True, slots=True)
class Found:
    """What the rounds of one tool took, in seconds, and what its last one asked of the index."""

    cold_s: list[float] = field(default_factory=list)
    warm_s: list[float] = field(default_factory=list)
    cold: Mapping[str, int] = field(default_factory=dict)
    warm: Mapping[str, int] = field(default_factory=dict)
    failure: str = ""


@click.command()
@click.option("--set", "names", multiple=True, type=click.Choice(list(SETS)), help="A set to resolve; all by default.")
@click.option("--tool", "tools", multiple=True, help="A tool to measure; all by default.")
@click.option("--rounds", default=3, show_default=True, help="Rounds; one more, unmeasured, fills the proxy.")
@click.option("--delay-ms", default=20, show_default=True, help="How late the index answers each request.")
def main(names: Sequence[str], tools: Sequence[str], rounds: int, delay_ms: int) -> None:
    """Print, for each set, a table of what resolving it took, and of what the index was asked."""
    chosen = [tool for tool in TOOLS if not tools or tool.name in tools]
    click.echo(f"{time.strftime('%Y-%m-%d')}, {len(os.sched_getaffinity(0))} cores, {platform.machine()}, "
               f"CPython {platform.python_version()}, index {delay_ms} ms away\n")  # fmt: skip
    with counting_proxy(delay_ms) as proxy:
        for name in names or SETS:
            found = {tool.name: Found() for tool in chosen}
            for number in range(rounds + 1):
                for tool in chosen:
                    _resolve(tool, proxy, SETS[name], found[tool.name], measured=bool(number))
            click.echo(f"### {name}: `{' '.join(SETS[name])}`\n")
            for line in _table(chosen, found):
                click.echo(line)
            click.echo(f"\n{rounds} rounds, load {os.getloadavg()[0]:.1f} at the end\n")


def _resolve(
    tool: type[Wheelfarm | Uv | Pip], proxy: str, requirements: Sequence[str], found: Found, *, measured: bool
) -> None:
    """One round of one tool: with nothing, and then with what it has."""
    if found.failure:
        return
    index = urlsplit(default_index_url(os.environ))
    url = f"{proxy}/{'all' if tool.wheels else 'sdists'}/{index.scheme}/{index.netloc}{index.path.rstrip('/')}/"
    with tempfile.TemporaryDirectory(prefix="wheelfarm-resolving-", ignore_cleanup_errors=True) as folder:
        try:
            with tool(Path(folder), url) as resolver:
                counts_of(proxy)
                cold_s, cold = resolver.resolve(requirements), counts_of(proxy)
                warm_s, warm = resolver.resolve(requirements), counts_of(proxy)
        except CommandFailed as failure:
            click.echo(str(failure), err=True)
            found.failure = str(failure).strip().splitlines()[-1][:100].replace("|", "/")
            return
    click.echo(f"{tool.name}: {cold_s:.2f} s, {1000 * warm_s:.0f} ms", err=True)
    if measured:
        found.cold_s.append(cold_s)
        found.warm_s.append(warm_s)
        found.cold, found.warm = cold, warm


def _table(chosen: Sequence[type[Wheelfarm | Uv | Pip]], found: Mapping[str, Found]) -> list[str]:
    lines = ["| | cold, s | ratio | requests | MB | warm, ms | requests |", "|---|---|---|---|---|---|---|"]
    for tool in chosen:
        one = found[tool.name]
        if one.failure:
            lines.append(f"| {tool.name}: {tool.command} | failed: {one.failure} | | | | | |")
            continue
        peer = found.get(tool.peer, Found()).cold_s
        ratio = f"{median(one.cold_s) / median(peer):.2f} of {tool.peer}" if peer else "-"
        lines.append(
            f"| {tool.name}: {tool.command} | {median(one.cold_s):.2f} ({min(one.cold_s):.2f}-{max(one.cold_s):.2f}) "
            f"| {ratio} | {_asked(one.cold)} | {one.cold.get('bytes', 0) / 1e6:.1f} "
            f"| {1000 * median(one.warm_s):.0f} | {_asked(one.warm)} |"
        )
    return lines


def _asked(counts: Mapping[str, int]) -> str:
    kinds = Counter({kind: count for kind, count in counts.items() if kind != "bytes"})
    return f"{kinds.total()} ({', '.join(f'{count} {kind}' for kind, count in kinds.most_common())})" if kinds else "0"


if __name__ == "__main__":
    sys.exit(main())
