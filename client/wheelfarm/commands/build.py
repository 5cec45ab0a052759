"""`wheelfarm build`: wheels without installing."""

import os
import shutil
from pathlib import Path
from typing import Any

import click

from wheelfarm.commands.command import reporting
from wheelfarm.commands.obtaining import Asked, asking_options, obtain
from wheelfarm.installation import find_environment


@click.command("build")
@asking_options
@click.option("--out", type=click.Path(path_type=Path), help="Copy the wheels there, for pip's --find-links.")
def build_command(asked: Asked, out: Path | None, **shared: Any) -> None:
    """Build the requirements and all that they need, without installing."""
    with reporting(**shared) as command:
        requirements = asked.read()
        environment = find_environment(os.environ, python=asked.python or "python3", venv=None, directory=None)
        found = obtain(command, asked, requirements, environment)
        paths = [_delivered(command.wheelhouse.wheel(wheel), out) for wheel in found.wheels]
        command.answer(
            {
                "wheels": [
                    {**wheel.to_json(), "path": str(path)} for wheel, path in zip(found.wheels, paths, strict=True)
                ]
            },
            [str(path) for path in paths],
        )


def _delivered(wheel: Path, out: Path | None) -> Path:
    if out is None:
        return wheel
    out.mkdir(parents=True, exist_ok=True)
    partial = out / f".{wheel.name}.part"
    shutil.copyfile(wheel, partial)
    return partial.replace(out / wheel.name)
