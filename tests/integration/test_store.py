"""The store's contract: a directory and a bucket of a real S3 server are held to it."""

import hashlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from pathlib import Path
from threading import Barrier
from uuid import uuid4

import pytest

from tests.support.ceph import Gateway
from tests.support.s3 import make_bucket
from wheelfarm.errors import CorruptObject, NotFound
from wheelfarm.garbage import GarbageRules
from wheelfarm_services import layout
from wheelfarm_services.garbage import collect_garbage
from wheelfarm_services.store import CheckedStore, DirectoryStore, Store
from wheelfarm_services.store.s3 import S3Store


@pytest.fixture(params=["directory", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "directory":
        return CheckedStore(DirectoryStore.create(tmp_path / "store"))
    probed: S3Store = request.getfixturevalue("probed_bucket")
    mine = copy(probed)
    mine.prefix = f"{uuid4().hex}/"
    return CheckedStore(mine)


@pytest.fixture(scope="session")
def probed_bucket(gateway: Gateway) -> S3Store:
    return make_bucket(gateway).store()


def race(count: int, operation: Callable[[int], bool]) -> list[bool]:
    """What each of `count` threads got, which began together."""
    barrier = Barrier(count)

    def run(number: int) -> bool:
        barrier.wait()
        return operation(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def test_object_is_read_as_it_was_written(store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"from a file")
    store.put("a/b", b"bytes")
    store.put_file("a/c", tmp_path / "file")
    file = store.open("a/c")
    assert file is not None
    with file:
        assert file.read() == b"from a file"
    assert (store.get("a/b"), store.size("a/b"), store.size("a/c")) == (b"bytes", 5, 11)


@pytest.mark.parametrize("key", ["absent", "a/absent", "a/b/below-an-object", "a", "absent/folder/key"])
def test_what_is_no_object_is_absent(store: Store, key: str) -> None:
    store.put("a/b", b"")
    assert (store.get(key), store.get_with_etag(key), store.open(key), store.size(key)) == (None, None, None, None)
    store.delete(key)
    assert store.get("a/b") == b""


def test_put_replaces_whatever_was_there(store: Store) -> None:
    store.put("key", b"long before")
    store.put("key", b"after")
    assert store.get("key") == b"after"


def test_put_file_leaves_an_object_alone_that_is_there(store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"second")
    store.put("key", b"first")
    store.put_file("key", tmp_path / "file")
    assert store.get("key") == b"first"


def test_put_new_writes_only_where_there_is_nothing(store: Store) -> None:
    assert store.put_new("key", b"first")
    assert not store.put_new("key", b"second")
    assert store.get("key") == b"first"
    store.delete("key")
    assert store.put_new("key", b"third")


def test_of_sixteen_that_put_new_at_once_exactly_one_wins(store: Store) -> None:
    for attempt in range(10):
        key = f"race/{attempt}"

        def put(number: int, key: str = key) -> bool:
            return store.put_new(key, str(number).encode())

        won = race(16, put)
        assert won.count(True) == 1
        assert store.get(key) == str(won.index(True)).encode()


def test_replace_takes_the_tag_that_was_read(store: Store) -> None:
    store.put("key", b"first")
    found = store.get_with_etag("key")
    assert found is not None
    assert found[0] == b"first"
    assert not store.replace("key", b"wrong", "another tag")
    assert not store.replace("key", b"wrong", None)
    assert store.replace("key", b"second", found[1])
    assert not store.replace("key", b"wrong", found[1])
    assert store.get("key") == b"second"


def test_replace_without_a_tag_is_for_what_is_absent(store: Store) -> None:
    assert not store.replace("key", b"wrong", "a tag")
    assert store.replace("key", b"first", None)
    assert store.get("key") == b"first"


def test_tag_changes_with_the_contents_alone(store: Store) -> None:
    store.put("a", b"same")
    store.put("b", b"other")
    tags = [found[1] for key in ("a", "b") if (found := store.get_with_etag(key))]
    store.put("a", b"same")
    again = store.get_with_etag("a")
    assert again is not None
    assert again[1] == tags[0] != tags[1]


def test_updates_by_replace_are_never_lost(store: Store) -> None:
    def increment(_: int) -> bool:
        while True:
            found = store.get_with_etag("count")
            count = int(found[0]) if found else 0
            if store.replace("count", str(count + 1).encode(), found[1] if found else None):
                return True

    assert all(race(8, lambda number: all(increment(number) for _ in range(10))))
    assert store.get("count") == b"80"


def test_list_gives_every_key_below_a_folder_in_the_order_of_its_bytes(store: Store) -> None:
    keys = ["a/z", "a/b/c", "a/b-c/d", "a/b.d", "b/a", "ab/c"]
    for key in keys:
        store.put(key, b"")
    assert list(store.list("a/")) == ["a/b-c/d", "a/b.d", "a/b/c", "a/z"]
    assert list(store.list("absent/")) == []
    assert list(store.list("b/a/")) == []


def test_list_gives_every_key_that_begins_so(store: Store) -> None:
    for key in ["a/x/1", "a/xy/2", "a/xy", "a/y/3", "ax/4"]:
        store.put(key + "/o", b"")
    assert list(store.list("a/x")) == ["a/x/1/o", "a/xy/2/o", "a/xy/o"]
    assert list(store.list("a/xy/2")) == ["a/xy/2/o"]
    assert list(store.list("a/z")) == []
    assert list(store.list("a")) == ["a/x/1/o", "a/xy/2/o", "a/xy/o", "a/y/3/o", "ax/4/o"]


def test_deleted_object_is_gone_and_deleting_again_does_nothing(store: Store) -> None:
    store.put("a/b", b"")
    store.delete("a/b")
    store.delete("a/b")
    assert store.get("a/b") is None
    assert list(store.list("a/")) == []


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/",
        "/etc/passwd",
        "..",
        "../up",
        "a/../../up",
        "a/./b",
        "a//b",
        "a/",
        ".hidden",
        "a/.new-x",
        "a\\b",
        "a\x00",
        "a\n",
        "a b",
        "é",
        "a" * 300,
    ],
)
def test_key_that_leads_elsewhere_is_refused_by_every_operation(store: Store, tmp_path: Path, key: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    operations: list[Callable[[], object]] = [
        lambda: store.get(key),
        lambda: store.get_with_etag(key),
        lambda: store.open(key),
        lambda: store.size(key),
        lambda: store.put(key, b""),
        lambda: store.put_file(key, tmp_path / "file"),
        lambda: store.put_new(key, b""),
        lambda: store.replace(key, b"", None),
        lambda: store.delete(key),
    ]
    for operation in operations:
        with pytest.raises(NotFound):
            operation()


@pytest.mark.parametrize("prefix", ["../", "a/../../", "/etc/"])
def test_listing_elsewhere_is_refused(store: Store, prefix: str) -> None:
    with pytest.raises(NotFound):
        list(store.list(prefix))


def test_object_that_is_watched_is_told_to_be_the_same_only_while_it_is(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = time.time() + 60
    monkeypatch.setattr(time, "time", lambda: later)
    changes: list[Callable[[], object]] = [
        lambda: store.put("a/b", b"other"),
        lambda: store.put("a/b", b"bytes"),
        lambda: store.delete("a/b"),
    ]
    for change in changes:
        store.put("a/b", b"bytes")
        same = store.watch("a/b")
        assert same is None or same()
        change()
        assert same is None or not same()
    assert store.watch("a/b") is None
    with pytest.raises(NotFound):
        store.watch("../a")


def test_objects_tell_sizes_and_times_by_the_stores_clock(store: Store) -> None:
    before = store.now()
    store.put("a/b", b"12345")
    (found,) = store.objects("a/")
    assert (found.key, found.size) == ("a/b", 5)
    assert before - 1 <= found.modified_at <= store.now() + 1


def test_only_what_is_older_is_deleted(store: Store) -> None:
    store.put("a", b"")
    assert not store.delete_older("a", store.now() - 60)
    assert store.get("a") == b""
    assert store.delete_older("a", store.now() + 60)
    assert store.get("a") is None
    assert not store.delete_older("a", store.now() + 60)


def test_moved_object_is_under_its_new_key_alone(store: Store) -> None:
    store.put("a/b", b"bytes")
    store.move("a/b", "c/d/e")
    store.move("absent", "f")
    assert (store.get("a/b"), store.get("c/d/e"), store.get("f")) == (None, b"bytes", None)


def test_blob_with_other_bytes_is_never_handed_on_and_can_be_put_anew(store: Store, tmp_path: Path) -> None:
    whole = b"as it should be" * 1000
    sha256 = hashlib.sha256(whole).hexdigest()
    (tmp_path / "file").write_bytes(whole)
    for key in (
        layout.sdist(sha256),
        layout.local_archive(sha256),
        layout.patch(sha256),
        layout.wheel(sha256, "a.whl"),
    ):
        for wrong, read in ((whole[:-1], store.open), (whole[:-1] + b"!", store.get), (b"", store.get_with_etag)):
            store.put(key, wrong)
            with pytest.raises(CorruptObject, match=key) as caught:
                read(key)
            assert layout.quarantined(key) in caught.value.hint
            assert (store.open(key), store.get(layout.quarantined(key))) == (None, wrong)
        store.put_file(key, tmp_path / "file")
        assert store.get(key) == whole


def test_what_stands_beside_a_blob_is_no_blob(store: Store) -> None:
    key = layout.wheel_metadata(hashlib.sha256(b"wheel").hexdigest(), "a.whl")
    store.put(key, b"Name: a")
    assert store.get(key) == b"Name: a"


def test_sweep_of_a_sound_store_removes_nothing(store: Store) -> None:
    store.put("a/b", b"bytes")
    store.replace("a/b", b"others", None)
    assert store.sweep(time.time() + 3600) == 0
    assert store.get("a/b") == b"bytes"


def test_garbage_of_either_store_goes(store: Store) -> None:
    """Nothing in a fresh store is old enough, so the store is told of a later time."""
    for key in (layout.build_log_chunk("a" * 64, "0001", 0), layout.sdist("b" * 64), layout.name_claim("t", "a.whl")):
        store.put(key, b"{}")
    assert collect_garbage(store, GarbageRules(), dry_run=False).removed == {}
    report = collect_garbage(InTheFuture(store), GarbageRules(), dry_run=False)
    assert {kind: found.objects for kind, found in report.removed.items()} == {"logs": 1, "sdists": 1}
    assert list(store.list("")) == [layout.name_claim("t", "a.whl")]


class InTheFuture(CheckedStore):
    """A store in a hundred days."""

    def now(self) -> float:
        return super().now() + 100 * 86400
