"""`python -m benchmarks.peers`: measure the tools on the sets, their rounds interleaved, and print the tables."""

import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import click

from benchmarks.measure import CommandFailed
from benchmarks.peers.table import Results, table
from benchmarks.peers.tools import TOOLS, Bench, Tool, Wheelfarm

SETS = {
    "requests": ("requests==2.32.3",),
    "yaml": ("jinja2==3.1.4", "markupsafe==2.1.5", "pyyaml==6.0.2", "click==8.1.7"),
    "celery": ("celery", "boto3", "httpx"),
}


@click.command()
@click.option("--set", "names", multiple=True, type=click.Choice(list(SETS)), help="A set to build; all by default.")
@click.option("--tool", "tools", multiple=True, help="A tool to measure; all by default.")
@click.option("--rounds", default=3, show_default=True, help="Cold builds of each set by each tool.")
@click.option("--warm", default=7, show_default=True, help="Warm installs by each tool.")
def main(names: Sequence[str], tools: Sequence[str], rounds: int, warm: int) -> None:
    """Print, for each set, a table of what the tools took."""
    chosen = [tool for tool in TOOLS if not tools or tool.name in tools]
    click.echo(f"{time.strftime('%Y-%m-%d')}, {len(os.sched_getaffinity(0))} cores, {platform.machine()}, "
               f"CPython {platform.python_version()}, load {os.getloadavg()[0]:.1f} at the start\n")  # fmt: skip
    for name in names or SETS:
        results = {tool.name: Results(command=tool.command) for tool in chosen}
        with tempfile.TemporaryDirectory(prefix="wheelfarm-peers-", ignore_cleanup_errors=True) as folder:
            for number in range(rounds):
                for tool in chosen if number % 2 == 0 else reversed(chosen):
                    _build_cold(tool, Path(folder), number, SETS[name], results[tool.name])
            _install_warm(
                [tool for tool in chosen if not results[tool.name].failure], Path(folder), name, warm, results
            )
        click.echo(f"### {name}: `{' '.join(SETS[name])}`\n")
        for line in table(results):
            click.echo(line)
        click.echo(f"\n{rounds} rounds, {warm} warm, load {os.getloadavg()[0]:.1f} at the end\n")


def _build_cold(tool: Tool, folder: Path, number: int, requirements: Sequence[str], results: Results) -> None:
    """One cold round. What it left stays until all are done: ext4 is slow to make files where many were removed in the
    last minutes, which would fall on whoever comes next."""
    if results.failure:
        return
    bench = Bench(folder=folder / f"{tool.name}-{number}")
    bench.folder.mkdir(mode=0o755)
    try:
        built = tool.cold(bench, requirements)
    except CommandFailed as failure:
        click.echo(str(failure), err=True)
        results.failure = str(failure).strip().splitlines()[-1][:100].replace("|", "/")
        return
    results.wheels = built.wheels
    results.cold_s.append(built.measured.wall_s)
    results.cpu_s.append(built.measured.cpu_s)
    click.echo(f"{tool.name}: {built.measured.wall_s:.1f} s, processor {built.measured.cpu_s:.1f} s", err=True)


def _install_warm(tools: Sequence[Tool], folder: Path, name: str, rounds: int, results: dict[str, Results]) -> None:
    """The warm rounds, each tool from what it has by now, or else from the wheels that the farm built."""
    farm = Bench(folder=folder / f"{Wheelfarm.name}-0")
    for tool in tools:
        wheels = folder / f"{tool.name}-0" / "wheels"
        wheels.mkdir()
        for wheel in Wheelfarm().wheels(farm):
            shutil.copy(wheel, wheels)
    for number in range(rounds + 1):
        for tool in tools:
            measured = tool.warm(Bench(folder=folder / f"{tool.name}-0"), SETS[name], number)
            if measured is not None and number:  # the first fills caches
                results[tool.name].warm_s.append(measured.wall_s)
                results[tool.name].warm_cpu_s.append(measured.cpu_s)


if __name__ == "__main__":
    sys.exit(main())
