"""`wheelfarm up`: a farm for a team, on one machine, in one command."""

import hashlib
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from wheelfarm.commands.command import reporting, shared_options
from wheelfarm.errors import FarmUnavailable
from wheelfarm.listening import DEFAULT_ADDRESS, Address
from wheelfarm.parts import is_installed


@click.command("up")
@click.option("--listen", default=DEFAULT_ADDRESS, show_default=True, help="Where the API answers: HOST:PORT.")
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 32), help="How many workers to run.")
@click.option("--slots", type=click.IntRange(1, 64), help="Builds at once, of each worker.  [default: one a core, 8]")
@click.option(
    "--target",
    "targets",
    multiple=True,
    default=["host"],
    show_default=True,
    help="What to build for: host, this interpreter here, host:PYTHON, or a definition's name. May be repeated.",
)
@click.option("--folder", type=click.Path(path_type=Path), help="Where the token and the broker's data are kept.")
@shared_options
def up_command(
    listen: str,
    workers: int,
    slots: int | None,
    targets: tuple[str, ...],
    folder: Path | None,
    **shared: Any,
) -> None:
    """Run a farm on this machine until SIGTERM or Ctrl-C: broker, services and workers, whatever dies started again.

    It prints the URL, where the token is, and what a colleague has to type. With WHEELFARM_BROKER set, that broker is
    used; with WHEELFARM_LOGS, each part writes its own log there.
    """
    with reporting(**shared) as command:
        if not is_installed("all"):
            raise FarmUnavailable("This installation lacks parts of a farm.", hint="pip install 'wheelfarm[all]'")
        from wheelfarm.up import TeamFarm

        settings = replace(command.settings, slots=slots or command.settings.slots)
        TeamFarm(
            settings=settings,
            address=Address.parse(listen),
            targets=targets,
            workers=workers,
            folder=folder.absolute() if folder else _state_folder(settings.store),
        ).run()


def _state_folder(store: str) -> Path:
    """The farm's own folder in the user's state (XDG base directory specification), one a store."""
    given = Path(os.environ.get("XDG_STATE_HOME", ""))
    base = given if given.is_absolute() else Path.home() / ".local" / "state"
    return base / "wheelfarm" / hashlib.sha256(store.encode()).hexdigest()[:12]
