"""What a pyproject.toml asks for: a project's dependencies and extras (PEP 621), and dependency groups (PEP 735).

Nothing of the project is run, and tables of tools (`[tool.uv]` and others) are never read.
"""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from packaging.dependency_groups import CyclicDependencyGroup, DuplicateGroupNames, resolve_dependency_groups
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import NormalizedName, canonicalize_name

from wheelfarm.errors import InputError

_FILE_BYTES = 16 << 20


def project_requirements(path: Path, *, extras: Sequence[str] = (), all_extras: bool = False) -> list[str]:
    """The requirements of the project at `path`, with those of the extras; references to itself are followed.

    Raises InputError where they are not stated there, an extra is unknown, or the file is malformed.
    """
    return list(_Project(path).requirements(extras, all_extras=all_extras))


def group_requirements(spec: str) -> list[str]:
    """The requirements of a dependency group: NAME of ./pyproject.toml, or FILE:NAME. Raises InputError."""
    file, _, name = spec.rpartition(":")
    path = Path(file or "pyproject.toml")
    groups = read_toml(path).get("dependency-groups")
    if not isinstance(groups, dict):
        raise InputError(f"{path} has no [dependency-groups].", hint="Another file's group is named FILE:NAME.")
    try:
        return list(resolve_dependency_groups(groups, name))
    except ExceptionGroup as several:
        reasons = "; ".join(str(error) for error in _leaves(several))
        raise InputError(
            f"{path}: the dependency group {name!r} can't be read: {reasons}.", hint=_named(groups)
        ) from None
    except (LookupError, ValueError, TypeError, CyclicDependencyGroup, DuplicateGroupNames, RecursionError) as error:
        raise InputError(
            f"{path}: the dependency group {name!r} can't be read: {error}.", hint=_named(groups)
        ) from None


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file of a bounded size. Raises InputError saying what is wrong with it."""
    try:
        with path.open("rb") as file:
            data = file.read(_FILE_BYTES + 1)
        if len(data) > _FILE_BYTES:
            raise InputError(f"{path} is larger than {_FILE_BYTES >> 20} MiB.")
        return tomllib.loads(data.decode("utf-8-sig"))
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not TOML: {error}.") from error


class _Project:
    def __init__(self, path: Path) -> None:
        self._path = path
        table = read_toml(path).get("project")
        if not isinstance(table, dict) or not isinstance(table.get("name"), str):
            raise InputError(
                f"{path} has no [project] with a name, so only its build backend knows its dependencies.",
                hint=f"Have the project itself built: wheelfarm install {path.parent}",
            )
        self._table: Mapping[str, Any] = table
        self._name = canonicalize_name(table["name"])
        self._extras = {canonicalize_name(extra): extra for extra in self._stated("optional-dependencies", dict)}

    def requirements(self, extras: Sequence[str], *, all_extras: bool) -> Iterator[str]:
        self._refuse_dynamic("dependencies")
        if extras or all_extras:
            self._refuse_dynamic("optional-dependencies")
        wanted = list(self._extras) if all_extras else [canonicalize_name(extra) for extra in extras]
        if unknown := [extra for extra in wanted if extra not in self._extras]:
            raise InputError(
                f"{self._path}: {self._name} has no extra {unknown[0]!r}.",
                hint=f"Its extras: {', '.join(sorted(self._extras)) or 'none'}",
            )
        yield from self._expanded(self._stated("dependencies", list), frozenset())
        for extra in wanted:
            yield from self._expanded(self._of_extra(extra), frozenset({extra}))

    def _expanded(self, texts: Sequence[Any], within: frozenset[str], marker: str = "") -> Iterator[str]:
        """The requirements, with those of the project's own extras in place of references to them."""
        for text in texts:
            requirement = self._parsed(text)
            markers = [str(part) for part in (requirement.marker, marker) if part]
            own = " and ".join(f"({part})" for part in markers) if len(markers) > 1 else "".join(markers)
            if canonicalize_name(requirement.name) == self._name and requirement.extras:
                for extra in sorted({canonicalize_name(extra) for extra in requirement.extras} - within):
                    yield from self._expanded(self._of_extra(extra), within | {extra}, own)
            elif marker:
                requirement.marker = None
                yield f"{requirement}{' ' if requirement.url else ''}; {own}"
            else:
                yield str(text)

    def _of_extra(self, extra: NormalizedName) -> list[Any]:
        if extra not in self._extras:
            raise InputError(f"{self._path}: {self._name} refers to its extra {extra!r}, which it has not.")
        found = self._stated("optional-dependencies", dict)[self._extras[extra]]
        if not isinstance(found, list):
            raise InputError(f"{self._path}: the extra {extra!r} is not a list of requirements.")
        return found

    def _parsed(self, text: object) -> Requirement:
        try:
            return Requirement(text)  # type: ignore[arg-type]
        except (InvalidRequirement, TypeError, RecursionError) as error:
            raise InputError(f"{self._path}: {text!r} is not a requirement: {str(error).splitlines()[0]}.") from None

    def _stated(self, key: str, kind: type) -> Any:
        found = self._table.get(key, kind())
        if not isinstance(found, kind):
            raise InputError(f"{self._path}: project.{key} is malformed.")
        return found

    def _refuse_dynamic(self, key: str) -> None:
        if key in self._stated("dynamic", list):
            raise InputError(
                f"{self._path} says that {key} are dynamic: only the project's build backend can tell them.",
                hint=f"Have the project itself built: wheelfarm install {self._path.parent}",
            )


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def _named(groups: Mapping[str, object]) -> str:
    return f"Its groups: {', '.join(sorted(groups)) or 'none'}"
