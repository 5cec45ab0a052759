"""`wheelfarm cancel`: end a request or a job."""

from typing import Any

import click

from wheelfarm.commands.command import reporting, shared_options
from wheelfarm.errors import NotFound


@click.command("cancel")
@click.argument("name", metavar="REQUEST|JOB")
@shared_options
def cancel_command(name: str, **shared: Any) -> None:
    """End an open REQUEST with what nobody else wants, or a JOB with all that wait for it.

    Both are named by the first digits of their ids, as `wheelfarm status` tells them. Running builds are killed.
    """
    with reporting(**shared) as command, command.running_farm() as farm:
        if farm is None:
            raise NotFound("No farm runs for this store, so there is nothing to cancel.", hint="wheelfarm status")
        ended = farm.cancel(name)
        command.answer(
            {"cancelled": [{"job": job.id, "sdist": str(job.sdist), "kind": job.kind} for job in ended]},
            [f"{job.sdist} ({job.kind}, {job.id[:12]})" for job in ended],
        )
