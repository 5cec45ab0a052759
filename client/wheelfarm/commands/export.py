"""`wheelfarm export`: a target's wheels as a folder that pip, uv and others install from without any farm."""

import os
from pathlib import Path
from typing import Any

import click
from packaging.utils import canonicalize_name

from wheelfarm.commands.command import Command, reporting, shared_options, target_option
from wheelfarm.errors import InputError
from wheelfarm.installation import environment_to_build_for
from wheelfarm.target import TARGET_NAME


@click.command("export")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.argument("projects", metavar="[PROJECT]...", nargs=-1)
@target_option("The target whose wheels are wanted. Default: that of the interpreter here.")
@click.option("--with-build-requirements", is_flag=True, help="Also the wheels that these were built with.")
@click.option("--verify", is_flag=True, help="Write nothing: check that DIR is what its manifest says. Asks no farm.")
@click.option("--sha256", default="", help="With --verify: the digest that was told when the export was made.")
@shared_options
def export_command(
    folder: Path,
    projects: tuple[str, ...],
    target: str | None,
    with_build_requirements: bool,
    verify: bool,
    sha256: str,
    **shared: Any,
) -> None:
    """Write a target's wheels into DIR, or those of some PROJECTs and what they require.

    DIR is a link to a folder beside it, and is switched to a new one at once; what is there already is not fetched
    again. pip and uv take it with --no-index --find-links DIR.
    """
    with reporting(**shared) as command:
        if verify:
            _verify(command, folder, sha256.lower())
            return
        if sha256:
            raise InputError("--sha256 is for --verify.")
        _export(command, folder, [canonicalize_name(name) for name in projects], target, with_build_requirements)


def _verify(command: Command, folder: Path, sha256: str) -> None:
    from wheelfarm.export import verified_manifest

    manifest = verified_manifest(folder, sha256)
    command.answer(
        {"target": manifest.target, "sha256": manifest.sha256, "wheels": [one.to_json() for one in manifest.wheels]},
        [f"{folder} is whole: {len(manifest.wheels)} wheels for {manifest.target}, sha256 {manifest.sha256}"],
    )


def _export(
    command: Command, folder: Path, projects: list[str], target: str | None, with_build_requirements: bool
) -> None:
    from wheelfarm.export_writer import write_export

    name = target or command.target(environment_to_build_for(os.environ, None)).name
    if not TARGET_NAME.fullmatch(name):
        raise InputError(f"{name!r} can't be the name of a target.", hint="wheelfarm status tells which are served")
    with command.farm() as farm:
        plan = farm.export(name, projects, build_requirements=with_build_requirements)
        written = write_export(plan, farm, folder)
    manifest = written.manifest
    command.reporter.say(f"wheels: {len(manifest.wheels)}, new: {len(written.new)}, gone: {len(written.gone)}")
    command.answer(
        {
            "target": manifest.target,
            "sha256": manifest.sha256,
            "wheels": [wheel.to_json() for wheel in manifest.wheels],
            "new": [wheel.filename for wheel in written.new],
            "gone": list(written.gone),
        },
        [f"{folder}: {len(manifest.wheels)} wheels for {manifest.target}, sha256 {manifest.sha256}"],
    )
