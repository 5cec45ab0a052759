"""`wheelfarm target`: define, list, show, check and remove what wheels are built for."""

import json
from collections.abc import Sequence
from typing import Any, get_args

import click

from wheelfarm.commands.command import Command, output_options, reporting, shared_options
from wheelfarm.derived_root import derived_of
from wheelfarm.errors import InputError
from wheelfarm.parts import become
from wheelfarm.recipe import PACKAGE, parse_recipes
from wheelfarm.target import Target
from wheelfarm.target_definition import (
    ROOTS,
    BackEnd,
    TargetDefinition,
    parse_definition,
    read_definitions,
    require_name,
    unknown_target,
)

_MODULE = "wheelfarm_workers.target_making"


@click.group("target")
def target_command() -> None:
    """Define what wheels are built for: other distributions, other Pythons, other architectures.

    Definitions are TOML files in WHEELFARM_TARGETS; `wheelfarm worker --target NAME` serves them.
    """


@target_command.command("add")
@click.argument("name")
@click.option(
    "--from",
    "source",
    required=True,
    help="debootstrap:SUITE, oci:IMAGE@sha256:HEX, tar:FILE of a root filesystem, host, host:PYTHON, or "
    "python:3.12.1+20261120, a Python of `wheelfarm python list` on this machine's /usr.",
)
@click.option("--python", help="The interpreter's path in the root filesystem.  [default: /usr/bin/python3]")
@click.option("--interpreter", default="", help="In a root filesystem, a Python of `wheelfarm python list`.")
@click.option("--arch", default="", help="debootstrap: the architecture as Debian names it, such as arm64.")
@click.option("--package", "packages", multiple=True, help="debootstrap: a system package, such as libyaml-dev.")
@click.option("--tag-policy", type=click.Choice(["native", "portable"]), help="[default: native]")
@click.option("--variant", default="", help="Tells apart targets whose wheels bear the same tags, such as avx2.")
@click.option("--env", "variables", multiple=True, metavar="NAME=VALUE", help="A variable of every build's.")
@click.option("--external-library", "external", multiple=True, help="portable: what wheels may leave to the machine.")
@click.option("--resource-class", default="", help="Only workers of that class build for it.")
@click.option("--sandbox", type=click.Choice(get_args(BackEnd)), help="What isolates builds.  [default: bubblewrap]")
@click.option("--no-check", is_flag=True, help="Don't build and load a C extension in it.")
@click.option("--replace", "replaces", is_flag=True, help="Make a new revision of a target that is there.")
@output_options
def add_command(
    name: str, source: str, no_check: bool, replaces: bool, as_json: bool, quiet: bool, **given: Any
) -> None:
    """Define a target, its root filesystem made or brought here, and see that C extensions can be built in it."""
    with reporting(as_json=as_json, quiet=quiet) as command:
        require_name(name)
        if wrong := [one for one in given["variables"] if "=" not in one]:
            raise InputError(f"--env {wrong[0]} gives no value.", hint=f"--env {wrong[0]}=VALUE")
        path = command.settings.targets / f"{name}.toml"
        if path.exists() and not replaces:
            raise InputError(f"{path} is there already.", hint="For a new revision of the target: --replace")
        draft = _draft(name, source, given)
        words = ["add", name, draft.to_toml(), "--arch", given["arch"], *(["--no-check"] if no_check else [])]
        _become(command, [*words, "--python", given["python"] or "", "--interpreter", given["interpreter"]])


@target_command.command("check")
@click.argument("name")
@shared_options
def check_command(name: str, **shared: Any) -> None:
    """Build a C extension in the target, in the sandbox that its builds have, and load it."""
    with reporting(**shared) as command:
        _become(command, ["check", _known(command, name).name])


@target_command.command("derive")
@click.argument("name")
@click.option(
    "--package",
    "packages",
    multiple=True,
    help="A system package, such as libyaml-dev.  [default: what each of the farm's recipes asks for]",
)
@output_options
def derive_command(name: str, packages: tuple[str, ...], as_json: bool, quiet: bool) -> None:
    """Make the root filesystems that have the system packages which recipes ask for, ahead of the builds.

    Each has what the target's has, and one recipe's packages beside; all that ask for just these share it.
    """
    with reporting(as_json=as_json, quiet=quiet) as command:
        definition = _known(command, name)
        if wrong := [package for package in packages if not PACKAGE.fullmatch(package)]:
            raise InputError(f"{wrong[0]!r} is no name of a package.")
        sets = {tuple(packages)} if packages else _asked_for(command, definition)
        if sets:
            _become(command, ["derive", name, *sorted(",".join(one) for one in sets)])
        command.answer({"told": []}, ["No recipe of the farm asks for system packages."])


def _asked_for(command: Command, definition: TargetDefinition) -> set[tuple[str, ...]]:
    """The sets of system packages that recipes of the farm ask for on a target."""
    python = command.defined_target(definition).python_version
    found: set[tuple[str, ...]] = set()
    with command.farm() as farm:
        for project in farm.recipes():
            told = farm.recipe(project)
            recipes = parse_recipes(told["source"], origin=told["origin"], patches=told["patches"])
            found |= recipes.system_packages(python)
    return found


@target_command.command("list")
@shared_options
def list_command(**shared: Any) -> None:
    """Tell the targets of this machine's definitions, or those that the workers of WHEELFARM_URL serve."""
    with reporting(**shared) as command:
        targets = command.targets()
        heading: tuple[str, ...] = ("NAME", "PYTHON", "PLATFORM", "TAGS", "SANDBOX", "REVISION")
        rows = [heading] if targets else []
        rows += [_row(target) for target in targets]
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))] if rows else []
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        if not targets:
            where = command.settings.url or f"this machine ({command.settings.targets})"
            command.reporter.say(f"No target is {'served' if command.settings.url else 'defined'} by {where}.")
        command.answer({"targets": [target.to_json() for target in targets]}, lines)


@target_command.command("show")
@click.argument("name")
@shared_options
def show_command(name: str, **shared: Any) -> None:
    """Print a target's definition and its revision; with WHEELFARM_URL, what the workers of that farm serve."""
    with reporting(**shared) as command:
        if command.settings.url:
            target, text = command.named_target(name), ""
            lines = [f"{key} = {json.dumps(value)}" for key, value in target.to_json().items() if value]
        else:
            definition = _known(command, name)
            target, text = command.defined_target(definition), definition.to_toml()
            lines = [f"# {name} in revision {target.revision[:12]}", text.rstrip()]
        command.answer({"target": target.to_json(), "definition": text}, lines)


@target_command.command("remove")
@click.argument("name")
@shared_options
def remove_command(name: str, **shared: Any) -> None:
    """Remove a target's definition, and its root filesystem unless another target has the same."""
    with reporting(**shared) as command:
        definition, folder = _known(command, name), command.settings.targets
        (folder / f"{name}.toml").unlink()
        removed = [str(folder / f"{name}.toml")]
        others = {one.root for one in read_definitions(folder).values()}
        if definition.root and definition.root not in others:
            archive = folder / ROOTS / f"{definition.root}.tar"
            archive.unlink(missing_ok=True)
            removed.append(str(archive))
            for note, derived in derived_of(folder, definition.root).items():
                for path in (note, folder / ROOTS / f"{derived.root}.tar"):
                    path.unlink(missing_ok=True)
                    removed.append(str(path))
        command.answer({"removed": removed}, removed)


def _draft(name: str, source: str, given: dict[str, Any]) -> TargetDefinition:
    """What is asked for, judged as a definition's file is; what the interpreter tells of itself comes later."""
    variables = dict(one.partition("=")[::2] for one in given["variables"])
    draft = TargetDefinition(
        name=name,
        made_from=source,
        sandbox=given["sandbox"] or "bubblewrap",
        python="/",
        tag_policy=given["tag_policy"] or "native",
        variant=given["variant"],
        environment=variables,
        system_packages=given["packages"],
        external_libraries=given["external"],
        resource_class=given["resource_class"],
    )
    parse_definition(draft.to_toml(), name=name, origin=f"target {name}")
    return draft


def _become(command: Command, words: Sequence[str]) -> None:
    become("workers", _MODULE, [*words, *(["--json"] if command.as_json else [])], command.settings)


def _known(command: Command, name: str) -> TargetDefinition:
    folder = command.settings.targets
    definitions = read_definitions(folder)
    if name not in definitions:
        raise unknown_target(name, definitions, f"This machine ({folder})")
    return definitions[name]


def _row(target: Target) -> tuple[str, ...]:
    tags = target.tag_policy + (f" {target.variant}" if target.variant else "")
    back_end = target.sandbox + (f" sha256:{target.root[:12]}" if target.root else "")
    return (target.name, target.python_version, target.platform, tags, back_end, target.revision[:12])
