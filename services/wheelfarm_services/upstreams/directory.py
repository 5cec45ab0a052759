"""An upstream that is a local directory: sdists in it, or in one folder a project."""

import errno
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from packaging.utils import canonicalize_name, is_normalized_name

from wheelfarm.digest import sha256_of_file
from wheelfarm.errors import HashMismatch, UpstreamError
from wheelfarm_services.upstreams.http_index import PageAnswer, Seen
from wheelfarm_services.upstreams.listing import File, ListedSdist, Sidecar, list_files
from wheelfarm_services.upstreams.settings import UpstreamSettings

_FILES = (".tar.gz", ".zip", ".whl")
Stamp = tuple[int, int, int]


class DirectoryIndex:
    """Lists what lies in a directory now; a file's sha256 is computed once for as long as it stays the same file."""

    def __init__(self, settings: UpstreamSettings) -> None:
        self.name = settings.name
        self.url = settings.url
        self._root = Path(unquote(urlsplit(settings.url).path))
        self._digests: dict[tuple[Path, Stamp], str] = {}

    def page(self, name: str, seen: Seen | None = None, *, wheels: bool = False) -> PageAnswer:
        """The project's files; no page where there are none. Raises UpstreamError where the directory can't be read."""
        if not is_normalized_name(name):
            return PageAnswer(page=None, seen=Seen())
        try:
            files = list(self._files(name))
        except OSError as error:
            raise self._refused(f"can't be read: {error.strerror}") from error
        page = list_files(name, files, "", wheels=wheels) if files else None
        return PageAnswer(page=page, seen=Seen())

    def fetch(self, listed: ListedSdist, path: Path) -> None:
        """Copy an sdist to `path`. Raises HashMismatch when it was changed since it was listed."""
        try:
            shutil.copyfile(unquote(urlsplit(listed.url).path), path)
        except OSError as error:
            if error.errno == errno.ENOSPC:  # where it is copied to
                raise
            raise self._refused(f"has no {listed.sdist.filename} that can be read: {error.strerror}") from error
        if sha256_of_file(path) != listed.sdist.sha256:
            raise HashMismatch(
                f"{listed.sdist.filename} of {self.url} was changed since it was listed.", hint="Try again."
            )

    def sidecar(self, sidecar: Sidecar) -> bytes:
        """There are none."""
        raise self._refused("offers no metadata")

    def _files(self, name: str) -> Iterator[File]:
        for path in sorted(self._root.iterdir()):
            if path.is_dir() and canonicalize_name(path.name) == name:
                yield from (self._file(below) for below in sorted(path.iterdir()) if _is_file(below))
            elif _is_file(path) and canonicalize_name(path.name).startswith(name):
                yield self._file(path)

    def _file(self, path: Path) -> File:
        return {"filename": path.name, "url": path.absolute().as_uri(), "hashes": {"sha256": self._digest(path)}}

    def _digest(self, path: Path) -> str:
        status = path.stat()
        key = (path, (status.st_mtime_ns, status.st_size, status.st_ino))
        if key not in self._digests:
            self._digests[key] = sha256_of_file(path)
        return self._digests[key]

    def _refused(self, what: str) -> UpstreamError:
        return UpstreamError(
            f"The upstream directory {self._root} {what}.",
            hint="The farm asks no other upstream instead. Correct the upstreams file, or the directory's rights.",
        )


def _is_file(path: Path) -> bool:
    return path.name.endswith(_FILES) and path.is_file()
