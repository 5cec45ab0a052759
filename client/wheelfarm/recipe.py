"""Recipes: what a project needs beyond its sdist to be built, kept by the farm in one TOML file a project.

    project = "example"

    [[recipe]]
    reason = "Its C code was written for Cython 0.29."
    versions = "<2"                                # PEP 440; every version when left out
    python = ">=3.12"                              # the target's; every one when left out
    build-constraints = ["cython<3"]               # bounds on build requirements
    extra-build-requirements = ["numpy"]           # beside the sdist's own
    build-requirements = ["setuptools"]            # instead of all of the sdist's own
    environment = { EXAMPLE_WITHOUT_GPU = "1" }
    config-settings = { setup-args = ["-Dblas=openblas"] }
    patches = ["example-1.x.patch"]                # files beside this one, applied with `patch -p1`
    system-packages = ["libyaml-dev"]              # Debian's, beside what the target's system has
    limits = { timeout-s = 7200, memory-mib = 16384, disk-mib = 8192, cores = 1 }
    test = { import = ["example"], command = ["python", "-m", "example"], load = false }   # of the built wheel

Every `[[recipe]]` that holds applies, in order: later ones add to lists and tables, and replace what is single. One
whose build-requirements leave out what needs the project itself to be built is what breaks a build cycle.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from wheelfarm.digest import digest_of
from wheelfarm.errors import InputError
from wheelfarm.toml_table import Table, load_toml, read_bytes, read_text

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
_RESERVED = re.compile(r"PATH|HOME|TMPDIR|SOURCE_DATE_EPOCH|(PYTHON|PIP_|UV_|LD_|WHEELFARM_).*")
_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
PACKAGE = re.compile(r"[a-z0-9][a-z0-9.+-]*")
_PATCH = re.compile(r"[A-Za-z0-9._+-]{1,100}\.patch")


@dataclass(frozen=True, kw_only=True, slots=True)
class RecipeLimits:
    """Limits of a build in place of the farm's; None keeps those. `cores` is how many a build may use at once."""

    timeout_s: int | None = None
    memory_mib: int | None = None
    disk_mib: int | None = None
    cores: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RecipeTest:
    """What a built wheel is tried by before it is published: modules to import, a command to run, and whether its
    extension modules are loaded."""

    imports: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    load: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """What applies to one version of a project on one Python. `patches` are the sha256s of their contents, in order."""

    reason: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    config_settings: Mapping[str, str | Sequence[str]] = field(default_factory=dict)
    build_requirements: tuple[str, ...] | None = None
    extra_build_requirements: tuple[str, ...] = ()
    build_constraints: tuple[str, ...] = ()
    patches: tuple[str, ...] = ()
    limits: RecipeLimits = RecipeLimits()
    test: RecipeTest = RecipeTest()
    system_packages: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """The recipe's identity, part of every request key; "" for one that asks for nothing."""
        return "" if self == replace(_NOTHING, reason=self.reason) else digest_of(self.to_json())

    @property
    def build_digest(self) -> str:
        """The digest of what may leave its mark in a wheel or keep it back, which limits and reasons don't."""
        return replace(self, reason="", limits=RecipeLimits()).digest

    def requirements(self, own: Iterable[str]) -> tuple[str, ...]:
        """What a build environment is resolved from; `own` is what the sdist and its backend ask for."""
        chosen = own if self.build_requirements is None else self.build_requirements
        return tuple(sorted({*chosen, *self.extra_build_requirements}))

    def merged(self, later: "Recipe") -> "Recipe":
        """Both recipes together; what is single is the later one's where that has it."""
        own, further = self.limits, later.limits
        limits = {name: getattr(further, name) or getattr(own, name) for name in RecipeLimits.__slots__}
        instead = self.build_requirements if later.build_requirements is None else later.build_requirements
        return Recipe(
            reason=" ".join(filter(None, (self.reason, later.reason))),
            environment={**self.environment, **later.environment},
            config_settings={**self.config_settings, **later.config_settings},
            extra_build_requirements=(*self.extra_build_requirements, *later.extra_build_requirements),
            build_constraints=(*self.build_constraints, *later.build_constraints),
            patches=(*self.patches, *later.patches),
            build_requirements=instead,
            limits=RecipeLimits(**limits),
            system_packages=tuple(sorted({*self.system_packages, *later.system_packages})),
            test=RecipeTest(
                imports=(*self.test.imports, *later.test.imports),
                command=later.test.command or self.test.command,
                load=self.test.load and later.test.load,
            ),
        )

    def to_json(self) -> dict[str, Any]:
        """As JSON; one without a test or packages says nothing of them, and has the digest of before there were any."""
        absent = {"test"} if self.test == RecipeTest() else set()
        absent |= set() if self.system_packages else {"system_packages"}
        return {name: value for name, value in asdict(self).items() if name not in absent}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Recipe":
        """Read what `to_json` wrote."""
        lists: dict[str, Any] = {name: _tuple(value[name]) for name in _LISTS}
        test = value.get("test") or {}
        return cls(
            **{name: value[name] for name in ("reason", "environment", "config_settings")},
            **lists,
            limits=RecipeLimits(**value["limits"]),
            system_packages=tuple(value.get("system_packages", ())),
            test=RecipeTest(
                imports=tuple(test.get("imports", ())),
                command=tuple(test.get("command", ())),
                load=bool(test.get("load", True)),
            ),
        )


_NOTHING = Recipe()
_LISTS = (
    "build_requirements",
    "extra_build_requirements",
    "build_constraints",
    "patches",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """One `[[recipe]]`: what applies to which versions, on which Pythons."""

    versions: SpecifierSet
    python: SpecifierSet
    recipe: Recipe


@dataclass(frozen=True, kw_only=True, slots=True)
class ProjectRecipes:
    """A project's file. `source` is its text, `patches` maps the files that it names to their sha256s."""

    project: str
    source: str
    patches: Mapping[str, str]
    rules: tuple[Rule, ...]

    def recipe_for(self, version: str, python_version: str) -> Recipe:
        """What applies to a version on a Python; a recipe that asks for nothing where no rule holds."""
        holding = (
            rule.recipe
            for rule in self.rules
            if rule.versions.contains(version, prereleases=True)
            and rule.python.contains(python_version, prereleases=True)
        )
        merged = _NOTHING
        for recipe in holding:
            merged = merged.merged(recipe)
        return merged

    def system_packages(self, python_version: str) -> set[tuple[str, ...]]:
        """The sets of packages that versions of the project ask for on a Python: by the versions that rules name, what
        comes next to each, and the lowest and the highest of all."""
        parts = [part for rule in self.rules for part in rule.versions if part.operator != "==="]
        named = {Version(part.version.removesuffix(".*")) for part in parts}
        tried = {"0", "9999!0", *map(str, named), *(f"{version.base_version}.0.0.0.1" for version in named)}
        return {self.recipe_for(version, python_version).system_packages for version in tried} - {()}


def read_recipe_file(path: Path) -> ProjectRecipes:
    """The recipes of one file, with the patches beside it. Raises InputError naming the file and the key."""
    text = read_text(path)
    patches = {
        name: hashlib.sha256(read_bytes(path.parent / name)).hexdigest() for name in _patches_of(text, str(path))
    }
    recipes = parse_recipes(text, origin=str(path), patches=patches)
    if path.stem != recipes.project:
        raise InputError(f"{path} holds recipes of {recipes.project!r}.", hint=f"Name it {recipes.project}.toml.")
    return recipes


def parse_recipes(text: str, *, origin: str, patches: Mapping[str, str]) -> ProjectRecipes:
    """The recipes of a file's text; `patches` gives the sha256 of each patch it may name. Raises InputError."""
    table = Table(load_toml(text, origin), origin)
    project = table.take("project", str, "")
    if not project or canonicalize_name(project) != project:
        raise InputError(f"{origin}: 'project' must be a normalised name, not {project!r}.")
    entries = table.take("recipe", list, [])
    table.end()
    if not entries:
        raise InputError(f"{origin} has no [[recipe]].")
    rules = tuple(_rule(Table(entry, f"{origin}, recipe {number}"), patches) for number, entry in enumerate(entries, 1))
    return ProjectRecipes(project=project, source=text, patches=dict(patches), rules=rules)


def _rule(table: Table, patches: Mapping[str, str]) -> Rule:
    reason = table.take("reason", str, "")
    if not reason:
        raise InputError(f"{table.origin}: 'reason' is missing: say why the project needs this.")
    names = _patch_names(table)
    if absent := [name for name in names if name not in patches]:
        raise table.refused("patches", f"there is no {absent[0]!r} beside it")
    recipe = Recipe(
        reason=reason,
        environment=read_environment(table),
        config_settings=_config_settings(table),
        build_requirements=table.requirements("build-requirements"),
        extra_build_requirements=table.requirements("extra-build-requirements") or (),
        build_constraints=table.requirements("build-constraints") or (),
        patches=tuple(patches[name] for name in names),
        limits=read_limits(table),
        system_packages=tuple(sorted(set(read_packages(table)))),
        test=_test(table),
    )
    rule = Rule(versions=table.specifier("versions"), python=table.specifier("python"), recipe=recipe)
    table.end()
    return rule


def _patch_names(table: Table) -> list[str]:
    names = table.take("patches", list, [])
    if wrong := [name for name in names if not isinstance(name, str) or not _PATCH.fullmatch(name)]:
        raise table.refused("patches", f"{wrong[0]!r} is not the name of a .patch file beside it")
    return names


def read_packages(table: Table) -> tuple[str, ...]:
    """The names of Debian's packages under `system-packages`. Raises InputError."""
    names = table.take("system-packages", list, [])
    if wrong := [name for name in names if not isinstance(name, str) or not PACKAGE.fullmatch(name)]:
        raise table.refused("system-packages", f"{wrong[0]!r:.80} is no name of one")
    return tuple(names)


def read_environment(table: Table) -> dict[str, str]:
    """The variables under `environment`: none of the farm's own. Raises InputError."""
    found = table.take("environment", dict, {})
    for name, value in found.items():
        if not _VARIABLE.fullmatch(name) or _RESERVED.fullmatch(name):
            raise table.refused("environment", f"the variable {name!r} is the farm's own, or no name of one")
        if not isinstance(value, str) or "\0" in value:
            raise table.refused("environment", f"{name} must be a string")
    return found


def _config_settings(table: Table) -> dict[str, str | Sequence[str]]:
    found = table.take("config-settings", dict, {})
    for name, value in found.items():
        if not isinstance(value, str) and not (isinstance(value, list) and all(isinstance(one, str) for one in value)):
            raise table.refused("config-settings", f"{name!r} must be a string or a list of strings")
    return found


def read_limits(table: Table) -> RecipeLimits:
    """The limits under `limits`. Raises InputError."""
    limits = Table(table.take("limits", dict, {}), f"{table.origin}, limits")
    found = {}
    for name in (one.name for one in fields(RecipeLimits)):
        key = name.replace("_", "-")
        found[name] = limits.take(key, int, 0) or None
        if (found[name] or 0) < 0:
            raise limits.refused(key, "a number above 0 is expected")
    limits.end()
    return RecipeLimits(**found)


def _test(table: Table) -> RecipeTest:
    test = Table(table.take("test", dict, {}), f"{table.origin}, test")
    found = RecipeTest(
        imports=_words(test, "import"), command=_words(test, "command"), load=test.take("load", bool, True)
    )
    test.end()
    if wrong := [name for name in found.imports if not _MODULE.fullmatch(name)]:
        raise test.refused("import", f"{wrong[0]!r} is not the name of a module")
    return found


def _words(table: Table, key: str) -> tuple[str, ...]:
    words = table.take(key, list, [])
    if wrong := [word for word in words if not isinstance(word, str) or not word or "\0" in word]:
        raise table.refused(key, f"{wrong[0]!r} is no word: a list of strings is expected")
    return tuple(words)


def _patches_of(text: str, origin: str) -> list[str]:
    """The patches that a file names, before anything else of it is judged."""
    entries = load_toml(text, origin).get("recipe")
    tables = [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    return [name for entry in tables for name in _patch_names(Table(entry, origin))]


def _tuple(value: Sequence[str] | None) -> tuple[str, ...] | None:
    return None if value is None else tuple(value)
