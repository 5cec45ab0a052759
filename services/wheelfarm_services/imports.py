"""Imports: wheels that another farm has built, taken onto the index by that farm's manifests of them."""

import re
import shutil
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from wheelfarm.digest import SHA256, sha256_of_bytes, sha256_of_file
from wheelfarm.errors import BadWheel, Conflict, HashMismatch, InputError, NotFound, ProtocolError
from wheelfarm.job import Job
from wheelfarm.target import TARGET_NAME, Target
from wheelfarm.wheel import BuiltWheel
from wheelfarm_services import layout
from wheelfarm_services.scratch import scratch_folder
from wheelfarm_services.store import Store
from wheelfarm_services.wheel_index import Manifest, Plan, WheelIndex

_METADATA_BYTES = 4 << 20


class Imports:
    """Takes wheels in, for those whom the operator trusts to have built them."""

    def __init__(self, store: Store, index: WheelIndex) -> None:
        self._store = store
        self._index = index

    def take(self, sha256: str, filename: str, path: Path) -> None:
        """Keep a wheel's bytes; nothing lists them yet. Raises HashMismatch where they are others."""
        if (found := sha256_of_file(path)) != sha256:
            raise HashMismatch(f"{filename} came with sha256 {found}, not {sha256}.")
        self._store.put_file(layout.wheel(sha256, filename), path)

    def enlist(self, sha256: str, filename: str, value: Mapping[str, Any]) -> BuiltWheel:
        """Put a wheel that was taken on its target's index; the wheel that stands for that build. Safe to repeat.

        Raises NotFound where it was not taken, InputError for a manifest that is none of it, HashMismatch where its
        metadata is not as told, and Conflict where other bytes have its name.
        """
        manifest, job, plan = _read(sha256, filename, value)
        with scratch_folder("import") as folder:
            path = folder / filename
            self._fetch(manifest, path)
            metadata = _metadata(path, manifest)
            if (standing := self._index.manifest(plan.build_key)) is not None:
                self._index.enlist(standing)
                return standing.wheel
            self._claim(manifest)
            self._index.record_plan(job, plan)
            return self._index.publish(plan.build_key, manifest, path, metadata).wheel

    def _fetch(self, manifest: Manifest, path: Path) -> None:
        wheel = manifest.wheel
        file = self._store.open(layout.wheel(wheel.sha256, wheel.filename))
        if file is None:
            raise NotFound(f"{wheel.filename} was not sent.", hint="Send its bytes first.")
        with file, path.open("wb") as copy:
            shutil.copyfileobj(file, copy, 1 << 20)
        if path.stat().st_size != wheel.size:
            raise InputError(f"{wheel.filename} has {path.stat().st_size} bytes, not {wheel.size}.")

    def _claim(self, manifest: Manifest) -> None:
        """Take the wheel's name, which the farm that built it has given it. Raises Conflict."""
        target, filename = manifest.target, manifest.wheel.filename
        if self._index.claim(target, filename, manifest.unstamped_sha256):
            entry = self._store.get(layout.index_entry(target, filename))
            if entry is None or Manifest.from_json(entry).wheel.sha256 == manifest.wheel.sha256:
                return
        raise Conflict(
            f"The index of {target} has another file under the name {filename}, and names are never given twice.",
            hint="This farm and the one that the export is of have built it differently: import into an empty farm.",
        )


def _read(sha256: str, filename: str, value: Mapping[str, Any]) -> tuple[Manifest, Job, Plan]:
    """A manifest off the wire, with the job and the plan in it. Raises InputError naming what is wrong with it."""
    try:
        fields = {name: value[name] for name in Manifest.__slots__}
        manifest = Manifest(**{**fields, "wheel": BuiltWheel.from_json(value["wheel"])})
        provenance = manifest.provenance
        job, plan = Job.from_json(provenance["job"]), Plan.from_json(provenance["plan"])
        target = Target.from_json(provenance["target"])
    except (LookupError, TypeError, ValueError, AttributeError, ProtocolError) as error:
        raise InputError(f"What was sent is no manifest of {filename}.") from error
    wheel = manifest.wheel
    problems = {
        "it is of another wheel": (wheel.sha256, wheel.filename) != (sha256, filename),
        "the file name is not that of the project and version": not _is_named_so(wheel),
        "it was built from what a client sent": manifest.is_local,
        "project and sdist are not the same": (job.sdist.name, job.sdist.version) != (wheel.name, wheel.version),
        "its targets are not the same": not manifest.target == job.target == target.name,
        "its target can't be one": not TARGET_NAME.fullmatch(str(manifest.target)),
        "a digest in it is none": not all(
            SHA256.fullmatch(str(one)) for one in (manifest.unstamped_sha256, manifest.metadata_sha256, plan.build_key)
        ),
        "Requires-Python is no text": not isinstance(manifest.requires_python, str),
    }
    if wrong := [told for told, holds in problems.items() if holds]:
        raise InputError(f"The manifest of {filename} can't be accepted: {'; '.join(wrong)}.")
    return manifest, job, plan


def _is_named_so(wheel: BuiltWheel) -> bool:
    """Whether a wheel's file name has its project, its version and a build tag, as every one of a farm has."""
    try:
        name, version, build, _ = parse_wheel_filename(wheel.filename)
    except InvalidWheelFilename:
        return False
    return (name, str(version)) == (canonicalize_name(wheel.name), wheel.version) and bool(build)


def _metadata(path: Path, manifest: Manifest) -> bytes:
    """The METADATA in a wheel. Raises BadWheel where it can't be read, HashMismatch where it is not the one told."""
    try:
        with zipfile.ZipFile(path) as archive:
            (name,) = (name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name))
            with archive.open(name) as member:
                metadata = member.read(_METADATA_BYTES)
    except (OSError, ValueError, RuntimeError, zlib.error, zipfile.BadZipFile) as error:
        raise BadWheel(f"{path.name} is no wheel whose METADATA can be read.") from error
    if sha256_of_bytes(metadata) != manifest.metadata_sha256:
        raise HashMismatch(f"The METADATA in {path.name} is not the one that its manifest tells.")
    return metadata
