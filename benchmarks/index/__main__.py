"""How fast the index answers, beside nginx on the same files and other servers; and what large indexes cost."""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import click
from tests.support.index_farm import TARGET, publish

from benchmarks.index.large import flat_pages, publishing
from benchmarks.index.servers import PEERS, Load, Peer, farm, nginx, peer, require_tools, wrk
from wheelfarm.wheel import BuiltWheel
from wheelfarm_services.store import DirectoryStore
from wheelfarm_services.wheel_index import WheelIndex

PROJECTS, VERSIONS = 20, 10
_LARGE_BYTES = 10_000_000


@click.command()
@click.option("--rounds", default=3, show_default=True, help="How often each server is measured, by turns.")
@click.option("--seconds", default=5, show_default=True, help="How long each time.")
@click.option("--peer", "chosen", multiple=True, type=click.Choice(PEERS), help="Other servers; all, if none is named.")
@click.option("--only", type=click.Choice(["serving", "large"]), help="One half of it.")
def main(rounds: int, seconds: int, chosen: tuple[str, ...], only: str | None) -> None:
    """Measure, and print tables."""
    root = Path(tempfile.mkdtemp(prefix="wf-bench-"))
    try:
        if only != "large":
            require_tools()
            _serving(root, rounds, seconds, chosen or PEERS)
        if only != "serving":
            _large(root)
    finally:
        shutil.rmtree(root)


def _serving(root: Path, rounds: int, seconds: int, peers: tuple[str, ...]) -> None:
    store = DirectoryStore.create(root / "store")
    wheels = [publish(store, f"app{number % PROJECTS}", f"1.{number}") for number in range(PROJECTS * VERSIONS)]
    large = publish(store, "large", text=os.urandom(_LARGE_BYTES).hex())
    WheelIndex(store).pages.render_stale()
    with ExitStack() as stack:
        servers: list[Peer] = [stack.enter_context(nginx(root, store.root)), stack.enter_context(farm(root))]
        for name in peers:
            servers.append(stack.enter_context(peer(name, root, list(_files(store)))))
        found: dict[tuple[str, str], list[Load]] = {}
        for _ in range(rounds):
            for server in servers:
                for what, path in _asked(server, wheels[0], large).items():
                    found.setdefault((what, server.name), []).append(wrk(server, path, seconds))
    print("| what | server | requests a second | of nginx | processor, µs a request | of nginx |")
    print("|---|---|---|---|---|---|")
    for (what, name), loads in sorted(found.items()):
        rate, us = _medians(loads)
        rate_of_nginx, us_of_nginx = _medians(found[what, "nginx"])
        print(f"| {what} | {name} | {rate:,.0f} | {rate / rate_of_nginx:.3f} | {us:.0f} | {us / us_of_nginx:.1f} |")


def _asked(server: Peer, wheel: BuiltWheel, large: BuiltWheel) -> dict[str, str]:
    """The paths that a server is asked for, by what is there."""
    paths = {
        f"{what} ({wheel.size} bytes)" if what == "wheel" else what: path for what, path in server.paths(wheel).items()
    }
    if server.name in ("nginx", "wheelfarm"):
        paths[f"large wheel ({large.size / 1e6:.1f} MB)"] = server.paths(large)["wheel"]
    return paths


def _medians(loads: Sequence[Load]) -> tuple[float, float]:
    """Requests a second and processor time."""
    return statistics.median(one.rate for one in loads), statistics.median(one.processor_us for one in loads)


def _files(store: DirectoryStore) -> Iterator[Path]:
    for key in store.list("wheels/"):
        if key.endswith(".whl"):
            yield store.root / key


def _large(root: Path) -> None:
    print("\n| entries | flat page | gzipped | to write it | pip | uv |\n|---|---|---|---|---|---|")
    for entries in (1_000, 10_000, 50_000):
        print(flat_pages(root / f"flat-{entries}", entries))
    print("\n| entries | a publish | the flat page brought up to date |\n|---|---|---|")
    for entries in (100, 10_000, 100_000):
        print(publishing(root / f"publish-{entries}", entries))
    print(f"\nPython {sys.version.split()[0]}, target {TARGET}; {_version('pip')}; {_version('uv')}")


def _version(tool: str) -> str:
    words = [sys.executable, "-m", tool, "--version"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.split(" from ")[0].strip()


if __name__ == "__main__":
    main()
