"""`python -m wheelfarm_workers.target_making`: what `wheelfarm target add` and `check` do on a worker's machine."""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from wheelfarm.errors import InputError, WheelfarmError
from wheelfarm.installation import environment_to_build_for
from wheelfarm.settings import Settings
from wheelfarm.target import Target, host_target
from wheelfarm.target_definition import TargetDefinition, parse_definition, read_definition
from wheelfarm_services.refusal import refuse
from wheelfarm_services.store import open_store
from wheelfarm_services.targets import define, require_same_kind
from wheelfarm_workers.debian_packages import lacking
from wheelfarm_workers.distributions import Distributions
from wheelfarm_workers.grounds import Ground, ground_of
from wheelfarm_workers.machines import machine_of
from wheelfarm_workers.root_derivation import derive_root
from wheelfarm_workers.root_sources import bring_root
from wheelfarm_workers.roots import Roots
from wheelfarm_workers.sandbox.back_ends import BackEnds
from wheelfarm_workers.target_check import check_target, facts_of

_PYTHON = "/usr/bin/python3"


@click.group()
def main() -> None:
    """Make and check targets."""


@main.command()
@click.argument("name")
@click.argument("draft")
@click.option("--arch", default="")
@click.option("--python", default="")
@click.option("--interpreter", default="")
@click.option("--no-check", is_flag=True)
@click.option("--json", "as_json", is_flag=True)
def add(name: str, draft: str, arch: str, python: str, interpreter: str, no_check: bool, as_json: bool) -> None:
    """Make the target of a drafted definition, and write the definition once it is seen to work."""
    try:
        settings = Settings.from_environment(os.environ)
        roots = Roots(settings.targets, settings.cache / "roots")
        distributions = _distributions(settings)
        with roots.kept_if_well(), _back_ends(settings) as back_ends:
            drafted = parse_definition(draft, name=name, origin=f"target {name}")
            if interpreter or drafted.made_from.startswith("python:"):
                definition = _on_distribution(drafted, interpreter, arch, python, roots, distributions, back_ends)
            else:
                definition = _defined(drafted, arch, python, roots, back_ends)
            target, path = _target(definition, settings), settings.targets / f"{name}.toml"
            if (before := _defined_before(path, settings)) is not None:
                require_same_kind(target, before)
            if not no_check:
                check_target(target, _ground(target, definition, settings, back_ends))
            if definition.distribution:  # what a target that the store knows stands on is not garbage
                define(open_store(settings, create=False), target)
            settings.targets.mkdir(parents=True, exist_ok=True)
            partial = path.with_name(f".{name}.{os.getpid()}.new")
            partial.write_text(definition.to_toml())
            partial.replace(path)
        _tell(target, [f"defined in {path}"], as_json=as_json)
    except WheelfarmError as error:
        refuse(error, as_json=as_json)


@main.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True)
def check(name: str, as_json: bool) -> None:
    """Build and load a C extension in a target."""
    try:
        settings = Settings.from_environment(os.environ)
        definition = read_definition(settings.targets / f"{name}.toml")
        target = _target(definition, settings)
        with _back_ends(settings) as back_ends:
            check_target(target, _ground(target, definition, settings, back_ends))
        _tell(target, ["builds and loads C extensions"], as_json=as_json)
    except WheelfarmError as error:
        refuse(error, as_json=as_json)


@main.command()
@click.argument("name")
@click.argument("sets", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True)
def derive(name: str, sets: tuple[str, ...], as_json: bool) -> None:
    """Make the root filesystems that have each of the sets of packages, with commas between, beside what a target's
    has, and see that C extensions can still be built in them."""
    try:
        settings = Settings.from_environment(os.environ)
        definition = read_definition(settings.targets / f"{name}.toml")
        wanted = [one.split(",") for one in sets]
        if not definition.root:
            own = sorted({package for one in wanted for package in one})
            raise InputError(
                f"{name} stands on this machine's own /usr.", hint=f"Instead: apt-get install {' '.join(own)}"
            )
        roots, target = Roots(settings.targets, settings.cache / "roots"), _target(definition, settings)
        told = []
        with _back_ends(settings) as back_ends:
            ground = _ground(target, definition, settings, back_ends)
            system = roots.root(definition.root).folder
            for packages in sorted({lacking(system, one) for one in wanted}):
                told.append(_derived(packages, target, ground, roots, settings.targets))
        _tell(target, told, as_json=as_json)
    except WheelfarmError as error:
        refuse(error, as_json=as_json)


def _derived(packages: Sequence[str], target: Target, ground: Ground, roots: Roots, folder: Path) -> str:
    """Make one of them; what to say of it."""
    if not packages:
        return "its root filesystem has them already"
    with roots.kept_if_well():
        made = derive_root(folder, roots, target.root, packages)
        check_target(target, replace(ground, root=roots.root(made.root)))
        return f"{', '.join(made.packages)}: sha256:{made.root} noted in {made.write(folder)}"


def _defined(draft: TargetDefinition, arch: str, python: str, roots: Roots, back_ends: BackEnds) -> TargetDefinition:
    """The definition of a draft, its root filesystem here and its interpreter asked for what it is."""
    kind, _, named = draft.made_from.partition(":")
    _require_root_for_docker(draft, kind)
    if kind == "host":
        if arch or python or draft.system_packages:
            raise InputError("--arch, --python and --package are for root filesystems, not for the host's own.")
        interpreter = environment_to_build_for(os.environ, named or "python3").python
        return replace(draft, python=str(interpreter))
    sandbox = back_ends.back_end(draft.sandbox)  # what it lacks is told before anything is brought here
    sha256 = bring_root(draft.made_from, roots, arch=arch, packages=draft.system_packages)
    facts = facts_of(roots.root(sha256), python or _PYTHON, sandbox)
    told = {key: str(facts[key]) for key in ("version", "abi", "platform", "prefix")}
    return replace(draft, root=sha256, python=str(facts["executable"]), interpreter=told)


def _on_distribution(
    draft: TargetDefinition,
    interpreter: str,
    arch: str,
    python: str,
    roots: Roots,
    distributions: Distributions,
    back_ends: BackEnds,
) -> TargetDefinition:
    """The definition of a draft with an interpreter that the farm keeps, on a root filesystem or on the host's /usr."""
    kind, _, named = draft.made_from.partition(":")
    if python or (kind == "python" and (interpreter or arch or draft.system_packages)):
        raise InputError(
            "An interpreter of the farm's is named by --from python:REFERENCE for this machine's own /usr, and by "
            "--interpreter REFERENCE for a root filesystem, which alone takes --arch and --package."
        )
    if kind == "host":
        raise InputError("--interpreter is for root filesystems.", hint=f"Instead of host: --from python:{interpreter}")
    _require_root_for_docker(draft, kind)
    sha256 = "" if kind == "python" else bring_root(draft.made_from, roots, arch=arch, packages=draft.system_packages)
    root = roots.root(sha256) if sha256 else None
    libc = "musl" if any((root.folder if root else Path("/")).glob("lib/ld-musl-*")) else "gnu"
    chosen = distributions.chosen(interpreter or named, f"linux-{machine_of(arch)}-{libc}")
    mount, executable = distributions.mount(chosen.sha256), distributions.python(chosen.sha256)
    facts = facts_of(root, executable, back_ends.back_end(draft.sandbox), distribution=mount)
    told = {key: str(facts[key]) for key in ("version", "abi", "platform", "prefix")}
    distribution = f"{chosen.reference} sha256:{chosen.sha256}"
    return replace(draft, root=sha256, distribution=distribution, python=executable, interpreter=told)


def _require_root_for_docker(draft: TargetDefinition, kind: str) -> None:
    if draft.sandbox == "docker" and kind in ("host", "python"):
        raise InputError(
            "docker runs root filesystems alone, and this target would stand on this machine's own /usr.",
            hint="Bring one (--from debootstrap:, oci: or tar:), or choose --sandbox bubblewrap or podman.",
        )


def _ground(target: Target, definition: TargetDefinition, settings: Settings, back_ends: BackEnds) -> Ground:
    roots = Roots(settings.targets, settings.cache / "roots")
    return ground_of(target, definition, roots=roots, distributions=_distributions(settings), back_ends=back_ends)


def _defined_before(path: Path, settings: Settings) -> Target | None:
    """The target as its file defines it until now; None where that is none any more."""
    try:
        return _target(read_definition(path), settings) if path.exists() else None
    except WheelfarmError:
        return None


def _distributions(settings: Settings) -> Distributions:
    own = not (settings.broker or settings.url)  # a farm of this machine alone, which may yet be empty
    return Distributions(partial(open_store, settings, create=own), settings.cache / "pythons")


def _target(definition: TargetDefinition, settings: Settings) -> Target:
    memory = settings.cache / "targets"
    return definition.target(lambda python: host_target(Path(python), sandbox=definition.sandbox, memory=memory))


@contextmanager
def _back_ends(settings: Settings) -> Iterator[BackEnds]:
    settings.cache.mkdir(parents=True, exist_ok=True)
    with (
        TemporaryDirectory(dir=settings.cache, prefix="target-") as work,
        BackEnds(slots=1, work=Path(work), runtime=settings.container_runtime) as found,
    ):
        yield found


def _tell(target: Target, told: Sequence[str], *, as_json: bool) -> None:
    lines = [f"{target.name}: CPython {target.python_version}, {target.platform}: {what}" for what in told]
    click.echo(json.dumps({"target": target.to_json(), "told": list(told)}, indent=2) if as_json else "\n".join(lines))


if __name__ == "__main__":
    main()
