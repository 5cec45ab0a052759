"""Garbage collection: what of the store nothing leads to any more, removed while the farm works.

Marking is by digest: whatever document that stays (index entry, manifest, plan, open request, remembered resolution,
target, record of an interpreter) names a digest anywhere, keeps all that lies under it. What is younger than a cut-off
taken at the beginning is never touched, and what is put or asked for again counts as new, so that a build under way
loses nothing. Documents go before what they name: killed at any moment, a run leaves a store that is whole, and the
next one goes on.

Names that wheels were given are never given back, so claims stay for ever.
"""

import json
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

from wheelfarm.garbage import GarbageReport, GarbageRules, Removed
from wheelfarm_services import layout
from wheelfarm_services.store import Store, StoredObject
from wheelfarm_services.wheel_index import Manifest

_DIGEST = re.compile(rb"[0-9a-f]{64}")
_READERS = 8
_AT_ONCE = 256
_DAY_S = 86400.0
_BY_DIGEST = ("wheels", "sdists", "local", "metadata", "requires", "interpreters")
"""Folders whose objects lie under the digest of what they belong to, in the order in which they are removed."""


@dataclass(kw_only=True, slots=True)
class _Marks:
    """What stays: digests, and build keys of manifests."""

    digests: set[bytes] = field(default_factory=set)
    build_keys: set[str] = field(default_factory=set)


def collect_garbage(store: Store, rules: GarbageRules, *, dry_run: bool) -> GarbageReport:
    """Remove what may go under these rules, or only tell what it would be."""
    return _Collection(store, rules, dry_run=dry_run).run()


class _Collection:
    """One run."""

    def __init__(self, store: Store, rules: GarbageRules, *, dry_run: bool) -> None:
        now = store.now()
        self._store = store
        self._rules = rules
        self._dry_run = dry_run
        self._unused = now - rules.unused_days * _DAY_S
        self._settled = now - rules.grace_days * _DAY_S
        self._removed: dict[str, Removed] = {}
        self._gone: set[str] = set()

    def run(self) -> GarbageReport:
        for target in self._rules.forgotten_targets:
            self._forget(target)
        marks = self._mark()
        manifests = (found for found in self._store.objects("manifests/") if _stem(found.key) not in marks.build_keys)
        self._remove("manifests", manifests, self._settled)
        self._remove("plans", self._stale_plans(marks), self._unused)
        for kind in ("failures", "logs", "quarantine", "locks", "probe", "requests"):
            self._remove(kind, self._store.objects(f"{kind}/"), self._unused)
        for kind in _BY_DIGEST:
            unmarked = (found for found in self._store.objects(f"{kind}/") if not _marked(found.key, marks))
            self._remove(kind, unmarked, self._settled if kind == "wheels" else self._unused)
        self._remove("local", self._beyond_quota(), self._settled)
        self._remove("revisions", self._replaced_revisions(), self._settled)
        self._remove("upstreams", self._unused_pages(marks), self._unused)
        self._remove("tenants", self._notes_of_nothing(), self._unused)
        unfinished = 0 if self._dry_run else self._store.sweep(self._settled)
        return GarbageReport(dry_run=self._dry_run, removed=self._removed, unfinished_writes=unfinished)

    def _forget(self, target: str) -> None:
        """Take a target off: its entries, its pages, its definitions. The claims of its names stay."""
        pages = (layout.project_pages(target), layout.flat_pages(target), layout.stale_notes(target))
        for prefix in (layout.index_entries(target), *pages, layout.target_definitions(target)):
            self._remove("targets", self._store.objects(prefix), self._settled)

    def _mark(self) -> _Marks:
        marks = _Marks()
        for found, data in self._read("index/", "locks/", "requests/", "pythons/", "targets/"):
            kept = found.modified_at >= self._unused or found.key.startswith(("index/", "pythons/", "targets/"))
            if kept and found.key not in self._gone:
                marks.digests.update(_DIGEST.findall(data))
        for found, data in self._read("manifests/"):
            if self._stays(found, Manifest.from_json(data), marks):
                marks.build_keys.add(_stem(found.key))
                marks.digests.update(_DIGEST.findall(data))
        for found, data in self._read("plans/"):
            if found.modified_at >= self._unused or _build_key(data) in marks.build_keys:
                marks.digests.update(_DIGEST.findall(data))
        return marks

    def _stays(self, found: StoredObject, manifest: Manifest, marks: _Marks) -> bool:
        """Whether a manifest does: one of a local wheel only for a time, or while a remembered resolution names it."""
        if found.modified_at >= self._settled:
            return True
        if manifest.is_local:
            return found.modified_at >= self._unused or manifest.wheel.sha256.encode() in marks.digests
        return manifest.target not in self._rules.forgotten_targets

    def _stale_plans(self, marks: _Marks) -> Iterator[StoredObject]:
        """Those of which no wheel came."""
        for found, data in self._read("plans/"):
            if _build_key(data) not in marks.build_keys:
                yield found

    def _beyond_quota(self) -> Iterator[StoredObject]:
        """The oldest of what clients sent, unless an open request names it, as far as all of it is too much."""
        if not self._rules.local_mib:
            return
        wanted = {digest for _, data in self._read("requests/") for digest in _DIGEST.findall(data)}
        sent = [found for found in self._store.objects("local/") if found.key not in self._gone]
        excess = sum(found.size for found in sent) - (self._rules.local_mib << 20)
        for found in sorted(sent, key=lambda found: found.modified_at):
            if excess > 0 and layout.blob_sha256(found.key) and found.key.split("/")[1].encode() not in wanted:
                excess -= found.size
                yield found

    def _replaced_revisions(self) -> Iterator[StoredObject]:
        """Metadata that a later revision has replaced, or of targets that are no more. The newest stay: resolvers keep
        what they read under a number, so that none may begin anew."""
        targets = {_stem(key) for key in self._store.list("targets/")}
        earlier: StoredObject | None = None
        for found in self._store.objects("revisions/"):  # in ascending order
            if earlier is not None and _folder(earlier.key) == _folder(found.key):
                yield earlier
            earlier = found if found.key.split("/")[1] in targets else None
            if earlier is None:
                yield found

    def _unused_pages(self, marks: _Marks) -> Iterator[StoredObject]:
        """What upstreams said of projects, unless an sdist that stays is on the page: offline farms resolve by that."""
        for found, data in self._read("upstreams/"):
            if found.modified_at < self._unused and marks.digests.isdisjoint(_DIGEST.findall(data)):
                yield found

    def _notes_of_nothing(self) -> Iterator[StoredObject]:
        """Notes that a tenant was told of wheels, local sources and jobs of which nothing is left, not even a log."""
        there = {
            thing: {key.split("/")[1] for key in self._store.list(f"{kind}/") if key not in self._gone}
            for thing, kind in (("wheels", "wheels"), ("local", "local"), ("jobs", "logs"))
        }
        for found in self._store.objects("tenants/"):
            thing, name = found.key.split("/")[-2:]
            if name not in there.get(thing, (name,)):
                yield found

    def _read(self, *prefixes: str) -> Iterator[tuple[StoredObject, bytes]]:
        """Every document below some folders; what can't be read ends the run, for it might name anything."""
        with ThreadPoolExecutor(_READERS) as pool:
            for prefix in prefixes:
                listed = self._store.objects(prefix)
                while some := list(islice(listed, _AT_ONCE)):
                    texts = pool.map(lambda found: self._store.get(found.key), some)
                    yield from ((found, data) for found, data in zip(some, texts, strict=True) if data is not None)

    def _remove(self, kind: str, garbage: Iterable[StoredObject], before: float) -> None:
        """Remove objects that were last written before then; one that was written anew since it was listed stays."""
        objects = size = 0
        for found in garbage:
            if found.modified_at < before and (self._dry_run or self._store.delete_older(found.key, before)):
                self._gone.add(found.key)
                objects += 1
                size += found.size
        if objects:
            earlier = self._removed.get(kind, Removed(objects=0, bytes=0))
            self._removed[kind] = Removed(objects=earlier.objects + objects, bytes=earlier.bytes + size)


def _marked(key: str, marks: _Marks) -> bool:
    return key.split("/")[1].encode() in marks.digests


def _stem(key: str) -> str:
    return key.rpartition("/")[2].partition(".")[0]


def _folder(key: str) -> str:
    return key.rpartition("/")[0]


def _build_key(data: bytes) -> str:
    """The build key that a plan tells; none where it is no plan any more."""
    try:
        return str(json.loads(data)["build_key"])
    except (ValueError, LookupError, TypeError):
        return ""
