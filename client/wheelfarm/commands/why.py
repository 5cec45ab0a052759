"""`wheelfarm why`: what a wheel was built from and with, and which requirement brought it."""

import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from wheelfarm.commands.command import Command, reporting, shared_options, target_option
from wheelfarm.digest import sha256_of_file
from wheelfarm.errors import InputError
from wheelfarm.explanation import Explanation, ResolvedSet, bringings
from wheelfarm.explanation_text import explanation_lines
from wheelfarm.installation import environment_to_build_for
from wheelfarm.target_markers import marker_environment
from wheelfarm.wheel_metadata import read_wheel_metadata
from wheelfarm.wheelhouse import PastResolution


@click.command("why")
@click.argument("wanted", metavar="WHEEL|PACKAGE[==VERSION]")
@click.option("-p", "--python", help="The environment or interpreter whose wheels are meant: path, name or version.")
@target_option("The target whose wheels are meant: a name of `wheelfarm target list`.")
@shared_options
def why_command(wanted: str, python: str | None, target: str | None, **shared: Any) -> None:
    """Tell what a wheel of the farm was built from and with, and which requirement brought it.

    A WHEEL is found by its file name and, where the file is here, its bytes, wherever it was copied to; of a PACKAGE
    the newest wheel is told that the farm has built for the interpreter.
    """
    with reporting(**shared) as command:
        meant = (
            command.named_target(target)
            if target is not None
            else command.target(environment_to_build_for(os.environ, python))
        )
        with command.farm() as farm:
            explanation = farm.explain(meant, **_wanted(wanted))
        ways = list(bringings(explanation, _resolved_sets(command, explanation), _markers(explanation)))
        value = {**explanation.to_json(), "brought_by": [asdict(way) for way in ways]}
        command.answer(value, explanation_lines(explanation, ways, meant))


def _wanted(text: str) -> dict[str, str]:
    """What to ask the farm for. Raises InputError for a file name that no wheel can have."""
    path = Path(text)
    if not path.name.endswith(".whl"):
        return {"requirement": text}
    try:
        parse_wheel_filename(path.name)
    except InvalidWheelFilename as error:
        raise InputError(f"{text!r} is not the name of a wheel: {error}.") from error
    if path.is_file():
        return {"filename": path.name, "sha256": sha256_of_file(path)}
    if "/" in text:
        raise InputError(f"There is no file {text}.", hint="A wheel that is not here is named by its file name alone.")
    return {"filename": path.name}


def _markers(explanation: Explanation) -> Mapping[str, str]:
    return marker_environment(explanation.origin.target)


def _resolved_sets(command: Command, explanation: Explanation) -> list[ResolvedSet]:
    past = command.wheelhouse.past_resolutions(explanation.origin.target.name)
    concerned = {explanation.wheel.filename, *(use.filename for uses in explanation.used_by.values() for use in uses)}
    return [
        _resolved_set(command, resolution)
        for resolution in past
        if concerned.intersection(wheel.filename for wheel in resolution.wheels)
    ]


def _resolved_set(command: Command, resolution: PastResolution) -> ResolvedSet:
    wheels = {wheel.name: wheel for wheel in resolution.wheels}
    return ResolvedSet(
        asked=resolution.asked,
        resolved_at=resolution.resolved_at,
        wheels=wheels,
        requires_dist={
            name: read_wheel_metadata(command.wheelhouse.wheel(wheel)).requires_dist for name, wheel in wheels.items()
        },
    )
