"""`python -m benchmarks.sandboxes`: what it costs to begin a run, in each sandbox back end and on each defined target.

A run is the whole of it, from the worker's thread through the spawner and back; the rounds are interleaved.
"""

import os
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path
from statistics import median

import click

from wheelfarm.settings import Settings
from wheelfarm.target_definition import read_definitions
from wheelfarm_services.store import open_store
from wheelfarm_workers.distributions import Distributions
from wheelfarm_workers.grounds import DefinedGrounds, Definitions, Ground
from wheelfarm_workers.roots import Roots
from wheelfarm_workers.sandbox import Ending, Limits, SandboxRun
from wheelfarm_workers.sandbox.back_ends import BackEnds

_HEADING = "| where | `/bin/true`, ms | median | `python -c pass`, ms | median | beside none |"
_LIMITS = Limits(wall_s=60, memory_bytes=512 << 20)


@click.command()
@click.option("--rounds", default=20, show_default=True, help="How often each is run.")
def main(rounds: int) -> None:
    """Print how long runs took, in milliseconds: the least, which other work on the machine disturbs least, and the
    median; each beside no sandbox at all. Targets are those of WHEELFARM_TARGETS."""
    settings = Settings.from_environment(os.environ)
    took: dict[tuple[str, str], list[float]] = {}
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="wheelfarm-sandboxes-") as work:
        Path(work).chmod(0o755)
        with BackEnds(slots=1, work=Path(work)) as back_ends:
            grounds = _grounds(settings, back_ends)
            for _ in range(rounds):
                for name, (ground, python) in grounds.items():
                    for what, argv in (("true", ("/bin/true",)), ("python", (python, "-I", "-S", "-c", "pass"))):
                        took.setdefault((name, what), []).append(_seconds(ground, argv))
    click.echo(
        "| where | `/bin/true`, ms | median | `python -c pass`, ms | median | beside none |\n|---|---|---|---|---|---|"
    )
    for name in grounds:
        cells = [f"{1000 * told(took[name, what]):.1f}" for what in ("true", "python") for told in (min, median)]
        beside = min(took[name, "python"]) / min(took["host, none", "python"])
        click.echo(f"| {' | '.join([name, *cells])} | {beside:.1f} |")
    click.echo(f"\n{rounds} rounds, load {load:.1f} at the beginning and {os.getloadavg()[0]:.1f} at the end")


def _grounds(settings: Settings, back_ends: BackEnds) -> dict[str, tuple[Ground, str]]:
    host = os.path.realpath(sys.executable)
    prefix = Path(sys.base_prefix)
    found = {
        f"host, {name}": (Ground(sandbox=back_ends.back_end(name), interpreter_prefix=prefix), host)
        for name in ("none", "bubblewrap")
    }
    definitions = Definitions(settings.targets, cache=settings.cache, resource_class=settings.resource_class)
    defined = DefinedGrounds(
        definitions=definitions,
        roots=Roots(settings.targets, settings.cache / "roots"),
        distributions=Distributions(partial(open_store, settings, create=False), settings.cache / "pythons"),
        back_ends=back_ends,
        host="bubblewrap",
    )
    for name in read_definitions(settings.targets):
        target = definitions.target(name)
        found[f"{name}, {target.sandbox}"] = (defined.of(target), target.python)
    return found


def _seconds(ground: Ground, argv: tuple[str, ...]) -> float:
    run = SandboxRun(
        argv=argv, input=b"", interpreter_prefix=ground.interpreter_prefix, root=ground.root, limits=_LIMITS
    )
    began = time.perf_counter()
    ended = ground.sandbox.run(run, log=lambda _: None, cancelled=threading.Event())
    took = time.perf_counter() - began
    ended.result.close()
    if (ended.ending, ended.returncode) != (Ending.EXITED, 0):
        raise click.ClickException(f"{argv[0]} ended with {ended.ending}, {ended.returncode}")
    return took


if __name__ == "__main__":
    main()
