"""`wheelfarm config`: how pip, uv, poetry and pdm are told to use the farm alone, and whether they do."""

import os
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from wheelfarm.client_configuration import Client, configuration_of, configuration_of_export, simple_index
from wheelfarm.commands.command import Command, Verb, reporting, shared_options, target_option
from wheelfarm.errors import InputError, NotFound, OtherIndexAsked
from wheelfarm.installation import environment_to_build_for
from wheelfarm.target import TARGET_NAME

_CLIENTS = [str(client) for client in Client]


def _place_options(function: Verb) -> Verb:
    for option in (
        target_option("The target whose index is meant. Default: that of the interpreter here."),
        click.option("--url", help="The farm's address. Default: WHEELFARM_URL."),
        click.option(
            "--export",
            "folder",
            type=click.Path(path_type=Path, file_okay=False),
            help="An export on disk instead of the farm.",
        ),
    ):
        function = option(function)
    return function


class _Configurations(click.Group):
    """One command a client, and `check`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*_CLIENTS, "check"]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return check_command if cmd_name == "check" else _print_command(cmd_name) if cmd_name in _CLIENTS else None


@click.group("config", cls=_Configurations)
def config_command() -> None:
    """Print the configuration by which an installer uses the farm and nothing else."""


def _print_command(name: str) -> click.Command:
    @click.command(name, help=f"Print what makes {name} use the farm and nothing else.")
    @_place_options
    @shared_options
    def print_command(target: str | None, url: str | None, folder: Path | None, **shared: Any) -> None:
        with reporting(**shared) as command:
            if folder is not None:
                found = configuration_of_export(Client(name), folder)
            else:
                found = configuration_of(Client(name), _index(command, url, target))
            command.answer(found.to_json(), found.lines)

    return print_command


@click.command("check")
@click.argument("clients", nargs=-1, metavar="[CLIENT]...", type=click.Choice(_CLIENTS))
@_place_options
@shared_options
def check_command(
    clients: tuple[str, ...], target: str | None, url: str | None, folder: Path | None, **shared: Any
) -> None:
    """Run the installers that are on PATH, as they are configured here, and tell what they really ask.

    Each is sent for a project that does not exist, through a proxy that answers in everybody's place: nothing leaves
    this machine. The exit code is 0 when all of them ask the farm and nothing else.
    """
    from wheelfarm.client_check import check_client, check_lines, found_clients

    with reporting(**shared) as command:
        wanted = [Client(name) for name in clients] or list(Client)
        programs = found_clients(wanted, os.environ)
        if absent := [client for client in wanted if clients and client not in programs]:
            raise NotFound(f"{', '.join(absent)} is not on PATH.")
        if not programs:
            raise NotFound(f"None of {', '.join(wanted)} is on PATH.")
        allowed = [str(folder.absolute())] if folder else [_index(command, url, target)]
        checks = [check_client(one, path, allowed, os.environ, Path.cwd()) for one, path in programs.items()]
        lines = [line for check in checks for line in check_lines(check)]
        command.answer({"checks": [check.to_json() for check in checks]}, lines)
        if wrong := [check.client for check in checks if not check.uses_farm_alone]:
            error = OtherIndexAsked(
                f"Not configured for {allowed[0]} alone: {', '.join(wrong)}.", hint=f"wheelfarm config {wrong[0]}"
            )
            command.reporter.insist(f"error: {error.message}\nhint: {error.hint}")
            sys.exit(error.exit_code)


def _index(command: Command, url: str | None, target: str | None) -> str:
    """The index that is meant. Raises InputError where no farm is named, or a target can't be one."""
    if not (farm := url or command.settings.url):
        raise InputError(
            "No farm is named, and the one of this machine ends with its last command.",
            hint="Set WHEELFARM_URL or give --url; for packages on disk: --export DIR",
        )
    parts = urlsplit(farm)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise InputError("The farm's address is not accepted.", hint="Accepted: https://HOST, without credentials")
    name = target or command.target(environment_to_build_for(os.environ, None)).name
    if not TARGET_NAME.fullmatch(name):
        raise InputError(f"{name!r} can't be the name of a target.", hint="wheelfarm status tells which are served")
    return simple_index(farm, name)
