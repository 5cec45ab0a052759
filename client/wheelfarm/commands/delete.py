"""`wheelfarm delete`: remove wheels for good."""

from typing import Any

import click

from wheelfarm.commands.command import shared_options
from wheelfarm.commands.index_change import PROJECT, REASON, change_index
from wheelfarm.index_change import Action


@click.command("delete")
@PROJECT
@REASON
@shared_options
def delete_command(project: str, reason: str, **shared: Any) -> None:
    """Remove a version's wheels from every index and from the store, for good.

    Their names are never used again: what is built of that version later gets a higher build tag. To keep it from
    being built, deny it in the policy.
    """
    change_index(Action.DELETE, project, reason, needs_version=True, **shared)
