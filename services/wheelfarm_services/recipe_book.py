"""The recipe book: every recipe of the farm, shipped or the operator's, in the store for services and workers alike."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from wheelfarm.errors import FarmUnavailable, InputError
from wheelfarm.job import Job, Sdist
from wheelfarm.recipe import ProjectRecipes, Recipe, parse_recipes, read_recipe_file
from wheelfarm_services import layout
from wheelfarm_services.store import Store

SHIPPED = Path(str(files("wheelfarm_services"))) / "recipes"


@dataclass(frozen=True, kw_only=True, slots=True)
class BookEntry:
    """A project's recipes, and where they came from: "shipped" or a file of the operator's."""

    origin: str
    recipes: ProjectRecipes


class RecipeBook:
    """Recipes as the store has them. A job names its recipe by digest; contents never change under one."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._read = b""
        self._entries: Mapping[str, BookEntry] = {}
        self._recipes: dict[str, Recipe] = {}

    def publish(self, folder: Path | None) -> None:
        """Put the shipped recipes and those of the operator's folder, which replace them a project, into the store.

        Raises InputError, naming the file and the key, before anything has changed.
        """
        book = {path.stem: ("shipped", path) for path in sorted(SHIPPED.glob("*.toml"))}
        if folder is not None:
            if not folder.is_dir():
                raise InputError(f"The recipe folder {folder} is not there.", hint="WHEELFARM_RECIPES names it.")
            book |= {path.stem: (path.name, path) for path in sorted(folder.glob("*.toml"))}
        found = {name: (origin, path, read_recipe_file(path)) for name, (origin, path) in book.items()}
        for _, path, recipes in found.values():
            for name, sha256 in recipes.patches.items():
                self._store.put_new(layout.patch(sha256), (path.parent / name).read_bytes())
        data = json.dumps({name: _entry(origin, recipes) for name, (origin, _, recipes) in found.items()}).encode()
        if self._store.get(layout.recipe_book()) != data:
            self._store.put(layout.recipe_book(), data)

    def entries(self) -> Mapping[str, BookEntry]:
        """Every project's recipes, by name."""
        data = self._store.get(layout.recipe_book()) or b"{}"
        if data != self._read:
            self._entries = {name: _parsed(value) for name, value in json.loads(data).items()}
            self._read = data
        return self._entries

    @property
    def digest(self) -> str:
        """The sha256 of all recipes as they are now."""
        self.entries()
        return hashlib.sha256(self._read).hexdigest()

    def recipe_for(self, sdist: Sdist, python_version: str) -> Recipe:
        """What applies to an sdist on a Python; a recipe that asks for nothing where there is none."""
        entry = self.entries().get(sdist.name)
        return entry.recipes.recipe_for(sdist.version, python_version) if entry else Recipe()

    def apply(self, job: Job, python_version: str) -> Job:
        """The job with the recipe that applies to it now, which the store then has under its digest."""
        recipe = self.recipe_for(job.sdist, python_version)
        if recipe.digest and recipe.digest not in self._recipes:
            self._store.put_new(layout.recipe(recipe.digest), json.dumps(recipe.to_json()).encode())
            self._recipes[recipe.digest] = recipe
        return replace(job, recipe=recipe.digest)

    def recipe(self, job: Job) -> Recipe:
        """The recipe that a job names. Raises FarmUnavailable when the store has lost it."""
        if not job.recipe:
            return Recipe()
        if job.recipe not in self._recipes:
            data = self._store.get(layout.recipe(job.recipe))
            if data is None:
                raise FarmUnavailable(f"The recipe {job.recipe[:12]} of {job.sdist} is gone from the store.")
            self._recipes[job.recipe] = Recipe.from_json(json.loads(data))
        return self._recipes[job.recipe]

    def described(self, project: str) -> dict[str, Any] | None:
        """A project's recipe file as the API tells it: its origin, text and patches."""
        entry = self.entries().get(project)
        return _entry(entry.origin, entry.recipes) if entry else None


def _entry(origin: str, recipes: ProjectRecipes) -> dict[str, Any]:
    return {"origin": origin, "source": recipes.source, "patches": dict(recipes.patches)}


def _parsed(value: Mapping[str, Any]) -> BookEntry:
    origin = str(value["origin"])
    return BookEntry(origin=origin, recipes=parse_recipes(value["source"], origin=origin, patches=value["patches"]))
