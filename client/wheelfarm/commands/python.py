"""`wheelfarm python`: the Python distributions that the farm keeps, for targets and for uv."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from wheelfarm.commands.command import reporting, shared_options
from wheelfarm.errors import InputError, NotFound
from wheelfarm.interpreter import Interpreter
from wheelfarm.interpreter_source import Wanted, fetch, find_offers, offers_left

_PREFIX = "/install"
_PLATFORM = click.option("--platform", default="*", help="Of this platform alone, such as linux-x86_64-gnu; a pattern.")


@click.group("python")
def python_command() -> None:
    """Bring Python distributions into the farm, and look at those that it keeps."""


@python_command.command("add")
@click.argument("source")
@click.option("--select", multiple=True, help="Keys to take of several, a pattern: 'cpython-3.12.*-linux-x86_64-gnu'.")
@click.option("--sha256", default="", help="The archive's digest, where nothing beside it tells.")
@click.option(
    "--key", default="", help="What uv calls it, where its name doesn't tell: cpython-3.12.1-linux-x86_64-gnu."
)
@click.option("--build", default="", help="The build, such as 20261120; of several, take those of it alone.")
@click.option("--mirror", default="", help="Where the archives of a JSON lie, instead of where it says.")
@shared_options
def add_command(source: str, select: tuple[str, ...], **given: Any) -> None:
    """Bring in Python distributions from SOURCE.

    SOURCE is an archive (.tar.gz, .tar.zst), the folder of a release with its SHA256SUMS, ending in /, or a JSON as uv
    reads it; a path, a file:// or an https:// URL. It is read by this machine, with its credentials.
    """
    facts = {name: given.pop(name) for name in ("sha256", "key", "build", "mirror")}
    with reporting(**given) as command:
        offers = find_offers(source, Wanted(select=select, **facts))
        with command.farm() as farm, TemporaryDirectory(prefix="wheelfarm-python-") as folder:
            left = offers_left(offers, farm.interpreters())
            for offer in left:
                command.reporter.say(f"bringing in {offer.filename}")
                path = Path(folder) / "archive"
                fetch(offer, path)
                kept = farm.keep_interpreter(path, offer)
                path.unlink()
                if kept.prefix not in ("", _PREFIX):
                    command.reporter.insist(
                        f"note: {kept.filename} was configured with the prefix {kept.prefix}, not {_PREFIX}, which uv "
                        "alone replaces where it installs: sysconfig goes on to name the former"
                    )
            added = {(offer.build, offer.filename) for offer in left}
            wanted = {(offer.build, offer.filename) for offer in offers}
            listed = [one for one in farm.interpreters() if (one.build, one.filename) in wanted]
        command.answer(
            {"pythons": [{**one.to_json(), "added": (one.build, one.filename) in added} for one in listed]},
            [f"{_line(one)}{'' if (one.build, one.filename) in added else '  (was there)'}" for one in listed],
        )


@python_command.command("list")
@_PLATFORM
@shared_options
def list_command(platform: str, **shared: Any) -> None:
    """List the Python distributions, of each the newest build first."""
    with reporting(**shared) as command, command.farm() as farm:
        found = [one for one in farm.interpreters() if fnmatchcase(one.platform, platform)]
        command.answer({"pythons": [one.to_json() for one in found]}, [_line(one) for one in found])
        if command.settings.url and found:
            command.reporter.say(f"for uv: UV_PYTHON_DOWNLOADS_JSON_URL={farm.url}/pythons/downloads.json")


@python_command.command("show")
@click.argument("reference")
@_PLATFORM
@shared_options
def show_command(reference: str, platform: str, **shared: Any) -> None:
    """Show what is known of a distribution: REFERENCE is as listed (3.12.1+20261120), a key or a file name."""
    with reporting(**shared) as command, command.farm() as farm:
        found = _named(reference, platform, farm.interpreters())
        lines = [
            f"{name}: {value}" for one in found for name, value in {"reference": one.reference, **one.to_json()}.items()
        ]
        command.answer({"pythons": [one.to_json() for one in found]}, lines)


@python_command.command("remove")
@click.argument("reference")
@_PLATFORM
@shared_options
def remove_command(reference: str, platform: str, **shared: Any) -> None:
    """Give a distribution no more: REFERENCE is as listed (3.12.1+20261120) or a file name.

    Its archive goes with the next `wheelfarm gc`.
    """
    with reporting(**shared) as command, command.farm() as farm:
        found = _named(reference, platform, farm.interpreters())
        if len({(one.key, one.build) for one in found}) > 1:
            raise InputError(
                f"{reference} names several: {', '.join(f'{one.key} ({one.build})' for one in found)}.",
                hint="Name a build, VERSION+BUILD, and a --platform.",
            )
        for one in found:
            farm.remove_interpreter(one)
        command.answer({"removed": [one.to_json() for one in found]}, [f"removed {_line(one)}" for one in found])


def _named(reference: str, platform: str, interpreters: Sequence[Interpreter]) -> list[Interpreter]:
    """Those that a reference names, on platforms that match. Raises NotFound."""
    found = [
        one
        for one in interpreters
        if fnmatchcase(one.platform, platform) and reference in (one.reference, one.key, one.filename)
    ]
    if not found:
        there = ", ".join(dict.fromkeys(one.reference for one in interpreters)) or "none"
        raise NotFound(f"The farm keeps no Python {reference}. It has: {there}.", hint="wheelfarm python list")
    return found


def _line(one: Interpreter) -> str:
    return f"{one.reference}  {one.key}  {one.size / (1 << 20):.1f} MiB  sha256:{one.sha256[:12]}  {one.filename}"
