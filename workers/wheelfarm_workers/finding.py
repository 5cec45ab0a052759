"""What a failed build lacked: a finding, its kind and its hint."""

import json
from dataclasses import dataclass
from enum import StrEnum

from wheelfarm.target import OLDEST_PYTHON
from wheelfarm_workers.debian_packages import Sort, debian_package


class FindingKind(StrEnum):
    """What becomes of the failure. MISSING: the target lacks something, and building again is of no use until it has
    it. LIMIT: the machine or the limits were too small. BUILD: the sdist can't be built as it is."""

    MISSING = "missing"
    LIMIT = "limit"
    BUILD = "build"


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """What the build failed for, as a sentence, and what to do about it; `packages` are Debian's that have what is not
    there."""

    kind: FindingKind
    what: str
    remedy: str
    packages: tuple[str, ...] = ()

    @property
    def hint(self) -> str:
        return f"{self.what} {self.remedy}"

    def hint_for(self, rooted: str) -> str:
        """For a target of that name that stands on a root filesystem; "" for one of a machine's own /usr."""
        if not (rooted and self.packages):
            return self.hint
        return (
            f"{self.what} A recipe gives it to {rooted}, system-packages = {json.dumps(list(self.packages))}, "
            f"and then: wheelfarm target derive {rooted}"
        )


_LABELS: dict[Sort, str] = {
    "headers": "header",
    "libraries": "library",
    "tools": "program",
    "pkg-config": "pkg-config package",
    "cmake": "CMake package",
}
_FILES: dict[Sort, str] = {
    "headers": "/{}",
    "libraries": "/lib{}.so",
    "tools": "bin/{}",
    "pkg-config": "/{}.pc",
    "cmake": "{}Config.cmake",
}


def not_here(sort: Sort, name: str) -> Finding:
    """The target lacks a header, a library, a program, or a package of pkg-config or CMake."""
    package = debian_package(sort, name)
    command = f"apt-get install {package}" if package else f"apt-file search {_FILES[sort].format(name)}"
    return Finding(
        kind=FindingKind.MISSING,
        what=f"The {_LABELS[sort]} {name} is not there.",
        remedy=f"On Debian: {command}",
        packages=(package,) if package else (),
    )


def undeclared(requirement: str, project: str) -> Finding:
    """The build needs a project that the sdist does not declare."""
    what = f"The build needs {requirement}, which the sdist does not declare."
    return for_recipe(what, f'extra-build-requirements = ["{requirement}"]', project)


def for_recipe(what: str, entry: str, project: str) -> Finding:
    """A recipe with that entry lets the project be built; the remedy holds the whole file."""
    lines = (f'project = "{project}"', "[[recipe]]", f"reason = {json.dumps(what)}", entry)
    remedy = f"A recipe mends it, {project}.toml in the folder that WHEELFARM_RECIPES names:\n"
    return Finding(kind=FindingKind.BUILD, what=what, remedy=remedy + "\n".join(f"    {line}" for line in lines))


def for_older_python(python: str) -> Finding:
    """The sdist is older than the interpreter."""
    what = f"The sdist knows no Python later than {python}."
    remedy = "Ask for a newer version of it"
    if tuple(map(int, python.split(".")[:2])) >= OLDEST_PYTHON:
        remedy += f", or build for an older interpreter: --python {python}"
    return Finding(kind=FindingKind.BUILD, what=what, remedy=remedy)
