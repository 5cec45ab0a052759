"""`wheelfarm logs`: what a build printed, or prints."""

import sys
from typing import Any

import click

from wheelfarm.commands.command import reporting, shared_options
from wheelfarm.errors import OptionRefused


@click.command("logs")
@click.argument("job")
@click.option("-f", "--follow", is_flag=True, help="Go on as the build prints more, until the job is over.")
@click.option("--raw", is_flag=True, help="Byte for byte: with control characters, which may steer a terminal.")
@shared_options
def logs_command(job: str, follow: bool, raw: bool, **shared: Any) -> None:
    """Show the whole build log of a JOB, by its id or the first eight digits of it."""
    with reporting(**shared) as command:
        if follow and command.as_json:
            raise OptionRefused("A log that is followed is no JSON document.", hint="Leave out --follow or --json.")
        with command.farm() as farm:
            if not follow and not raw:
                text = farm.log(job).decode()
                command.answer({"job": job, "log": text}, [text.rstrip("\n")])
                return
            for piece in farm.follow_log(job, raw=raw) if follow else [farm.log(job, raw=True)]:
                if piece is None:
                    command.reporter.say("the job was begun anew; its log:")
                else:
                    sys.stdout.buffer.write(piece)
                    sys.stdout.buffer.flush()
