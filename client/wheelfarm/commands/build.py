"""`wheelfarm build`: wheels without installing."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

from wheelfarm.commands.command import Command, reporting
from wheelfarm.commands.obtaining import Asked, asking_options, leave, obtain, target_asked_for
from wheelfarm.errors import RequestFailed
from wheelfarm.files import replacing
from wheelfarm.installation import Environment, find_environment
from wheelfarm.wheel import BuiltWheel


@click.command("build")
@asking_options
@click.option(
    "--detach", is_flag=True, help="Leave it to the farm, and print the id that `wheelfarm wait` takes up again."
)
@click.option("--out", type=click.Path(path_type=Path), help="Copy the wheels there, for pip's --find-links.")
def build_command(asked: Asked, detach: bool, out: Path | None, **shared: Any) -> None:
    """Build the requirements and all that they need, without installing.

    With --keep-going the wheels that could be built are delivered even though others failed. With --detach the command
    ends once it is known what has to be built.
    """
    with reporting(**shared) as command:
        requirements = asked.read()
        environment = None if asked.target else _environment(asked)
        target = target_asked_for(command, asked, environment)
        if detach:
            leave(command, asked, requirements, target)
            return
        make_folder(out)
        try:
            found = obtain(command, asked, requirements, target)
        except RequestFailed as failed:
            deliver_and_fail(command, failed, out)
        deliver(command, found.wheels, out)


def _environment(asked: Asked) -> Environment:
    return find_environment(os.environ, python=asked.python or "python3", venv=None, directory=None)


def make_folder(out: Path | None) -> None:
    """Have the folder for the wheels, before anything is built for it."""
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)


def deliver(command: Command, wheels: Sequence[BuiltWheel], out: Path | None) -> None:
    """The wheels as the result, copied to `out` where that is given."""
    delivered = _delivered(command, wheels, out)
    command.answer({"wheels": delivered}, [wheel["path"] for wheel in delivered])


def deliver_and_fail(command: Command, failed: RequestFailed, out: Path | None) -> NoReturn:
    """The wheels that are there all the same, and the end of the command."""
    delivered = _delivered(command, failed.wheels, out)
    if not command.as_json:
        command.answer({}, [wheel["path"] for wheel in delivered])
    command.fail(failed, {"wheels": delivered})


def _delivered(command: Command, wheels: Sequence[BuiltWheel], out: Path | None) -> list[dict[str, str]]:
    """The wheels as results tell them, each with its path, copied to `out` where that is given."""
    paths = [_copied(command.wheelhouse.wheel(wheel), out) for wheel in wheels]
    return [{**wheel.to_json(), "path": str(path)} for wheel, path in zip(wheels, paths, strict=True)]


def _copied(wheel: Path, out: Path | None) -> Path:
    if out is None:
        return wheel
    with wheel.open("rb") as file, replacing(out / wheel.name) as copy:
        shutil.copyfileobj(file, copy, 1 << 20)
    return out / wheel.name
