"""`wheelfarm doctor`: what this machine lacks, and the command that mends it."""

import os
import sys
from typing import Any

import click

from wheelfarm.commands.command import Command, reporting, shared_options
from wheelfarm.errors import MachineUnfit, WheelfarmError
from wheelfarm.installation import environment_to_build_for
from wheelfarm.target import Target


@click.command("doctor")
@click.option("-p", "--python", help="The environment or interpreter to build for: a path, a name or a version.")
@shared_options
def doctor_command(python: str | None, **shared: Any) -> None:
    """Look at what this machine has and lacks, and tell the command that mends it.

    The exit code is 0 when packages can be built and installed. What is optional is needed only by the sdists that are
    named beside it.
    """
    from wheelfarm.check import check_lines
    from wheelfarm.examination import examine, is_fit

    with reporting(**shared) as command:
        checks = list(examine(command.settings, _target(command, python)))
        fit = is_fit(checks)
        command.answer(
            {"fit": fit, "checks": [check.to_json() for check in checks]},
            check_lines(checks),
        )
        if not fit:
            sys.exit(MachineUnfit.exit_code)


def _target(command: Command, python: str | None) -> Target | WheelfarmError:
    try:
        return command.target(environment_to_build_for(os.environ, python))
    except WheelfarmError as error:
        return error
