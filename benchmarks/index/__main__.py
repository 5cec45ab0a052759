"""How fast the index answers, beside nginx on the same files and other servers; and what large indexes cost."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import click
from tests.support.index_farm import TARGET, publish

from benchmarks.index.large import flat_pages, publishing
from benchmarks.index.servers import PEERS, Peer, farm, nginx, peer, require_tools, wrk
from wheelfarm_services.store import DirectoryStore
from wheelfarm_services.wheel_index import WheelIndex

PROJECTS, VERSIONS = 20, 10


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
    WheelIndex(store).pages.render_stale()
    with ExitStack() as stack:
        servers: list[Peer] = [stack.enter_context(nginx(root, store.root)), stack.enter_context(farm(root))]
        for name in peers:
            servers.append(stack.enter_context(peer(name, root, list(_files(store)))))
        best: dict[tuple[str, str], float] = {}
        for _ in range(rounds):
            for server in servers:
                for what, path in server.paths(wheels[0]).items():
                    found = wrk(server.url + path, seconds, server.headers)
                    best[server.name, what] = max(found, best.get((server.name, what), 0.0))
    print("| server | page | of nginx | wheel | of nginx |\n|---|---|---|---|---|")
    for server in servers:
        page, wheel = best[server.name, "page"], best[server.name, "wheel"]
        shares = page / best["nginx", "page"], wheel / best["nginx", "wheel"]
        print(f"| {server.name} | {page:,.0f}/s | {shares[0]:.3f} | {wheel:,.0f}/s | {shares[1]:.3f} |")


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
