"""`wheelfarm lock`: a lock of the farm's wheels, for stock uv and pip to install from."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from wheelfarm.commands.command import Command, reporting
from wheelfarm.commands.obtaining import Asked, asking_options, obtain, target_asked_for
from wheelfarm.errors import InputError, LockOutdated
from wheelfarm.farm_lock import LockFormat, WheelSource, locked_versions, render_lock
from wheelfarm.files import write_whole
from wheelfarm.requirements import Requirements
from wheelfarm.wheel import BuiltWheel

_NAMES = {LockFormat.PYLOCK: Path("pylock.toml"), LockFormat.REQUIREMENTS: Path("requirements.lock.txt")}


@click.command("lock")
@asking_options
@click.option(
    "-o",
    "--output",
    "outputs",
    multiple=True,
    type=click.Path(path_type=Path),
    help="The lock: pylock.toml, pylock.NAME.toml or NAME.txt (a requirements file); several times for several.",
)
@click.option(
    "--format",
    "formats",
    multiple=True,
    type=click.Choice([one.value for one in LockFormat]),
    help="Without --output: write pylock.toml (the default), requirements.lock.txt, or both.",
)
@click.option("--check", is_flag=True, help="Write nothing; fail where a lock is not what would be written.")
def lock_command(asked: Asked, outputs: tuple[Path, ...], formats: tuple[str, ...], check: bool, **shared: Any) -> None:
    """Build what is missing, and write a lock that names the farm's wheels by URL and hash.

    Versions that the lock names already are kept where they do; --upgrade looks for newer ones.
    """
    with reporting(**shared) as command:
        paths = outputs or tuple(_NAMES[LockFormat(name)] for name in formats or [LockFormat.PYLOCK])
        requirements = _with_preferences(asked, paths)
        target, source = target_asked_for(command, asked), _source(command)
        wheels = obtain(command, asked, requirements, target).wheels
        texts = {path: render_lock(path, wheels, target, source) for path in paths}
        _check(texts) if check else _write(texts)
        if requirements.lock is None and not requirements.local:  # what the lock prefers from now on leads here again
            versions = {wheel.name: wheel.version for wheel in wheels}
            preferring = replace(requirements, preferred=versions)
            command.wheelhouse.remember(preferring, target, wheels, policy=command.policy.identity)
        command.reporter.say(_told(wheels, target.name, paths, check))
        value = {"locks": [str(path) for path in paths], "wheels": [wheel.to_json() for wheel in wheels]}
        command.answer(value, [str(path) for path in paths])


def _with_preferences(asked: Asked, paths: Sequence[Path]) -> Requirements:
    """What is asked for, with the versions that the locks have already. Raises InputError for a file that must stay."""
    for path in paths:
        LockFormat.of(path)
        if path.resolve() in {file.resolve() for file in asked.files}:
            raise InputError(f"{path} would be overwritten by what is made from it.", hint="Name another --output.")
    known = [versions for path in paths if (versions := locked_versions(path)) is not None]
    requirements = asked.read()
    if asked.upgrade or not known or requirements.lock is not None:
        return requirements
    return replace(requirements, preferred=known[0])


def _source(command: Command) -> WheelSource:
    if command.settings.url:
        return WheelSource(url=command.settings.url)
    return WheelSource(folder=command.wheelhouse.root)


def _check(texts: dict[Path, str]) -> None:
    for path, text in texts.items():
        if not path.exists() or path.read_text() != text:
            raise LockOutdated(
                f"{path} {'is not what its requirements lead to now' if path.exists() else 'does not exist'}.",
                hint="Write it anew: the same command without --check.",
            )


def _write(texts: dict[Path, str]) -> None:
    for path, text in texts.items():
        try:
            write_whole(path, text)
        except OSError as error:
            raise InputError(f"{path} can't be written: {error.strerror}.") from error


def _told(wheels: Sequence[BuiltWheel], target: str, paths: Sequence[Path], check: bool) -> str:
    names = " and ".join(map(str, paths))
    return f"{names} {'is current' if check else 'names'}: {len(wheels)} wheels for {target}"
