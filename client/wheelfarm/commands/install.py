"""`wheelfarm install`: build what is missing, and install it."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from wheelfarm.commands.command import Command, reporting
from wheelfarm.commands.obtaining import Asked, asking_options, obtain, target_asked_for
from wheelfarm.errors import NoWorker
from wheelfarm.installation import Environment, find_environment, install
from wheelfarm.reporter import seconds_since
from wheelfarm.target import Target, needs_asking
from wheelfarm.traces import span
from wheelfarm.wheel import BuiltWheel


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
        try:
            found = obtain(command, asked, requirements, target)
        except NoWorker as error:
            target = _other_target(command, target, environment, error)
            found = obtain(command, asked, requirements, target)
        _require_fit(command, found.wheels, target, environment)
        command.enter("installing")
        with span("install"):
            new = install(found, command.wheelhouse, environment, cache=command.settings.cache)
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


def _require_fit(command: Command, wheels: Sequence[BuiltWheel], target: Target, environment: Environment) -> None:
    """Raise UnfitTarget where the environment does not take a wheel, by what its interpreter tells now."""
    if needs_asking(wheels, target):
        from wheelfarm.environment_tags import environment_tags, require_fit

        tags = environment_tags(environment.python, environment.shown)
        if not all(map(tags.takes, wheels)):
            require_fit(wheels, target, tags, command.targets())


def _other_target(command: Command, host: Target, environment: Environment, error: NoWorker) -> Target:
    """The one defined target that suits the environment, where nobody serves its machine's own. Raises NoWorker, with
    the targets that suit it, where that is not clear."""
    from wheelfarm.environment_tags import environment_tags, near_targets

    defined = [target for target in command.targets() if not target.name.startswith("host-")]
    if not host.name.startswith("host-") or not defined:
        raise error
    tags = environment_tags(environment.python, environment.shown)
    suited = [target for target in defined if tags.suits(target)]
    if len(suited) != 1:
        raise NoWorker(error.message, hint=f"{near_targets(tags, defined)}\nName one: --target NAME")
    command.reporter.say(f"note: {host.name} is not served; building for {suited[0].name}, which suits the environment")
    return suited[0]
