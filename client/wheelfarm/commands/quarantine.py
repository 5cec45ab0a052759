"""`wheelfarm quarantine`: withhold wheels while somebody looks at them."""

from typing import Any

import click

from wheelfarm.commands.command import shared_options
from wheelfarm.commands.index_change import PROJECT, REASON, change_index
from wheelfarm.index_change import Action


@click.command("quarantine")
@PROJECT
@REASON
@click.option("--lift", is_flag=True, help="End the quarantine.")
@shared_options
def quarantine_command(project: str, reason: str, lift: bool, **shared: Any) -> None:
    """Withhold a project, or a version of it: no index lists its wheels and the farm hands none out (PEP 792).

    Nothing is removed, and `--lift` brings everything back.
    """
    action = Action.RELEASE if lift else Action.QUARANTINE
    change_index(action, project, reason, needs_version=False, **shared)
