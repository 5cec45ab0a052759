"""What `install` and `build` share: the arguments that say what to build, and obtaining the wheels."""

import os
import re
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wheelfarm.commands.command import Command, Verb, shared_options, target_option
from wheelfarm.errors import InputError, NotFound
from wheelfarm.installation import Environment, environment_to_build_for
from wheelfarm.reporter import seconds_since
from wheelfarm.requirements import Requirements, read_requirements
from wheelfarm.target import Target
from wheelfarm.wheelhouse import Remembered

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from wheelfarm.chain import LocalSdist
    from wheelfarm.known_policy import KnownPolicy
    from wheelfarm.packing import PackedSource
    from wheelfarm.wheel import BuiltWheel


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """The arguments that say what to build, and for which interpreter, as they were given."""

    requirements: tuple[str, ...]
    files: tuple[Path, ...]
    constraints: tuple[Path, ...]
    editables: tuple[str, ...]
    locked: bool
    extras: tuple[str, ...]
    all_extras: bool
    groups: tuple[str, ...]
    prerelease: bool
    python: str | None
    target: str | None
    upgrade: bool
    retry: bool
    keep_going: bool
    allow_unclosed: bool

    def read(self) -> Requirements:
        """The requirements, with the files that they name. Raises InputError."""
        return read_requirements(
            self.requirements,
            self.files,
            self.constraints,
            editables=self.editables,
            locked=self.locked,
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
        click.option("--offline", is_flag=True, help="Ask no upstream: resolve and build by what was brought before."),
        click.option("--retry", is_flag=True, help="Forget failures: build again what failed before."),
        click.option("--keep-going", is_flag=True, help="After a failure, build all the same what can be built."),
        click.option(
            "--allow-unclosed", is_flag=True, help="Take a lock even if its wheels require what it does not have."
        ),
        click.option("--upgrade", is_flag=True, help="Resolve anew instead of taking up a resolution of the last day."),
        click.option(
            "-p", "--python", help="The environment or interpreter to build for: a path, a name or a version."
        ),
        target_option("The target to build for: a name of `wheelfarm target list`.  [default: host]"),
        click.option("--pre", "prerelease", is_flag=True, help="Take pre-releases, too."),
        click.option(
            "--group", "groups", multiple=True, help="A dependency group, NAME of ./pyproject.toml or FILE:NAME."
        ),
        click.option("--all-extras", is_flag=True, help="All extras of the project (-r pyproject.toml) or lock."),
        click.option("--extra", "extras", multiple=True, help="An extra of the project (-r pyproject.toml) or lock."),
        click.option("--locked", is_flag=True, help="With -r pyproject.toml: take its uv.lock, if it is current."),
        click.option("-e", "--editable", "editables", multiple=True, hidden=True),
        click.option("-c", "--constraint", "constraints", multiple=True, type=path, help="A constraints file."),
        click.option(
            "-r",
            "--requirement",
            "files",
            multiple=True,
            type=path,
            help="A requirements file, a project's pyproject.toml, or a lock (pylock.toml, uv.lock).",
        ),
        click.argument("requirements", nargs=-1, metavar="[REQ]..."),
    ):
        option(verb)
    return shared_options(verb)


def target_asked_for(command: Command, asked: Asked, environment: Environment | None = None) -> Target:
    """The target that is named, or else this machine's for the environment, or for the interpreter asked for."""
    if asked.target is not None:
        return command.named_target(asked.target)
    return command.target(environment or environment_to_build_for(os.environ, asked.python))


def obtain(command: Command, asked: Asked, requirements: Requirements, target: Target) -> Remembered:
    """The wheels of the requirements, in the wheelhouse: remembered, or resolved and built now."""
    if requirements.lock is not None and (wheels := requirements.lock.wheels(target)) is not None:
        command.policy.require_served(wheels)
        _fetch(command, requirements.lock.path, wheels)
        return command.wheelhouse.remember(requirements, target, wheels)
    with packed_sources(requirements, target) as sources:
        identities = [source.identity for source in sources]
        if not asked.upgrade:
            policy = command.policy.identity
            remembered = command.wheelhouse.recall(requirements, target, local=identities, policy=policy)
            if remembered is not None:
                _require_closed(command, asked, requirements, target, remembered.wheels)
                return remembered
        known, local, wheels = _build(command, asked, requirements, target, sources)
    _require_closed(command, asked, requirements, target, wheels)
    lines = [one.requirement for one in local]
    return command.wheelhouse.remember(
        requirements, target, wheels, local=identities, local_lines=lines, policy=known.identity
    )


def leave(command: Command, asked: Asked, requirements: Requirements, target: Target) -> None:
    """Have the farm build what the requirements need while nobody waits, and tell the request's id.

    Raises InputError where the farm would end with the command.
    """
    if not command.settings.url:
        raise InputError(
            "--detach needs a farm that goes on: this machine's own ends with the commands that use it.",
            hint="Name one by WHEELFARM_URL. To run one: wheelfarm up",
        )
    with packed_sources(requirements, target) as sources, command.farm() as farm:
        from wheelfarm.chain import Chain

        watch = command.progress.watch
        with Chain(farm, target, settings=command.settings, watch=watch, retry=asked.retry) as chain:
            chain.take_local(sources)
            status = chain.leave(requirements)
    if status is None:
        command.answer({"request": None, "jobs": 0}, [])
        return
    ready = sum(status.jobs[job].state.final for job in status.requested)
    command.reporter.say(
        f"{len(status.requested)} wheels for {target.name}, {ready} of them there: wheelfarm wait {status.id[:8]}"
    )
    command.answer({"request": status.id, "jobs": len(status.requested)}, [status.id])


def _fetch(command: Command, lock: Path, wheels: "tuple[BuiltWheel, ...]") -> None:
    """Have a lock's wheels in the wheelhouse; whatever place the lock names is not asked.

    Raises NotFound when the farm has them no more.
    """
    missing = command.wheelhouse.missing(wheels)
    if not missing:
        return
    if not command.settings.url:
        raise NotFound(
            f"{lock} names {missing[0].filename}, which is not in the store {command.wheelhouse.root}.",
            hint="Name the store that it was built in (WHEELFARM_STORE), or lock anew from what the lock was made of.",
        )
    with command.farm() as farm:
        for wheel in missing:
            farm.download(wheel, command.wheelhouse.wheel(wheel))


def _require_closed(
    command: Command, asked: Asked, requirements: Requirements, target: Target, wheels: "Sequence[BuiltWheel]"
) -> None:
    """Raise SetNotClosed where wheels of a lock, which was built as it stands, require what the lock has not; where
    that is allowed, say so."""
    if requirements.lock is None:
        return
    from wheelfarm.closure import not_closed, unsatisfied
    from wheelfarm.wheel_metadata import read_wheel_metadata

    told = {wheel: read_wheel_metadata(command.wheelhouse.wheel(wheel)) for wheel in wheels}
    lacking = unsatisfied(told, target)
    if lacking and not asked.allow_unclosed:
        raise not_closed(requirements.lock.path, lacking)
    for one in lacking:
        command.reporter.say(f"note: {one}")


def packed_sources(requirements: Requirements, target: Target) -> "AbstractContextManager[tuple[PackedSource, ...]]":
    """The local sources among the requirements that apply to a target, packed for as long as the context lasts."""
    if not requirements.local:
        return nullcontext(())
    from wheelfarm.packing import packed

    return packed(requirements.local, target)


def _build(
    command: Command, asked: Asked, requirements: Requirements, target: Target, sources: "tuple[PackedSource, ...]"
) -> "tuple[KnownPolicy, tuple[LocalSdist, ...], tuple[BuiltWheel, ...]]":
    """The policy that was resolved under, the sdists of the local sources, and all the wheels."""
    _note_folders(command, requirements)
    if requirements.lock is not None:
        requirements.lock.sdists(target)  # what is refused is refused before a farm is started
    start = time.monotonic()
    progress = command.progress
    progress.enter("resolving")
    with command.farm() as farm:
        from wheelfarm.chain import Chain
        from wheelfarm.known_policy import ask_policy

        policy = ask_policy(farm, command.wheelhouse.root, command.settings)
        with Chain(
            farm,
            target,
            settings=command.settings,
            watch=progress.watch,
            retry=asked.retry,
            keep_going=asked.keep_going,
        ) as chain:
            local = chain.take_local(sources)
            wheels = chain.build(requirements, command.wheelhouse)
    command.reporter.say(f"{len(wheels)} wheels for {target.name}, {progress.built} built in {seconds_since(start)}")
    return policy, local, wheels


def _note_folders(command: Command, requirements: Requirements) -> None:
    """Say so where a project of the index is asked for by what is also the name of a tree in the current folder."""
    for line in requirements.lines:
        if re.fullmatch(r"[A-Za-z0-9._-]+", line) and (Path(line) / "pyproject.toml").is_file():
            command.reporter.say(f"note: {line} is a project of the index; the folder is asked for as ./{line}")
