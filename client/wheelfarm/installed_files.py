"""Whether wheels stand in an environment as the farm built them: every file recorded, and there with its bytes.

To read the files of a large set takes longer than to install them, so what they were read as is remembered, with where
they stood. What is there unchanged since is not read again, nor are further links to it, of which installers make each
environment. Unchanged means the time of change (ctime), which nobody can set. A further link sets it, too: hence it is
looked at before the installer runs, and of what stands there afterwards only which file it is.

What only records and wheels are read by is imported while the installer runs.
"""

import hashlib
import io
import json
import os
import re
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from wheelfarm.digest import digest_of, sha256_of_bytes
from wheelfarm.files import write_whole
from wheelfarm.names import normalized
from wheelfarm.wheel import BuiltWheel
from wheelfarm.wheelhouse import Wheelhouse

_TICK_NS = 10_000_000
"""How far the clock of files lags, at most: of two changes that are closer to each other the second may not show."""

_MOST_SETS = 32

_Identity = tuple[int, int, int, int]
"""Device, inode, size and time of modification of a file."""


class InstalledFiles:
    """The files of a set of wheels, wherever they are installed; `memory` is a folder of the user's own."""

    def __init__(self, wheels: Sequence[BuiltWheel], wheelhouse: Wheelhouse, *, memory: Path) -> None:
        self._wheels = wheels
        self._wheelhouse = wheelhouse
        self._memory = memory / digest_of([wheel.sha256 for wheel in wheels])
        self._known = _unchanged(self._memory)
        self._shipped: dict[BuiltWheel, Mapping[str, str]] = {}

    def read_wheels(self) -> None:
        """Read now what will be compared with."""
        for wheel in self._wheels:
            self._files_of(wheel)

    def absent(self, folders: Sequence[Path]) -> list[BuiltWheel]:
        """The wheels that are not installed: not every file of theirs is recorded, and there with a wheel's bytes."""
        present = installed_projects(folders)
        shipped = {wheel: self._files_of(wheel) for wheel in self._wheels if wheel.name in present}
        allowed: dict[str, set[str]] = {}  # of a file that two projects ship, either's bytes are there
        for files in shipped.values():
            for name, digest in files.items():
                allowed.setdefault(name, set()).add(digest)
        sight = _Sight(self._known)
        missing = [
            wheel
            for wheel in self._wheels
            if not shipped.get(wheel) or not _is_whole(present[wheel.name], shipped[wheel], allowed, sight)
        ]
        if not missing:
            sight.remember(self._memory)
        return missing

    def _files_of(self, wheel: BuiltWheel) -> Mapping[str, str]:
        if wheel not in self._shipped:
            self._shipped[wheel] = _shipped(self._wheelhouse.wheel(wheel))
        return self._shipped[wheel]


class _Sight:
    """What files are seen to be, each read unless it is known."""

    def __init__(self, known: Mapping[_Identity, str]) -> None:
        self._known = known
        self._began_ns = time.time_ns()
        self._seen: dict[str, tuple[_Identity, int]] = {}
        self._digests: dict[str, str] = {}

    def digest(self, path: str) -> str:
        """The digest of a file as records have it; "" where it can't be read."""
        try:
            self._seen[path] = found = _identity(path)
            self._digests[path] = digest = self._known.get(found[0]) or _digest(path)
        except OSError:
            return ""
        return digest

    def remember(self, memory: Path) -> None:
        """Put down what was seen, but for what may have changed since without a trace. What other sets were seen as is
        kept for those that were installed last."""
        settled = [path for path, (_, changed_ns) in self._seen.items() if changed_ns < self._began_ns - _TICK_NS]
        digests = json.dumps({path: self._digests[path] for path in settled})
        memory.parent.mkdir(parents=True, exist_ok=True)
        write_whole(memory, f"{_stamp(digests, [self._seen[path] for path in settled])}\n{digests}")
        with os.scandir(memory.parent) as others, suppress(FileNotFoundError):  # another command does the same
            for other in sorted(others, key=lambda entry: -entry.stat().st_mtime)[_MOST_SETS:]:
                Path(other).unlink()


def installed_projects(folders: Sequence[Path]) -> dict[str, Path]:
    """The .dist-info directories there are, by normalised project name."""
    found = [path for folder in folders for path in sorted(folder.glob("*.dist-info"))]
    return {normalized(path.name.removesuffix(".dist-info").rpartition("-")[0]): path for path in found}


def _unchanged(memory: Path) -> dict[_Identity, str]:
    """The digests of files that stand where they were seen and have not changed since; none where one has."""
    with suppress(OSError, ValueError):
        stamp, digests = memory.read_text().split("\n", 1)
        expected: dict[str, str] = json.loads(digests)
        found = [_identity(path) for path in expected]
        if stamp == _stamp(digests, found):
            return {identity: digest for (identity, _), digest in zip(found, expected.values(), strict=True)}
    return {}


def _stamp(digests: str, found: Sequence[tuple[_Identity, int]]) -> str:
    return sha256_of_bytes(f"{digests}\n{found}".encode())


def _identity(path: str) -> tuple[_Identity, int]:
    """Which file is at a path, and its time of change. Raises OSError."""
    found = os.lstat(path)
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns), found.st_ctime_ns


def _is_whole(info: Path, shipped: Mapping[str, str], allowed: Mapping[str, Collection[str]], sight: _Sight) -> bool:
    try:
        recorded = _rows((info / "RECORD").read_text())
    except (OSError, UnicodeDecodeError):
        return False
    folder = f"{info.parent}/"
    return shipped.items() <= recorded.items() and all(sight.digest(folder + name) in allowed[name] for name in shipped)


def _shipped(wheel: Path) -> dict[str, str]:
    """The digests of a wheel's files that are installed as they are; none where its record can't be read."""
    import zipfile

    try:
        with zipfile.ZipFile(wheel) as archive:
            record = next(name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/RECORD", name))
            rows = _rows(archive.read(record).decode())
    except (OSError, StopIteration, zipfile.BadZipFile, UnicodeDecodeError):
        return {}
    return {name: digest for name, digest in rows.items() if digest and ".data/" not in name}


def _rows(record: str) -> dict[str, str]:
    """The digests in a record, by name; none where it is malformed."""
    import csv

    try:
        return {row[0]: row[1] for row in csv.reader(io.StringIO(record)) if len(row) == 3}
    except csv.Error:
        return {}


def _digest(path: str) -> str:
    """The digest of a file as records have it. Raises OSError."""
    import base64

    with os.fdopen(os.open(path, os.O_RDONLY), "rb", buffering=0) as file:
        digest = hashlib.file_digest(file, "sha256").digest()
    return f"sha256={base64.urlsafe_b64encode(digest).decode().rstrip('=')}"
