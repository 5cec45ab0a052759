"""`wheelfarm install`: build what is missing, and install it."""

import os
import time
from pathlib import Path
from typing import Any

import click

from wheelfarm.commands.command import reporting
from wheelfarm.commands.obtaining import Asked, asking_options, obtain, target_asked_for
from wheelfarm.installation import find_environment, install
from wheelfarm.reporter import seconds_since


@click.command("install")
@asking_options
@click.option("--venv", type=click.Path(path_type=Path), help="Install into this environment, made when it is absent.")
@click.option("--target-dir", type=click.Path(path_type=Path), help="Install into this plain directory.")
def install_command(asked: Asked, venv: Path | None, target_dir: Path | None, **shared: Any) -> None:
    """Build what is missing and install it into the active environment, from the farm alone, by hash."""
    with reporting(**shared) as command:
        start = time.monotonic()
        requirements = asked.read()
        environment = find_environment(os.environ, python=asked.python, venv=venv, directory=target_dir)
        target = target_asked_for(command, asked, environment)
        found = obtain(command, asked, requirements, target)
        command.enter("installing")
        new = install(found, command.wheelhouse, environment, cache_dir=command.settings.cache / "uv")
        command.reporter.say(
            f"installed {len(new)} of {len(found.wheels)} packages into {environment.shown} in {seconds_since(start)}"
            if new
            else f"nothing to do: all {len(found.wheels)} packages are installed from the farm"
        )
        command.answer(
            {
                "installed": [wheel.to_json() for wheel in new],
                "wheels": [wheel.to_json() for wheel in found.wheels],
            },
            [f"{wheel.name}=={wheel.version}" for wheel in new],
        )
