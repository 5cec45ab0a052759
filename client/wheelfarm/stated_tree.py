"""What a local tree states of itself, read without running anything: what it requires, and what its build needs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wheelfarm.errors import BadTree
from wheelfarm.job import Sdist
from wheelfarm.legacy_build import LEGACY_BACKEND, LEGACY_REQUIRES
from wheelfarm.packing import PackedSource
from wheelfarm.project_file import project_requirements, read_toml
from wheelfarm.requirements import parse_requirement


@dataclass(frozen=True, kw_only=True, slots=True)
class StatedTree:
    """A tree before its sdist is made. `requires` is what it needs to run, as far as it states that: all of it where it
    `tells_all`; `build_requires` and `backend` are those of `[build-system]`, or the defaults."""

    sdist: Sdist
    requires: tuple[str, ...]
    tells_all: bool
    build_requires: tuple[str, ...]
    backend: str


def stated_tree(source: PackedSource) -> StatedTree:
    """What the tree of a local source states. Raises InputError for what is malformed, and BadTree for an archive,
    which is not unpacked here."""
    if not source.is_tree:
        raise BadTree(
            f"What {source.source.shown} needs is known once it is unpacked, and a plan unpacks nothing.",
            hint="Plan the tree that it was made of.",
        )
    path = source.source.path / "pyproject.toml"
    table = read_toml(path) if path.exists() else {}
    tells_all = _states(table.get("project"), extras=bool(source.source.extras))
    required = project_requirements(path, extras=source.source.extras) if tells_all else []
    build_requires, backend = _build_system(table, path)
    return StatedTree(
        sdist=source.tree,
        requires=_checked(required, path),
        tells_all=tells_all,
        build_requires=_checked(build_requires, path),
        backend=backend,
    )


def _states(project: Any, *, extras: bool) -> bool:
    """Whether `[project]` says for good what is required (PEP 621)."""
    if not isinstance(project, dict):
        return False
    dynamic = project.get("dynamic", [])
    wanted = {"dependencies", "optional-dependencies"} if extras else {"dependencies"}
    return isinstance(dynamic, list) and wanted.isdisjoint(map(str, dynamic))


def _build_system(table: dict[str, Any], path: Path) -> tuple[list[str], str]:
    system = table.get("build-system", {"requires": list(LEGACY_REQUIRES)})
    requires = system.get("requires") if isinstance(system, dict) else None
    if not isinstance(requires, list) or not all(isinstance(line, str) for line in requires):
        raise BadTree(f"{path}: [build-system] has no list of requirements.", hint="PEP 518 demands `requires`.")
    return requires, str(system.get("build-backend", LEGACY_BACKEND))


def _checked(lines: list[str], path: Path) -> tuple[str, ...]:
    return tuple(str(parse_requirement(line, origin=str(path))) for line in lines)
