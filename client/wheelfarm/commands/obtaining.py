"""What `install` and `build` share: the arguments that say what to build, and obtaining the wheels."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from wheelfarm.commands.command import Command, Verb, shared_options
from wheelfarm.installation import Environment
from wheelfarm.progress import seconds_since
from wheelfarm.requirements import Requirements, read_requirements
from wheelfarm.wheelhouse import Remembered


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """The arguments that say what to build, and for which interpreter, as they were given."""

    requirements: tuple[str, ...]
    files: tuple[Path, ...]
    constraints: tuple[Path, ...]
    editables: tuple[str, ...]
    extras: tuple[str, ...]
    all_extras: bool
    groups: tuple[str, ...]
    prerelease: bool
    python: str | None
    upgrade: bool
    retry: bool
    keep_going: bool

    def read(self) -> Requirements:
        """The requirements, with the files that they name. Raises InputError."""
        return read_requirements(
            self.requirements,
            self.files,
            self.constraints,
            editables=self.editables,
            extras=self.extras,
            all_extras=self.all_extras,
            groups=self.groups,
            prerelease=self.prerelease,
        )


def asking_options(function: Verb) -> Verb:
    """The arguments of `Asked`, which the verb gets as `asked`, and the shared options."""

    def verb(**given: Any) -> None:
        asked = {name: given.pop(name) for name in Asked.__slots__}
        function(asked=Asked(**asked), **given)

    verb.__doc__ = function.__doc__
    verb.__click_params__ = getattr(function, "__click_params__", [])  # type: ignore[attr-defined]
    path = click.Path(path_type=Path)
    for option in (
        click.option("--retry", is_flag=True, help="Forget failures: build again what failed before."),
        click.option("--keep-going", is_flag=True, help="After a failure, build all the same what can be built."),
        click.option("--upgrade", is_flag=True, help="Resolve anew instead of taking up a resolution of the last day."),
        click.option(
            "-p", "--python", help="The environment or interpreter to build for: a path, a name or a version."
        ),
        click.option("--pre", "prerelease", is_flag=True, help="Take pre-releases, too."),
        click.option(
            "--group", "groups", multiple=True, help="A dependency group, NAME of ./pyproject.toml or FILE:NAME."
        ),
        click.option("--all-extras", is_flag=True, help="All extras of the project (-r pyproject.toml) or lock."),
        click.option("--extra", "extras", multiple=True, help="An extra of the project (-r pyproject.toml) or lock."),
        click.option("-e", "--editable", "editables", multiple=True, hidden=True),
        click.option("-c", "--constraint", "constraints", multiple=True, type=path, help="A constraints file."),
        click.option(
            "-r",
            "--requirement",
            "files",
            multiple=True,
            type=path,
            help="A requirements file, a project's pyproject.toml, or a pylock.toml.",
        ),
        click.argument("requirements", nargs=-1, metavar="[REQ]..."),
    ):
        option(verb)
    return shared_options(verb)


def obtain(command: Command, asked: Asked, requirements: Requirements, environment: Environment) -> Remembered:
    """The wheels of the requirements, in the wheelhouse: remembered, or resolved and built now."""
    target = command.target(environment)
    if not asked.upgrade and (remembered := command.wheelhouse.recall(requirements, target)) is not None:
        return remembered
    from wheelfarm.chain import build

    start = time.monotonic()
    progress = command.progress
    progress.enter("resolving")
    with command.farm() as farm:
        wheels = build(
            requirements,
            target,
            farm=farm,
            settings=command.settings,
            wheelhouse=command.wheelhouse,
            watch=progress.watch,
            retry=asked.retry,
            keep_going=asked.keep_going,
        )
    command.reporter.say(f"{len(wheels)} wheels for {target.name}, {progress.built} built in {seconds_since(start)}")
    return command.wheelhouse.remember(requirements, target, wheels)
