"""`wheelfarm import`: the wheels of an export, onto the index of a farm that did not build them."""

from pathlib import Path
from typing import Any

import click

from wheelfarm.commands.command import reporting, shared_options


@click.command("import")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--sha256", default="", help="The digest that was told when the export was made.")
@shared_options
def import_command(folder: Path, sha256: str, **shared: Any) -> None:
    """Put the wheels of an export onto the farm's index of the same target.

    Every byte is compared with the manifest before anything is sent, and by the farm with what it is told; nothing of
    an export that was tampered with gets in. Safe to repeat.
    """
    from wheelfarm.export import read_provenance, verified_manifest

    with reporting(**shared) as command:
        manifest = verified_manifest(folder, sha256.lower())
        with command.farm() as farm:
            standing = [
                farm.take_in(wheel, folder / wheel.filename, read_provenance(folder, wheel))
                for wheel in manifest.wheels
            ]
        others = [one.filename for one, wheel in zip(standing, manifest.wheels, strict=True) if one != wheel]
        told = f"{len(standing) - len(others)} of {len(standing)} wheels are on the index of {manifest.target}"
        command.answer(
            {
                "target": manifest.target,
                "sha256": manifest.sha256,
                "wheels": [wheel.to_json() for wheel in standing],
                "built_here": others,
            },
            [told, *(f"the farm had built it itself: {name}" for name in others)],
        )
