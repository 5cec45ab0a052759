"""What a server really honours, tried before anything is entrusted to it: several that speak S3 ignore conditions.

There is no fall-back for what is missing: without conditions concurrent publishers would lose entries and two wheels
could get one name. One quirk is known and put up with: `If-Match` that works only without quotes.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

from wheelfarm.errors import CorruptObject, FarmUnavailable
from wheelfarm_services.store.s3 import S3Store

logger = logging.getLogger(__name__)


def probe(store: S3Store) -> S3Store:
    """The store, set up as its server wants it. Raises FarmUnavailable naming everything that it lacks."""
    folder = f"probe/{uuid4().hex}/"
    try:
        store.bare_tags = _wants_bare_tags(store, folder)
        missing = [what for what, check in _CHECKS.items() if not _holds(check, store, folder + "check")]
        if not _refuses_altered_body(store, folder + "altered"):
            logger.warning("the store takes altered bodies: damage on the way there is found when they are read")
    finally:
        for key in [*store.list(folder)]:
            store.delete(key)
    if missing:
        raise FarmUnavailable(
            f"The bucket {store.bucket} can't be used as a store, for its server lacks: {'; '.join(missing)}.",
            hint="Use a server that has them, such as Ceph or AWS; docs/store.md says why they are needed.",
        )
    return store


def _holds(check: Callable[[S3Store, str], bool], store: S3Store, key: str) -> bool:
    try:
        return check(store, key)
    except CorruptObject:
        return False


def _wants_bare_tags(store: S3Store, folder: str) -> bool:
    """Whether `If-Match` with the tag as it was given, in quotes, never matches, while it does without."""
    if _replaces(store, folder + "quoted"):
        return False
    store.bare_tags = True
    return _replaces(store, folder + "bare")


def _replaces(store: S3Store, key: str) -> bool:
    store.put(key, b"first")
    found = store.get_with_etag(key)
    return found is not None and store.replace(key, b"second", found[1])


def _reads_what_was_written(store: S3Store, key: str) -> bool:
    store.delete(key)
    absent = store.get(key) is None and store.size(key) is None
    seen = []
    for data in (b"first", b"other", b""):
        store.put(key, data)
        seen.append((store.get(key), store.size(key)) == (data, len(data)))
    store.delete(key)
    return absent and all(seen) and store.get(key) is None


def _puts_new_only_once(store: S3Store, key: str) -> bool:
    store.delete(key)
    return store.put_new(key, b"first") and not store.put_new(key, b"second") and store.get(key) == b"first"


def _replaces_only_what_was_read(store: S3Store, key: str) -> bool:
    store.put(key, b"first")
    first = store.get_with_etag(key)
    if first is None or not store.replace(key, b"second", first[1]):
        return False
    return not store.replace(key, b"third", first[1]) and store.get(key) == b"second"


def _replaces_nothing_absent(store: S3Store, key: str) -> bool:
    store.put(key, b"first")
    found = store.get_with_etag(key)
    store.delete(key)
    return found is not None and not store.replace(key, b"second", found[1]) and store.get(key) is None


def _keeps_metadata(store: S3Store, key: str) -> bool:
    store.put(key, b"first")
    answer = store.client.get_object(Bucket=store.bucket, Key=f"{store.prefix}{key}")
    answer["Body"].close()
    return "sha256" in answer["Metadata"]


def _lists_in_order(store: S3Store, key: str) -> bool:
    """Also over several pages, of two keys here, each key once."""
    keys = [f"{key}-list/{name}" for name in ("a.b", "a/b", "a/c", "a0", "b")]
    for name in reversed(keys):
        store.put(name, b"")
    return [found.key for found in store.objects(f"{key}-list/", page=2)] == keys


_CHECKS: dict[str, Callable[[S3Store, str], bool]] = {
    "reading what was written or removed last": _reads_what_was_written,
    "If-None-Match: * on PUT": _puts_new_only_once,
    "If-Match on PUT": _replaces_only_what_was_read,
    "If-Match on PUT of a missing key": _replaces_nothing_absent,
    "keeping an object's metadata": _keeps_metadata,
    "listing every key once and in order, page by page": _lists_in_order,
}


def _refuses_altered_body(store: S3Store, key: str) -> bool:
    with _altered_on_its_way(store.client):
        try:
            store.put(key, b"as it was signed")
        except FarmUnavailable as error:
            return error.__cause__ is not None
    return False


@contextmanager
def _altered_on_its_way(client: Any) -> Iterator[None]:
    """Send other bodies than were signed."""

    def alter(request: Any, **_: object) -> None:
        request.body = b"altered".ljust(len(b"as it was signed"))

    client.meta.events.register("before-send.s3.PutObject", alter)
    try:
        yield
    finally:
        client.meta.events.unregister("before-send.s3.PutObject", alter)
