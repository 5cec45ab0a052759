"""`wheelfarm status`: what the farm has to do."""

from typing import Any

import click

from wheelfarm.commands.command import reporting, shared_options


@click.command("status")
@click.argument("request", metavar="[REQUEST]", required=False)
@shared_options
def status_command(request: str | None, **shared: Any) -> None:
    """Show what the farm builds, what is queued or waits and for what, its open requests and its last failures; or how
    far an open REQUEST is, by the first digits of its id.

    No farm is started: where none runs, there is nothing to tell.
    """
    with reporting(**shared) as command, command.running_farm() as farm:
        if farm is None:
            command.answer({"running": False}, ["no farm runs for this store: commands start it when they need it"])
            return
        from wheelfarm.farm_status_text import request_lines, status_lines

        if request is not None:
            told = farm.find_request(request)
            command.answer(told.to_json(), request_lines(told))
            return

        status = farm.status()
        command.answer({"running": True, **status.to_json()}, status_lines(status))
