"""The source index: upstream's projects with the wheels stripped and the metadata of every sdist supplied.

uv reads an sdist's metadata as the PEP 658 sidecar of a *virtual wheel* listed beside it, so no resolver runs a build
backend and no wheel byte of upstream is ever fetched. Each virtual wheel carries a distinct, false sha256: with one
for all, uv would mix them up.
"""

import hashlib
import json
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

from wheelfarm.errors import InputError, NotFound
from wheelfarm.job import Sdist
from wheelfarm_services import layout
from wheelfarm_services.sdist_head import SdistHead, read_head
from wheelfarm_services.static_metadata import static_metadata
from wheelfarm_services.store import Store
from wheelfarm_services.upstream import ListedSdist, ProjectPage, Upstream

_RENDERED_PAGES = 500
_PAGE_AGE_S = 600.0
VIRTUAL_BUILD_TAG = "0"
"""The metadata's revision: raised when a virtual wheel's metadata must be read anew, for uv never asks twice."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Remembered:
    page: ProjectPage | None
    read_at: float


class SourceIndex:
    """One source view: its upstream, and the store that it mirrors sdists into."""

    def __init__(self, store: Store, upstream: Upstream, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._upstream = upstream
        self._clock = clock
        self._pages: dict[str, _Remembered] = {}
        self._guard = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}

    def page(self, name: str) -> ProjectPage | None:
        """A project's sdists, at most ten minutes old; None where upstream has no such project."""
        with self._lock(f"page {name}"):
            remembered = self._pages.get(name)
            if remembered is None or self._clock() - remembered.read_at > _PAGE_AGE_S:
                remembered = _Remembered(page=self._upstream.page(name), read_at=self._clock())
                self._pages[name] = remembered
            return remembered.page

    def mirror(self, sdist: Sdist) -> None:
        """Bring an sdist into the store, verified. Does nothing when it is there.

        Raises InputError when the source index lists no such (name, version, sha256), HashMismatch when upstream sends
        other bytes than it lists.
        """
        with self._lock(f"sdist {sdist.sha256}"):
            if not self._mirrored(sdist):
                self._bring(self._listed(sdist))

    def metadata(self, sdist: Sdist, target_revision: str) -> bytes | None:
        """Core metadata to resolve with, for one target; None where a metadata job has to compute it first.

        Raises what `mirror` and `static_metadata` raise.
        """
        for key in (
            layout.static_metadata(sdist.sha256),
            layout.built_metadata(sdist.sha256, target_revision),
        ):
            if (data := self._store.get(key)) is not None:
                return data
        self.mirror(sdist)
        stated = static_metadata(sdist, self.head(sdist))
        if stated is not None:
            self._store.put(layout.static_metadata(sdist.sha256), stated)
        return stated

    def head(self, sdist: Sdist) -> SdistHead:
        """The head of a mirrored sdist."""
        file = self._store.open(layout.sdist(sdist.sha256))
        if file is None:
            raise NotFound(f"{sdist.filename} is not in the store.")
        with file:
            return read_head(sdist, file)

    def find(self, name: str, sha256: str) -> Sdist:
        """The listed sdist of a project with that sha256. Raises NotFound."""
        for listed in self._sdists(name):
            if listed.sdist.sha256 == sha256:
                return listed.sdist
        raise NotFound(f"The source index lists no sdist of {name} with sha256 {sha256}.")

    def _listed(self, sdist: Sdist) -> ListedSdist:
        for listed in self._sdists(sdist.name):
            if listed.sdist == sdist:
                return listed
        raise InputError(
            f"The source index does not list {sdist.filename} with sha256 {sdist.sha256}.",
            hint="The farm builds only what its own source index lists; resolve again.",
        )

    def _sdists(self, name: str) -> tuple[ListedSdist, ...]:
        page = self.page(name)
        return page.sdists if page else ()

    def _mirrored(self, sdist: Sdist) -> bool:
        record = self._store.get(layout.sdist_record(sdist.sha256))
        if record is None:
            return False
        if (found := Sdist.from_json(json.loads(record)["sdist"])) != sdist:
            raise InputError(f"sha256 {sdist.sha256} is {found.filename} on the source index, not {sdist.filename}.")
        return True

    def _bring(self, listed: ListedSdist) -> None:
        with TemporaryDirectory(prefix="wheelfarm-mirror-") as folder:
            path = Path(folder) / "sdist"
            self._upstream.fetch(listed, path)
            self._store.put_file(layout.sdist(listed.sdist.sha256), path)
        self._store.put(layout.sdist_record(listed.sdist.sha256), json.dumps(asdict(listed)).encode())

    def _lock(self, name: str) -> threading.Lock:
        with self._guard:
            return self._locks.setdefault(name, threading.Lock())


class RenderedPages:
    """Pages as they were rendered last, and their tags: a resolver asks for one again and again."""

    def __init__(self) -> None:
        self._rendered: dict[tuple[str, str], tuple[ProjectPage, bytes, str]] = {}

    def render(self, page: ProjectPage, virtual_path: str) -> tuple[bytes, str]:
        """What `render_project_page` gives, and its entity tag."""
        key = (page.name, virtual_path)
        found = self._rendered.get(key)
        if found is None or found[0] is not page:
            body = render_project_page(page, virtual_path)
            found = (page, body, f'"{hashlib.sha256(body).hexdigest()[:32]}"')
            if len(self._rendered) >= _RENDERED_PAGES:
                self._rendered.clear()
            self._rendered[key] = found
        return found[1], found[2]


def render_project_page(page: ProjectPage, virtual_path: str) -> bytes:
    """The project's page for resolvers: each sdist and its virtual wheel (JSON, PEP 691 with 700 and 714).

    `virtual_path` is the URL path under which this target's virtual wheels lie. The sdists keep upstream's absolute
    URLs and hashes, so that a lock does not depend on where the farm listens.
    """
    files: list[dict[str, Any]] = []
    for listed in page.sdists:
        files += [_sdist_entry(listed), _virtual_wheel_entry(listed, virtual_path)]
    value = {
        "meta": {"api-version": "1.1"},
        "name": page.name,
        "versions": [listed.sdist.version for listed in page.sdists],
        "files": files,
    }
    return json.dumps(value).encode()


def _sdist_entry(listed: ListedSdist) -> dict[str, Any]:
    optional: dict[str, Any] = {
        "requires-python": listed.requires_python,
        "upload-time": listed.upload_time,
        "size": listed.size,
        "yanked": listed.yanked or listed.yanked == "",
    }
    return {
        "filename": listed.sdist.filename,
        "url": listed.url,
        "hashes": {"sha256": listed.sdist.sha256},
        **{name: value for name, value in optional.items() if value},
    }


def _virtual_wheel_entry(listed: ListedSdist, virtual_path: str) -> dict[str, Any]:
    sdist = listed.sdist
    filename = f"{sdist.name.replace('-', '_')}-{sdist.version}-{VIRTUAL_BUILD_TAG}-py3-none-any.whl"
    return {
        **_sdist_entry(listed),
        "filename": filename,
        "url": f"{virtual_path}{sdist.name}/{sdist.sha256}/{quote(filename)}",
        "hashes": {"sha256": hashlib.sha256(f"virtual {sdist.sha256}".encode()).hexdigest()},
        "core-metadata": True,
    }
