"""`wheelfarm logs`: what a build printed."""

from typing import Any

import click

from wheelfarm.commands.command import reporting, shared_options


@click.command("logs")
@click.argument("job")
@shared_options
def logs_command(job: str, **shared: Any) -> None:
    """Show the whole build log of a JOB, by its id or the first eight digits of it."""
    with reporting(**shared) as command, command.farm() as farm:
        text = farm.log(job)
        command.answer({"job": job, "log": text}, [text.rstrip("\n")])
