"""Which Debian package of a system has a shared library, by dpkg's lists of files."""

import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

_LIBRARY = re.compile(r".*/lib[^ ]*/([A-Za-z0-9_.+-]+\.so[0-9.]*)")


def library_packages(root: Path, libraries: Iterable[str]) -> dict[str, str]:
    """The package of each library that one of the system at `root` has; none where it is not dpkg's."""
    status = root / "var/lib/dpkg/status"
    known = _index(root, status.stat().st_mtime_ns) if status.is_file() else {}
    return {library: known[library] for library in libraries if library in known}


@lru_cache(maxsize=8)
def _index(root: Path, changed_ns: int) -> dict[str, str]:
    """All libraries of a system whose packages changed last at that time."""
    found: dict[str, str] = {}
    for path in sorted((root / "var/lib/dpkg/info").glob("*.list")):
        package = path.stem.partition(":")[0]
        for line in path.read_text(errors="replace").splitlines():
            if ".so" in line and (library := _LIBRARY.fullmatch(line)):
                found.setdefault(library[1], package)
    return found
