"""Derived root filesystems: a target's own with system packages of recipes beside, made ahead by `target derive`.

Each is noted in a file of the folder of target definitions, `derived/KEY.json`, whose key is the digest of what it has:
the sha256 of the root filesystem, and the packages. So all targets of one root filesystem share it.
"""

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from wheelfarm.digest import SHA256, digest_of
from wheelfarm.errors import InputError

DERIVED = "derived"


@dataclass(frozen=True, kw_only=True, slots=True)
class DerivedRoot:
    """The root filesystem whose archive has the sha256 `root`, derived from that of `base` by installing `packages`."""

    base: str
    packages: tuple[str, ...]
    root: str

    def write(self, folder: Path) -> Path:
        """Note it in a folder of target definitions; the file."""
        path = _path(folder, self.base, self.packages)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        partial.write_text(json.dumps(asdict(self), indent=2) + "\n")
        partial.replace(path)
        return path


def find_derived(folder: Path, base: str, packages: Iterable[str]) -> DerivedRoot | None:
    """What was derived from a root filesystem by just these packages. Raises InputError for a file that is no note."""
    path = _path(folder, base, packages)
    return _read(path) if path.exists() else None


def derived_of(folder: Path, base: str) -> dict[Path, DerivedRoot]:
    """All that was derived from a root filesystem, by its file. Raises InputError."""
    found = {path: _read(path) for path in sorted((folder / DERIVED).glob("*.json"))}
    return {path: one for path, one in found.items() if one.base == base}


def _path(folder: Path, base: str, packages: Iterable[str]) -> Path:
    return folder / DERIVED / f"{digest_of(['derived', base, sorted(set(packages))])[:40]}.json"


def _read(path: Path) -> DerivedRoot:
    try:
        value = json.loads(path.read_text())
        packages = tuple(map(str, value["packages"]))
        note = DerivedRoot(base=str(value["base"]), packages=packages, root=str(value["root"]))
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise _no_note(path) from error
    if not SHA256.fullmatch(note.root):
        raise _no_note(path)
    return note


def _no_note(path: Path) -> InputError:
    return InputError(f"{path} is no note of a derived root filesystem.", hint="Make it anew: wheelfarm target derive")
