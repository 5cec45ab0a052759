"""`wheelfarm services`: a farm's API, source index and reconciler."""

import os
from typing import Any

import click

from wheelfarm.commands.command import reporting, shared_options
from wheelfarm.listening import DEFAULT_ADDRESS
from wheelfarm.parts import become
from wheelfarm.settings import Settings


@click.command("services")
@click.option("--listen", default=DEFAULT_ADDRESS, show_default=True, help="Where to answer: HOST:PORT or unix:PATH.")
@click.option("--no-reconciler", is_flag=True, help="Leave repairs to reconcilers that run by themselves.")
@shared_options
def services_command(listen: str, no_reconciler: bool, **shared: Any) -> None:
    """Answer for the farm of WHEELFARM_BROKER and WHEELFARM_STORE until told to end; any number may do so at once.

    Where others than this machine can reach it, WHEELFARM_TOKEN must be set.
    """
    with reporting(**shared) as command:
        settings = Settings.from_environment(os.environ, required=["broker"])
        become(
            "services",
            "wheelfarm_services",
            [
                *("--listen", listen),
                *(["--no-reconciler"] if no_reconciler else []),
                *(["--json"] if command.as_json else []),
            ],
            settings,
        )
