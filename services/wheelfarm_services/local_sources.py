"""Local sources: trees and sdists that clients sent, and the sdists made of the trees; stored apart from the index's.

Nothing here is on an index. An sdist is found by the digest of its contents alone, and a resolution sees only those
that it was told of.
"""

import email.parser
import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from packaging.utils import InvalidName, canonicalize_name
from packaging.version import InvalidVersion, Version

from wheelfarm.errors import HashMismatch, InputError, NotFound
from wheelfarm.job import Job, JobKind, Sdist
from wheelfarm_services import layout
from wheelfarm_services.sdist_head import SdistHead, bad_archive, read_head
from wheelfarm_services.sdist_metadata import SdistMetadata
from wheelfarm_services.static_metadata import static_metadata
from wheelfarm_services.store import Store
from wheelfarm_services.upstreams import ListedSdist, ProjectPage


class LocalSources:
    """Local sources in the store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def take(self, sha256: str, path: Path) -> None:
        """Keep what a client sent. Raises HashMismatch when it has another digest."""
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != sha256:
            raise HashMismatch(f"What was sent has sha256 {found}, not {sha256}.", hint="Run the command again.")
        self._store.put_file(layout.local_archive(sha256), path)

    def as_sdist(self, sha256: str, filename: str) -> Sdist | None:
        """The sdist that an archive is, recorded as such; None where it has no PKG-INFO and so is a packed tree.

        Raises BadSdist when it can't be read, or tells no name and version that can be one.
        """
        file = self._store.open(layout.local_archive(sha256))
        if file is None:
            raise NotFound(f"Nobody sent the farm an archive with sha256 {sha256}.")
        given = Sdist.from_json({"name": "archive", "version": "0", "filename": filename, "sha256": sha256})
        with file:
            head = read_head(given, file)
        if head.pkg_info is None:
            return None
        sdist = sdist_told_by(given, head)
        self.record(sdist, head)
        return sdist

    def record(self, sdist: Sdist, head: SdistHead) -> None:
        """Record a local sdist, whose archive is here, with the metadata that it states."""
        stated = static_metadata(sdist, head)
        if stated is not None:
            SdistMetadata(self._store).keep_stated(sdist, stated)
        self._store.put(layout.local_record(sdist.sha256), json.dumps(asdict(sdist)).encode())

    def require(self, kind: JobKind, sdist: Sdist) -> None:
        """Raise InputError unless a job of that kind may be made of an sdist: one sent here, or made of a tree sent."""
        if kind is JobKind.SDIST:
            known = self._store.size(layout.local_archive(sdist.sha256)) is not None
        else:
            record = self._store.get(layout.local_record(sdist.sha256))
            known = record is not None and Sdist.from_json(json.loads(record)) == sdist
        if not known:
            raise unknown_local(sdist)

    def keep_made(self, job: Job, sdist: Sdist, head: SdistHead, path: Path) -> None:
        """Keep the sdist that was made of a job's tree; its place in the job's name is the commit."""
        self._store.put_file(layout.local_archive(sdist.sha256), path)
        self.record(sdist, head)
        key = layout.local_sdist(job.sdist.sha256, job.request_key)
        self._store.put_new(key, json.dumps(asdict(sdist)).encode())

    def made(self, job: Job) -> Sdist | None:
        """The sdist that was made for a job of a tree."""
        data = self._store.get(layout.local_sdist(job.sdist.sha256, job.request_key))
        return None if data is None else Sdist.from_json(json.loads(data))


def unknown_local(sdist: Sdist) -> InputError:
    """The error for a local sdist that nobody sent, or somebody whose it is alone."""
    return InputError(f"The farm has no local {sdist} with sha256 {sdist.sha256}.", hint="Run the command again.")


def sdist_told_by(given: Sdist, head: SdistHead) -> Sdist:
    """The sdist of an archive under the name and version of its PKG-INFO. Raises BadSdist where it has none."""
    message = email.parser.BytesParser().parsebytes(head.pkg_info or b"", headersonly=True)
    try:
        name = canonicalize_name(str(message["Name"] or ""), validate=True)
        version = str(Version(str(message["Version"] or "")))
    except (InvalidName, InvalidVersion, ValueError) as error:
        raise bad_archive(given, f"its PKG-INFO does not say what it is: {error}") from error
    suffix = ".zip" if given.filename.endswith(".zip") else ".tar.gz"
    filename = f"{name.replace('-', '_')}-{version}{suffix}"
    return Sdist.from_json({"name": name, "version": version, "filename": filename, "sha256": given.sha256})


def local_page(sdist: Sdist) -> ProjectPage:
    """The page of a project of which a resolution is to see nothing but a local sdist. Its URL leads nowhere."""
    listed = ListedSdist(sdist=sdist, url=f"/local/{sdist.sha256}/{sdist.filename}")
    return ProjectPage(name=sdist.name, sdists=(listed,), without_sdist=())
