"""`wheelfarm recipe`: look at the farm's recipes, and check files before it gets them."""

from pathlib import Path
from typing import Any

import click
from packaging.utils import canonicalize_name

from wheelfarm.commands.command import reporting, shared_options
from wheelfarm.errors import InputError
from wheelfarm.recipe import read_recipe_file


@click.group("recipe")
def recipe_command() -> None:
    """Show the farm's recipes: what projects need beyond their sdists to be built."""


@recipe_command.command("check")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@shared_options
def check_command(paths: tuple[Path, ...], **shared: Any) -> None:
    """Check recipe files, or every one of a folder, as the farm would."""
    with reporting(**shared) as command:
        found = [file for path in paths for file in _files(path)]
        checked = [(path, read_recipe_file(path)) for path in found]
        command.answer(
            {"checked": [{"file": str(path), "project": recipes.project} for path, recipes in checked]},
            [f"{path}: {len(recipes.rules)} recipes for {recipes.project}" for path, recipes in checked],
        )


@recipe_command.command("show")
@click.argument("project", required=False)
@shared_options
def show_command(project: str | None, **shared: Any) -> None:
    """Show a PROJECT's recipe file, or the names of all projects that have one."""
    with reporting(**shared) as command, command.farm() as farm:
        if project is None:
            listed = farm.recipes()
            command.answer({"recipes": listed}, [f"{name} ({origin})" for name, origin in listed.items()])
        else:
            found = farm.recipe(canonicalize_name(project))
            command.answer(found, [f"# {found['origin']}", found["source"].rstrip("\n")])


def _files(path: Path) -> list[Path]:
    files = sorted(path.glob("*.toml")) if path.is_dir() else [path]
    if not files:
        raise InputError(f"{path} holds no recipe files (*.toml).")
    return files
