"""The metadata that sdists are resolved with: as they state it, as a build told it, and as it was revised since.

What an sdist states (PEP 643) is a claim. The first wheel built of it on a target is the truth there: where its
METADATA says otherwise, the truth is kept as the next *revision*. Revision 0 is what was told first.
"""

from wheelfarm.job import Sdist
from wheelfarm.revision import MetadataRevision
from wheelfarm_services import layout
from wheelfarm_services.metadata_comparison import metadata_differences
from wheelfarm_services.store import Store


class SdistMetadata:
    """Metadata in the store; revisions are immutable, so that several may write."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def told_first(self, sdist: Sdist, target_revision: str) -> bytes | None:
        """Revision 0: what the sdist states or a metadata job computed; None where neither is known yet."""
        keys = (layout.static_metadata(sdist.sha256), layout.built_metadata(sdist.sha256, target_revision))
        return next((data for key in keys if (data := self._store.get(key)) is not None), None)

    def revision(self, sdist: Sdist, target_revision: str, revision: int) -> bytes | None:
        """One revision above 0; None where there is no such."""
        return self._store.get(layout.revised_metadata(target_revision, sdist.name, sdist.sha256, revision))

    def revisions(self, project: str, target_revision: str) -> dict[str, int]:
        """The newest revision of each sdist of a project whose metadata was revised, by sha256."""
        keys = self._store.list(layout.metadata_revisions(target_revision, project))
        return {key.split("/")[-2]: int(key.split("/")[-1]) for key in keys}  # listed in ascending order

    def newest(self, sdist: Sdist, target_revision: str) -> tuple[int, bytes | None]:
        """The newest revision and its number."""
        number = self.revisions(sdist.name, target_revision).get(sdist.sha256, 0)
        if number:
            return number, self.revision(sdist, target_revision, number)
        return 0, self.told_first(sdist, target_revision)

    def keep_stated(self, sdist: Sdist, metadata: bytes) -> None:
        """Keep what an sdist states, for every target, unless it is known."""
        self._store.put_new(layout.static_metadata(sdist.sha256), metadata)

    def keep_computed(self, sdist: Sdist, target_revision: str, metadata: bytes) -> None:
        """Keep what the build backend told on one target, unless it is known."""
        self._store.put_new(layout.built_metadata(sdist.sha256, target_revision), metadata)

    def settle(self, sdist: Sdist, target_revision: str, *, stated: bytes | None, built: bytes) -> MetadataRevision:
        """Make a wheel's metadata the truth for its sdist on its target, and tell what that changes; `stated` is what
        the sdist states.

        Safe to repeat and to be raced for: equal metadata makes no new revision.
        """
        if stated is None:
            self.keep_computed(sdist, target_revision, built)
        else:
            self.keep_stated(sdist, stated)
        while True:
            number, newest = self.newest(sdist, target_revision)
            if newest is None or not metadata_differences(newest, built):
                first = self.told_first(sdist, target_revision) if number else None
                return MetadataRevision(
                    revision=number, differences=metadata_differences(first, built) if first else ()
                )
            key = layout.revised_metadata(target_revision, sdist.name, sdist.sha256, number + 1)
            self._store.put_new(key, built)
