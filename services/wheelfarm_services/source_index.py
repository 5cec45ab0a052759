"""The source index: upstream's projects with the wheels stripped and the metadata of every sdist supplied.

So no resolver runs a build backend, and no wheel byte of upstream is ever fetched.
"""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from wheelfarm.digest import SHA256
from wheelfarm.errors import InputError, NotFound
from wheelfarm.job import Sdist
from wheelfarm_services import layout
from wheelfarm_services.admission import Admission
from wheelfarm_services.policy_book import PolicyBook
from wheelfarm_services.prebuilt import wheel_metadata
from wheelfarm_services.scratch import scratch_folder
from wheelfarm_services.sdist_head import SdistHead, SdistHeads
from wheelfarm_services.sdist_metadata import SdistMetadata
from wheelfarm_services.static_metadata import offered_metadata, require_about, resolving_fields, static_metadata
from wheelfarm_services.store import Store
from wheelfarm_services.upstreams import ListedSdist, ProjectPage, Upstreams

_PAGE_AGE_S = 600.0
_MOST_KNOWN = 20_000
"""For how many projects pages are remembered, and for how many things locks: whoever may read can ask for any name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Remembered:
    page: ProjectPage | None
    read_at: float


class SourceIndex:
    """One source view: its upstreams, and the store that it mirrors sdists into."""

    def __init__(
        self,
        store: Store,
        upstreams: Upstreams,
        *,
        clock: Callable[[], float] = time.monotonic,
        most_known: int = _MOST_KNOWN,
        told: Callable[[str, ProjectPage | None], None] = lambda name, page: None,
    ) -> None:
        """`told` is called with every page that upstream gives."""
        self._told = told
        self._most_known = most_known
        self._store = store
        self._upstreams = upstreams
        self._clock = clock
        self._pages: dict[tuple[str, bool], _Remembered] = {}
        self._guard = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}
        self._heads = SdistHeads(store)
        self._admission = Admission(PolicyBook(store))

    def page(self, name: str) -> ProjectPage | None:
        """A project's sdists that policy lets in, at most ten minutes old; None where upstream has no such project."""
        whole = self._whole_page(name)
        return None if whole is None else self._admission.page(whole)

    def _whole_page(self, name: str) -> ProjectPage | None:
        """Everything that upstream lists of a project."""
        wheels = self._admission.takes_wheels(name)
        with self._lock(f"page {name}"):
            remembered = self._pages.get((name, wheels))
            if remembered is None or self._clock() - remembered.read_at > _PAGE_AGE_S:
                page = self._upstreams.page(name, wheels=wheels)
                self._told(name, page)
                if len(self._pages) >= self._most_known:
                    self._pages.clear()
                remembered = self._pages[name, wheels] = _Remembered(page=page, read_at=self._clock())
            return remembered.page

    def mirror(self, sdist: Sdist) -> None:
        """Bring an sdist into the store, verified. Does nothing when it is there.

        Raises InputError when the source index lists no such (name, version, sha256), PolicyRefused when it may not
        enter, HashMismatch when upstream sends other bytes than it lists, BadSdist when they are no sdist of that name
        and version.
        """
        with self._lock(f"sdist {sdist.sha256}"):
            known = self._mirrored(sdist)
            listed = known or self._listed(sdist)
            self._admission.require(listed)
            if known is None:
                self._bring(listed)

    def metadata(self, sdist: Sdist, target_revision: str, revision: int = 0) -> bytes | None:
        """A revision of the core metadata to resolve with, for one target; None where a metadata job has to compute it
        first, or where there is no such revision.

        Raises what `mirror` and `static_metadata` raise.
        """
        known = SdistMetadata(self._store)
        if revision:
            return known.revision(sdist, target_revision, revision)
        if (data := known.told_first(sdist, target_revision)) is not None:
            return data
        self.mirror(sdist)
        stated = self._stated_metadata(sdist)
        if stated is not None:
            known.keep_stated(sdist, stated)
        return stated

    def head(self, sdist: Sdist) -> SdistHead:
        """The head of a mirrored sdist."""
        return self._heads.read(sdist, partial(self._opened, sdist))

    def _stated_metadata(self, sdist: Sdist) -> bytes | None:
        if not sdist.is_prebuilt:
            return static_metadata(sdist, self.head(sdist)) or self._trusted(sdist)
        with self._opened(sdist) as file:
            return resolving_fields(wheel_metadata(sdist, file))

    def _opened(self, sdist: Sdist) -> BinaryIO:
        file = self._store.open(layout.sdist(sdist.sha256))
        if file is None:
            raise NotFound(f"{sdist.filename} is not in the store.")
        return file

    def _trusted(self, sdist: Sdist) -> bytes | None:
        """What upstream says of the version, where its metadata is trusted, as far as resolvers can read it."""
        page = self.page(sdist.name)
        offered = self._upstreams.trusted_metadata(page, sdist) if page else None
        return offered_metadata(sdist, offered) if offered is not None else None

    def find(self, name: str, sha256: str) -> Sdist:
        """The sdist of a project with that sha256: listed, or mirrored when it was and gone from its page since.

        Raises NotFound, and PolicyRefused when it may not enter.
        """
        listed = next((one for one in self._listings(name) if one.sdist.sha256 == sha256), None)
        if listed is None and SHA256.fullmatch(sha256):
            listed = self._recorded(sha256)
        if listed is None or listed.sdist.name != name:
            raise NotFound(f"The source index lists no sdist of {name} with sha256 {sha256}.")
        self._admission.require(listed)
        return listed.sdist

    def _listed(self, sdist: Sdist) -> ListedSdist:
        for listed in self._listings(sdist.name):
            if listed.sdist == sdist:
                return listed
        if sdist.is_prebuilt:
            self._admission.require(ListedSdist(sdist=sdist, url=""))  # tells why no exception holds
        raise InputError(
            f"The source index does not list {sdist.filename} with sha256 {sdist.sha256}.",
            hint="The farm builds only what its own source index lists; resolve again.",
        )

    def _listings(self, name: str) -> tuple[ListedSdist, ...]:
        """All that upstream lists of a project, refused or not, and its prebuilt wheels."""
        whole = self._whole_page(name)
        return (*whole.sdists, *self._admission.page(whole).prebuilt) if whole else ()

    def _mirrored(self, sdist: Sdist) -> ListedSdist | None:
        """What an sdist that is in the store was listed as; None where it is not there. InputError for another."""
        recorded = self._recorded(sdist.sha256)
        if recorded is not None and recorded.sdist != sdist:
            filename = recorded.sdist.filename
            raise InputError(f"sha256 {sdist.sha256} is {filename} on the source index, not {sdist.filename}.")
        return recorded

    def _recorded(self, sha256: str) -> ListedSdist | None:
        """What the bytes of that sha256 were listed as, as long as they are here, whatever upstream lists now."""
        record = self._store.get(layout.sdist_record(sha256))
        if record is None or not self._store.renew(layout.sdist(sha256)):
            return None
        value = json.loads(record)
        return ListedSdist(**{**value, "sdist": Sdist.from_json(value["sdist"])})

    def _bring(self, listed: ListedSdist) -> None:
        with scratch_folder("mirror") as folder:
            path = folder / "sdist"
            self._upstreams.fetch(listed, path)
            head = self._own_head(listed.sdist, path)
            self._store.put_file(layout.sdist(listed.sdist.sha256), path)
        if head is not None:
            self._heads.keep(listed.sdist, head)
        self._store.put(layout.sdist_record(listed.sdist.sha256), json.dumps(asdict(listed)).encode())

    def _own_head(self, sdist: Sdist, path: Path) -> SdistHead | None:
        """What an archive, which is no wheel's, says of itself. Raises BadSdist where it can't be read, or is of
        another project or version.

        Bytes are known by their sha256: whoever listed another's under a name of his own, and was asked for it first,
        would take them away from it.
        """
        if sdist.is_prebuilt:
            return None
        head = self._heads.read(sdist, lambda: path.open("rb"))
        require_about(sdist, head)
        return head

    def _lock(self, name: str) -> threading.Lock:
        with self._guard:
            if len(self._locks) >= self._most_known:
                self._locks.clear()  # who holds one goes on; at worst the same is brought twice
            return self._locks.setdefault(name, threading.Lock())
