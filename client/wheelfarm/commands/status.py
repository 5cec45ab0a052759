"""`wheelfarm status`: what the farm has to do."""

from typing import Any

import click

from wheelfarm.commands.command import printable, reporting, shared_options


@click.command("status")
@shared_options
def status_command(**shared: Any) -> None:
    """Show what the farm builds, what is queued or waits and for what, its open requests and its last failures.

    No farm is started: where none runs, there is nothing to tell.
    """
    with reporting(**shared) as command, command.running_farm() as farm:
        if farm is None:
            command.answer({"running": False}, ["no farm runs for this store: commands start it when they need it"])
            return
        from wheelfarm.farm_status_text import status_lines

        status = farm.status()
        command.answer({"running": True, **status.to_json()}, [printable(line) for line in status_lines(status)])
