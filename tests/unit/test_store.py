"""The store's contract: every store is held to it. Another one joins by a line in `STORES`."""

import shutil
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from wheelfarm.errors import FarmUnavailable, InputError, NotFound
from wheelfarm_services.store import DirectoryStore, Store, open_store

STORES: dict[str, Callable[[Path], Store]] = {"directory": lambda folder: DirectoryStore.create(folder / "store")}


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return STORES[request.param](tmp_path)


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


# What follows is about the directory alone.


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def directory(root: Path) -> DirectoryStore:
    return DirectoryStore.create(root)


def test_half_written_objects_and_locks_are_not_listed(directory: DirectoryStore, root: Path) -> None:
    directory.put("a/b", b"")
    assert directory.replace("a/b", b"x", None) is False
    (root / "a" / ".new-abc").write_bytes(b"half")
    assert list(directory.list("a/")) == ["a/b"]


def test_losers_leave_nothing_behind(directory: DirectoryStore, root: Path) -> None:
    directory.put("a/b", b"")
    directory.put_new("a/b", b"x")
    directory.replace("a/b", b"x", "wrong")
    assert not list(root.rglob(".new-*"))


def test_store_that_vanished_is_unavailable_and_not_made_again(
    directory: DirectoryStore, root: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"")
    directory.put("a/b", b"")
    shutil.rmtree(root)
    operations: list[Callable[[], object]] = [
        lambda: directory.get("a/b"),
        lambda: directory.open("a/b"),
        lambda: directory.size("a/b"),
        lambda: directory.put("a/b", b""),
        lambda: directory.put_file("a/b", tmp_path / "file"),
        lambda: directory.put_new("a/b", b""),
        lambda: directory.replace("a/b", b"", None),
        lambda: list(directory.list("a/")),
        lambda: directory.delete("a/b"),
    ]
    for operation in operations:
        with pytest.raises(FarmUnavailable):
            operation()
    assert not root.exists()


def test_store_whose_file_system_was_unmounted_is_unavailable(directory: DirectoryStore, root: Path) -> None:
    shutil.rmtree(root)
    root.mkdir()
    with pytest.raises(FarmUnavailable):
        directory.get("a/b")
    with pytest.raises(FarmUnavailable):
        directory.put("a/b", b"")
    assert not list(root.iterdir())


def test_folder_that_cannot_be_read_does_not_count_as_empty(directory: DirectoryStore, root: Path) -> None:
    directory.put("a/b", b"")
    (root / "a" / "loop").symlink_to("loop")
    with pytest.raises(FarmUnavailable):
        list(directory.list("a/loop/"))
    with pytest.raises(FarmUnavailable):
        directory.get("a/loop/c")


def test_directory_is_private_to_its_owner(directory: DirectoryStore, root: Path) -> None:
    assert stat.S_IMODE(root.stat().st_mode) == 0o700


def test_url_names_a_directory(tmp_path: Path) -> None:
    store = open_store((tmp_path / "with a space").as_uri())
    store.put("a", b"1")
    assert (tmp_path / "with a space" / "a").read_bytes() == b"1"
    assert open_store((tmp_path / "with a space").as_uri()).get("a") == b"1"


@pytest.mark.parametrize("url", ["s3://bucket", "file://", "/srv/store", ""])
def test_url_of_no_known_store_is_refused(url: str) -> None:
    with pytest.raises(InputError, match="file:///path"):
        open_store(url)


def test_file_in_the_stores_place_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FarmUnavailable):
        DirectoryStore.create(tmp_path / "file")
