"""Exports: a target's wheels, their metadata, provenance and pages in a folder that any installer takes, and whose
every byte its manifest vouches for.

Below the folder lie `NAME.whl` and `NAME.whl.metadata` (PEP 658), `index.html` for --find-links, `simple/` as an index
for file:// (PEP 503), `provenance/NAME.whl.json` and `manifest.json`. Nothing tells when or where it was made: equal
contents are equal bytes.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wheelfarm.digest import SHA256, sha256_of_bytes, sha256_of_file
from wheelfarm.errors import HashMismatch, InputError, ProtocolError
from wheelfarm.target import TARGET_NAME
from wheelfarm.wheel import BuiltWheel

MANIFEST = "manifest.json"
_FORMAT = 1
_PATH = re.compile(r"(?:simple/(?:[a-z0-9-]+/)?|provenance/)?[A-Za-z0-9_][A-Za-z0-9_.!+~-]*")


@dataclass(frozen=True, kw_only=True, slots=True)
class FileRecord:
    """A file of an export: its sha256 and its size in bytes."""

    sha256: str
    size: int

    @classmethod
    def of(cls, data: bytes) -> "FileRecord":
        return cls(sha256=sha256_of_bytes(data), size=len(data))

    def is_at(self, path: Path) -> bool:
        """Whether a plain file with these contents lies there."""
        try:
            return path.lstat().st_size == self.size and not path.is_symlink() and sha256_of_file(path) == self.sha256
        except OSError:
            return False


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportManifest:
    """What an export holds: its wheels, and every file by its path."""

    target: str
    wheels: tuple[BuiltWheel, ...]
    files: Mapping[str, FileRecord]

    @property
    def sha256(self) -> str:
        """The digest that stands for the whole export."""
        return sha256_of_bytes(self.to_bytes())

    def to_bytes(self) -> bytes:
        files = {path: {"sha256": one.sha256, "size": one.size} for path, one in sorted(self.files.items())}
        wheels = [wheel.to_json() for wheel in self.wheels]
        value = {"format": _FORMAT, "target": self.target, "wheels": wheels, "files": files}
        return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()

    @classmethod
    def from_bytes(cls, data: bytes, shown: str) -> "ExportManifest":
        """Raises InputError, naming the manifest as `shown`, for what is none or leads out of its folder."""
        try:
            value = json.loads(data)
            if value["format"] != _FORMAT:
                raise InputError(f"{shown} has the format {value['format']!r}, and this version reads {_FORMAT}.")
            files = {
                str(path): FileRecord(sha256=str(one["sha256"]), size=one["size"])
                for path, one in value["files"].items()
            }
            wheels = tuple(map(BuiltWheel.from_json, value["wheels"]))
            target = str(value["target"])
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError, ProtocolError) as error:
            raise InputError(f"{shown} is no manifest of an export.") from error
        wrong = [path for path, one in files.items() if not _PATH.fullmatch(path) or not _is_record(one)]
        wrong += [wheel.filename for wheel in wheels if not _is_listed(wheel, files)]
        if wrong or not TARGET_NAME.fullmatch(target):
            raise InputError(f"{shown} is malformed: {', '.join(map(repr, wrong[:5])) or repr(target)}.")
        return cls(target=target, wheels=wheels, files=files)


def read_manifest(folder: Path) -> ExportManifest:
    """The manifest of an export, with nothing checked by it. Raises InputError where there is none."""
    path = folder / MANIFEST
    try:
        return ExportManifest.from_bytes(path.read_bytes(), str(path))
    except OSError as error:
        raise InputError(
            f"{folder} is no export: {path} can't be read ({error.strerror}).", hint="wheelfarm export makes one."
        ) from error


def verified_manifest(folder: Path, sha256: str = "") -> ExportManifest:
    """The manifest of an export that is whole: nothing is missing, nothing changed, nothing is there beside.

    `sha256` is the digest that its maker told, which vouches for the manifest itself. Raises HashMismatch naming the
    files that are not as they should be.
    """
    manifest = read_manifest(folder)
    data = (folder / MANIFEST).read_bytes()
    if sha256 and sha256_of_bytes(data) != sha256:
        raise HashMismatch(f"{folder / MANIFEST} has sha256 {sha256_of_bytes(data)}, not {sha256}.")
    wrong = [
        f"{path}: {'other bytes' if (folder / path).exists() else 'missing'}"
        for path, record in manifest.files.items()
        if not record.is_at(folder / path)
    ]
    wrong += [f"{path}: not of the export" for path in _present(folder) if path not in (MANIFEST, *manifest.files)]
    if wrong:
        more = f" and {len(wrong) - 10} more" if len(wrong) > 10 else ""
        raise HashMismatch(
            f"{folder} is not what its manifest says: {'; '.join(sorted(wrong)[:10])}{more}.",
            hint="Copy it anew from where it was made.",
        )
    return manifest


def provenance_path(wheel: BuiltWheel) -> str:
    """Where the farm's own manifest of a wheel lies."""
    return f"provenance/{wheel.filename}.json"


def read_provenance(folder: Path, wheel: BuiltWheel) -> dict[str, Any]:
    """The farm's own manifest of a wheel. Raises InputError where it is none."""
    path = folder / provenance_path(wheel)
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} can't be read as the provenance of {wheel.filename}.") from error
    if not isinstance(value, dict):
        raise InputError(f"{path} is no provenance.")
    return value


def _present(folder: Path) -> Iterator[str]:
    """What lies in the folder, links to folders not followed."""
    for path in sorted(folder.resolve().rglob("*")):
        if path.is_symlink() or not path.is_dir():
            yield path.relative_to(folder.resolve()).as_posix()


def _is_record(record: FileRecord) -> bool:
    return SHA256.fullmatch(record.sha256) is not None and type(record.size) is int and record.size >= 0


def _is_listed(wheel: BuiltWheel, files: Mapping[str, FileRecord]) -> bool:
    beside = {f"{wheel.filename}.metadata", provenance_path(wheel)}
    return beside <= files.keys() and files.get(wheel.filename) == FileRecord(sha256=wheel.sha256, size=wheel.size)
