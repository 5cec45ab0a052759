"""`wheelfarm policy`: look at the farm's policy, and check a file before it gets it."""

from pathlib import Path
from typing import Any

import click

from wheelfarm.commands.command import reporting, shared_options


@click.group("policy")
def policy_command() -> None:
    """Show the farm's policy: what may enter it."""


@policy_command.command("check")
@click.argument("path", type=click.Path(path_type=Path))
@shared_options
def check_command(path: Path, **shared: Any) -> None:
    """Check a policy file, as the farm would."""
    with reporting(**shared) as command:
        from datetime import UTC, datetime

        from wheelfarm.policy_file import read_policy_file
        from wheelfarm.policy_text import policy_lines, rule_counts

        policy = read_policy_file(path).policy
        command.answer(
            {"file": str(path), **rule_counts(policy)}, [f"{path}:", *policy_lines(policy, datetime.now(UTC))]
        )


@policy_command.command("show")
@shared_options
def show_command(**shared: Any) -> None:
    """Show the farm's policy file."""
    with reporting(**shared) as command, command.farm() as farm:
        found = farm.policy()
        text = (
            [f"# {found['origin']}", found["source"].rstrip("\n")] if found["origin"] else ["The farm has no policy."]
        )
        command.answer(found, text)
