"""`wheelfarm unyank`: offer a yanked version again."""

from typing import Any

import click

from wheelfarm.commands.command import shared_options
from wheelfarm.commands.index_change import PROJECT, REASON, change_index
from wheelfarm.index_change import Action


@click.command("unyank")
@PROJECT
@REASON
@shared_options
def unyank_command(project: str, reason: str, **shared: Any) -> None:
    """Offer a version again that was yanked, here or upstream.

    What upstream says of it counts no more.
    """
    change_index(Action.UNYANK, project, reason, needs_version=True, **shared)
