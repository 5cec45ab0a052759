"""`wheelfarm worker`: build for a farm on this machine."""

import os
from dataclasses import replace
from typing import Any

import click

from wheelfarm.commands.command import reporting, shared_options
from wheelfarm.errors import InputError
from wheelfarm.parts import become
from wheelfarm.settings import Settings


@click.command("worker")
@click.option(
    "--target",
    "targets",
    multiple=True,
    default=["host"],
    show_default=True,
    help="What to build for: host, this interpreter, host:PYTHON, another, or a definition's name. May be repeated.",
)
@click.option("--slots", type=click.IntRange(1, 64), help="How many builds to run at once.  [default: one a core, 8]")
@click.option("--name", help="The worker's name; under its old one it takes back what it had when it died.")
@shared_options
def worker_command(targets: tuple[str, ...], slots: int | None, name: str | None, **shared: Any) -> None:
    """Build for the farm of WHEELFARM_URL, WHEELFARM_BROKER and WHEELFARM_STORE until told to end.

    At SIGTERM or Ctrl-C it takes no new jobs, finishes its own for WHEELFARM_DRAIN_S seconds and hands the others back;
    a second time ends that wait. The exit code is 0 then.
    """
    with reporting(**shared) as command:
        settings = Settings.from_environment(os.environ, required=["url", "broker"])
        if not os.environ.get("WHEELFARM_STORE"):
            raise InputError(
                "WHEELFARM_STORE is not given, and a worker needs the store of its farm.",
                hint="Give it the same WHEELFARM_STORE as the farm's services have.",
            )
        if command.settings.sandbox != settings.sandbox:
            settings = replace(settings, sandbox=command.settings.sandbox)
        environment = {"WHEELFARM_WORKER": name} if name else {}
        worker = Settings.from_environment({**os.environ, **environment}).worker
        settings = replace(settings, slots=slots or settings.slots, worker=worker)
        words = [word for target in targets for word in ("--target", target)]
        become("workers", "wheelfarm_workers", [*words, *(["--json"] if command.as_json else [])], settings)
