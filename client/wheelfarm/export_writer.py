"""Writing an export: what is there already is linked, what is new is fetched, and the whole is switched to at once."""

import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from wheelfarm.errors import HashMismatch, InputError, ProtocolError
from wheelfarm.export import MANIFEST, ExportManifest, FileRecord, provenance_path, read_manifest
from wheelfarm.files import open_lock
from wheelfarm.target import TARGET_NAME
from wheelfarm.wheel import BuiltWheel


class WheelSource(Protocol):
    """Where wheels come from."""

    def download(self, wheel: BuiltWheel, path: Path) -> None: ...

    def wheel_metadata(self, wheel: BuiltWheel) -> bytes: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportPlan:
    """What a farm says belongs into an export: the manifests of its wheels as its index has them, and the pages."""

    target: str
    manifests: tuple[Mapping[str, Any], ...]
    pages: Mapping[str, str]

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "ExportPlan":
        """Raises ProtocolError for what is none."""
        try:
            target = str(value["target"])
            manifests, pages = tuple(value["manifests"]), {str(k): str(v) for k, v in value["pages"].items()}
        except (TypeError, LookupError, AttributeError) as error:
            raise ProtocolError("The farm answered with something that is no export.") from error
        if not TARGET_NAME.fullmatch(target):
            raise ProtocolError("The farm answered with an export of no target.")
        return cls(target=target, manifests=manifests, pages=pages)


@dataclass(frozen=True, kw_only=True, slots=True)
class WrittenExport:
    """An export as it was written; `new` are the wheels that were not in the one before."""

    manifest: ExportManifest
    new: tuple[BuiltWheel, ...]
    gone: tuple[str, ...]


def write_export(plan: ExportPlan, source: WheelSource, folder: Path) -> WrittenExport:
    """Have `folder`, a link, lead to a folder with what the plan says, whole or as it was before.

    The folder before that is kept beside it, for those who are reading it, until the next time. One that is interrupted
    goes on from what it has. Raises InputError where something else is in the way, and HashMismatch.
    """
    place = Path(os.path.abspath(folder))  # noqa: PTH100  (the link itself, not what it leads to)
    with _alone(place):
        before = _manifest_before(place)
        partial = _begun(place)
        contents = {path: page.encode() for path, page in plan.pages.items()}
        wheels = tuple(BuiltWheel.from_json(manifest["wheel"]) for manifest in plan.manifests)
        files = {path: FileRecord.of(data) for path, data in contents.items()}
        for wheel, manifest in zip(wheels, plan.manifests, strict=True):
            beside = _written_beside(wheel, manifest, source, place, partial)
            _obtain(wheel, source, place, partial)
            contents |= beside
            files |= {path: FileRecord.of(data) for path, data in beside.items()}
            files[wheel.filename] = FileRecord(sha256=wheel.sha256, size=wheel.size)
        data = ExportManifest(target=plan.target, wheels=wheels, files=files).to_bytes()
        made = ExportManifest.from_bytes(data, "What the farm answered")
        _write({**contents, MANIFEST: data}, partial)
        _switch(place, partial, made)
    known = {wheel.filename for wheel in before.wheels} if before else set()
    return WrittenExport(
        manifest=made,
        new=tuple(wheel for wheel in wheels if wheel.filename not in known),
        gone=tuple(sorted(known - {wheel.filename for wheel in wheels})),
    )


def _begun(place: Path) -> Path:
    """The folder of an export that is not whole yet, as one that was interrupted left it.

    Raises InputError for links in it: what is written and removed there would be so elsewhere.
    """
    partial = place.with_name(f".{place.name}.partial")
    links = [path for path in (partial, *partial.rglob("*")) if path.is_symlink()]
    if links:
        raise InputError(f"{links[0]} is a link, and no export leaves one there.", hint=f"Remove it: rm -r {partial}")
    partial.mkdir(exist_ok=True)
    return partial


def _obtain(wheel: BuiltWheel, source: WheelSource, place: Path, partial: Path) -> None:
    """Have a wheel in the new folder: as it is there, linked from the one before, or fetched."""
    record, path = FileRecord(sha256=wheel.sha256, size=wheel.size), partial / wheel.filename
    if record.is_at(path):
        return
    path.unlink(missing_ok=True)
    if record.is_at(place / wheel.filename):
        with suppress(OSError):
            os.link(place / wheel.filename, path)
            return
    source.download(wheel, path)


def _written_beside(
    wheel: BuiltWheel, manifest: Mapping[str, Any], source: WheelSource, place: Path, partial: Path
) -> dict[str, bytes]:
    """What belongs to a wheel: its metadata, and the farm's manifest of it. Raises HashMismatch."""
    name = f"{wheel.filename}.metadata"
    wanted = str(manifest.get("metadata_sha256", ""))
    for known in (place / name, partial / name):
        with suppress(OSError):
            if FileRecord.of(data := known.read_bytes()).sha256 == wanted:
                break
    else:
        data = source.wheel_metadata(wheel)
        if FileRecord.of(data).sha256 != wanted:
            raise HashMismatch(f"The metadata of {wheel.filename} came with other bytes than its sha256 promises.")
    provenance = (json.dumps(manifest, indent=1, sort_keys=True) + "\n").encode()
    return {name: data, provenance_path(wheel): provenance}


def _write(contents: Mapping[str, bytes], partial: Path) -> None:
    """Write the small files anew, and remove what an interrupted run has left."""
    for path, data in contents.items():
        target = partial / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        target.write_bytes(data)


def _switch(place: Path, partial: Path, manifest: ExportManifest) -> None:
    """Give the new folder its name and have the link lead to it, in one step for whoever reads."""
    for path in sorted(partial.rglob("*"), reverse=True):
        name = path.relative_to(partial).as_posix()
        if path.is_dir():
            with suppress(OSError):
                path.rmdir()
        elif name != MANIFEST and name not in manifest.files:
            path.unlink()
    new = place.with_name(f".{place.name}.{manifest.sha256[:16]}")
    old = place.resolve()
    if old != new.resolve():
        _remove(new)
        partial.rename(new)
        link = place.with_name(f".{place.name}.link")
        _remove(link)
        link.symlink_to(new.name)
        link.replace(place)
    versions = re.compile(rf"\.{re.escape(place.name)}\.(?:[0-9a-f]{{16}}|partial)")
    for other in place.parent.iterdir():
        if versions.fullmatch(other.name) and other.resolve() not in (old, new.resolve()):
            _remove(other)


def _remove(path: Path) -> None:
    """Remove a folder, or the link or the file that stands in its place."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _manifest_before(place: Path) -> ExportManifest | None:
    if not place.is_symlink() and place.exists():
        raise InputError(
            f"{place} is there and was not made by wheelfarm export: it would be a link to a folder beside it.",
            hint="Name a path where nothing is yet.",
        )
    return read_manifest(place) if place.exists() else None


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    """Keep other exports to the same place away. Raises InputError where it can't be written."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        lock = open_lock(place.with_name(f".{place.name}.lock"))
    except OSError as error:
        raise InputError(f"{place} can't be written: {error.strerror}.", hint="Name another folder.") from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
