"""Which Debian package has a header, library, program, pkg-config or CMake package that a build misses."""

import tomllib
from functools import cache
from importlib.resources import files
from typing import Literal

Sort = Literal["headers", "libraries", "tools", "pkg-config", "cmake"]
_SORTS: tuple[Sort, ...] = ("headers", "libraries", "tools", "pkg-config", "cmake")


def debian_package(sort: Sort, name: str) -> str | None:
    """The package to install for a thing of that sort, or None where it is not known. Upper and lower case are one,
    since meson and CMake files spell names as they like; headers are known by folder, too."""
    table = _tables()[sort]
    name = name.lower()
    while name:
        if name in table:
            return table[name]
        if sort != "headers":
            return None
        name = name.rstrip("/").rpartition("/")[0]
        name += "/" if name else ""
    return None


@cache
def _tables() -> dict[Sort, dict[str, str]]:
    listed = tomllib.loads((files(__package__) / "debian_packages.toml").read_text(encoding="utf-8"))
    return {
        sort: {name.lower(): package for package, things in listed.items() for name in things.get(sort, ())}
        for sort in _SORTS
    }
