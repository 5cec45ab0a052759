"""`wheelfarm plan`: what a request would take, before anything is built."""

from typing import Any

import click

from wheelfarm.commands.command import reporting
from wheelfarm.commands.obtaining import Asked, asking_options, packed_sources, target_asked_for


@click.command("plan")
@asking_options
def plan_command(asked: Asked, **shared: Any) -> None:
    """Tell what is cached, what would be built, how long that takes and what is likely to fail. Nothing is built."""
    from wheelfarm.outlook import is_here, outlook, survey
    from wheelfarm.outlook_text import outlook_lines
    from wheelfarm.stated_tree import stated_tree

    with reporting(**shared) as command:
        requirements = asked.read()
        target = target_asked_for(command, asked)
        with packed_sources(requirements, target) as sources:
            trees = [stated_tree(source) for source in sources]
        with command.farm() as farm:
            cache_dir, say = command.settings.cache / "uv", command.reporter.say
            found = survey(requirements, target, farm=farm, cache_dir=cache_dir, say=say, trees=trees)
        has_tool = (lambda tool: None) if command.settings.url else is_here
        told = outlook(found, target, slots=command.settings.slots, has_tool=has_tool)
        command.answer(told.to_json(), outlook_lines(told))
