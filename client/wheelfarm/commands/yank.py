"""`wheelfarm yank`: have installers pass over a version."""

from typing import Any

import click

from wheelfarm.commands.command import shared_options
from wheelfarm.commands.index_change import PROJECT, REASON, change_index
from wheelfarm.index_change import Action


@click.command("yank")
@PROJECT
@REASON
@shared_options
def yank_command(project: str, reason: str, **shared: Any) -> None:
    """Have installers pass over a version unless it is asked for exactly (PEP 592).

    Wheels that are built of it later are yanked as well. `wheelfarm unyank` takes it back.
    """
    change_index(Action.YANK, project, reason, needs_version=True, **shared)
