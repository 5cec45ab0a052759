"""`python -m benchmarks.chaos`: real sdists through a farm whose parts are killed, emptied and cut off all the while.

It tells, as Markdown, what was done to the farm and what came of it; the exit code is 0 when every wheel is there, its
bytes as recorded, and none was built to its end twice.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
from tests.support.chaos import Chaos, Outcome, chaos, outcome_of
from tests.support.fleet import SeparateFarm, separate_farm, wheelfarm

from wheelfarm_services.upstreams import default_index_url

WORKERS = ("w1", "w2", "w3")
REQUIREMENTS = ("celery", "boto3", "httpx", "jinja2", "build")
"""Without builds that take longer than a worker lives here."""


@click.command()
@click.argument("requirements", nargs=-1)
@click.option("--seed", type=int, help="Repeats a run's harm.  [default: a new one]")
@click.option("--every", "every_s", type=(float, float), default=(4.0, 9.0), show_default=True, help="Seconds between.")
@click.option("--flush-at", default=15, show_default=True, help="After how many wheels Redis is emptied.")
@click.option("--slots", default=2, show_default=True, help="Builds at once, of each of the three workers.")
@click.option("--sandbox", default="bubblewrap", show_default=True, type=click.Choice(["bubblewrap", "none"]))
def main(
    requirements: tuple[str, ...],
    seed: int | None,
    every_s: tuple[float, float],
    flush_at: int,
    slots: int,
    sandbox: str,
) -> None:
    """Build REQUIREMENTS, or a set of its own, while workers, Redis, services and store are killed or away."""
    number = random.SystemRandom().randrange(1 << 32) if seed is None else seed
    with tempfile.TemporaryDirectory(prefix="wf-", dir="/tmp") as folder:
        root = Path(folder) / "farm"
        root.mkdir()
        settings = {"WHEELFARM_LEASE_S": "5", "WHEELFARM_DRAIN_S": "2", "WHEELFARM_SANDBOX": sandbox}
        with (
            separate_farm(root, default_index_url(os.environ), **settings) as farm,
            chaos(farm, WORKERS, seed=number, every_s=every_s, slots=slots) as raging,
        ):
            raging.start()
            start = time.monotonic()
            command = subprocess.Popen(
                wheelfarm("build", "--json", *(requirements or REQUIREMENTS)),
                env=client_environment(farm, Path(folder), sandbox),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            out, err = raging.run_through(command, flush_at=flush_at, calm_at=1 << 30)
            took_s = time.monotonic() - start
            farm.end()
            outcome = outcome_of(root / "store", (farm.parts[name].said for name in WORKERS))
            if command.returncode:
                click.echo(f"{err}\n{farm.logs()}", err=True)
    report(raging, outcome, took_s, json.loads(out).get("wheels", []))
    sound = command.returncode == 0 and not outcome.wrong and not outcome.built_to_the_end_twice
    sys.exit(0 if sound else 1)


def client_environment(farm: SeparateFarm, home: Path, sandbox: str) -> dict[str, str]:
    """A user's environment, with a home of its own."""
    return {**farm.environment, **farm.client, "HOME": str(home), "WHEELFARM_CACHE": str(home / "cache"),
            "WHEELFARM_SANDBOX": sandbox, "WHEELFARM_BROKER": ""}  # fmt: skip


def report(raging: Chaos, outcome: Outcome, took_s: float, wheels: list[dict[str, str]]) -> None:
    """Tell what was done, and what came of it."""
    rows = {
        "wheels that the command got": len(wheels),
        "wheels on the index, build tools among them": len(outcome.wheels),
        "wheels of which the bytes are not as recorded": len(outcome.wrong),
        "builds that were begun": sum(outcome.begun.values()),
        "versions built to the end more than once": len(outcome.built_to_the_end_twice),
        "things done to the farm": len(raging.harms),
        "seconds": round(took_s),
    }
    click.echo("| | |\n|---|---|")
    for what, number in rows.items():
        click.echo(f"| {what} | {number} |")
    click.echo(f"\n```\n{raging.told()}\n```")


if __name__ == "__main__":
    main()
