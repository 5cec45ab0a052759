"""Which Debian package has a header, library, program, pkg-config or CMake package that a build misses, and whether
packages are installed on this machine, or in a root filesystem."""

import re
import shutil
import subprocess
import tomllib
from collections.abc import Collection
from functools import cache, lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Literal

from wheelfarm.errors import SystemPackagesMissing

Sort = Literal["headers", "libraries", "tools", "pkg-config", "cmake"]
_INSTALLED = re.compile(r"^Package: (\S+)\nStatus: \S+ ok installed$", re.MULTILINE)
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


def require_installed(packages: Collection[str]) -> None:
    """Raise SystemPackagesMissing unless this machine has the packages; where there is no dpkg nobody can say."""
    if shutil.which("dpkg-query") is None:
        return
    query = ["dpkg-query", "--show", "--showformat", "${Package} ${db:Status-Status}\n", *packages]
    listed = subprocess.run(query, capture_output=True, text=True, check=False).stdout.splitlines()
    if absent := sorted(
        set(packages) - {name for line in listed for name, _, state in [line.partition(" ")] if state == "installed"}
    ):
        raise SystemPackagesMissing(
            f"A recipe asks for {', '.join(absent)}, which the worker's machine does not have.",
            hint=f"On it: apt-get install {' '.join(absent)}; then again, with --retry",
        )


def lacking(root: Path, packages: Collection[str]) -> tuple[str, ...]:
    """Those of the packages that the system at `root` does not have, sorted; all of them where it is not dpkg's."""
    status = root / "var/lib/dpkg/status"
    known = _installed(status, status.stat().st_mtime_ns) if status.is_file() else frozenset[str]()
    return tuple(sorted(set(packages) - known))


@lru_cache(maxsize=8)
def _installed(status: Path, changed_ns: int) -> frozenset[str]:
    return frozenset(_INSTALLED.findall(status.read_text(errors="replace")))


@cache
def _tables() -> dict[Sort, dict[str, str]]:
    listed = tomllib.loads((files(__package__) / "debian_packages.toml").read_text(encoding="utf-8"))
    return {
        sort: {name.lower(): package for package, things in listed.items() for name in things.get(sort, ())}
        for sort in _SORTS
    }
