"""`wheelfarm plan`: what a request would take, before anything is built."""

import os
from typing import Any

import click

from wheelfarm.commands.command import printable, reporting
from wheelfarm.commands.obtaining import Asked, asking_options
from wheelfarm.installation import environment_to_build_for


@click.command("plan")
@asking_options
def plan_command(asked: Asked, **shared: Any) -> None:
    """Tell what is cached, what would be built, how long that takes and what is likely to fail. Nothing is built."""
    from wheelfarm.outlook import is_here, outlook, survey
    from wheelfarm.outlook_text import outlook_lines

    with reporting(**shared) as command:
        requirements = asked.read()
        target = command.target(environment_to_build_for(os.environ, asked.python))
        with command.farm() as farm:
            cache_dir, say = command.settings.cache / "uv", command.reporter.say
            found = survey(requirements, target, farm=farm, cache_dir=cache_dir, say=say)
        has_tool = (lambda tool: None) if command.settings.url else is_here
        told = outlook(found, target, slots=command.settings.slots, has_tool=has_tool)
        command.answer(told.to_json(), [printable(line) for line in outlook_lines(told)])
