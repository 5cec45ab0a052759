"""What is so of the directory store alone; tests/integration/test_store.py has what every store is held to."""

import os
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from wheelfarm.errors import FarmUnavailable, InputError
from wheelfarm.settings import Settings
from wheelfarm_services.store import DirectoryStore, open_store


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


def test_object_that_is_deleted_while_it_is_replaced_is_gone_then(root: Path) -> None:
    deletion = threading.Thread(target=lambda: DirectoryStore(root).delete("a"))

    class DeletedMeanwhile(DirectoryStore):
        def get_with_etag(self, key: str) -> tuple[bytes, str] | None:
            found = super().get_with_etag(key)
            deletion.start()
            deletion.join(0.5)
            return found

    store = DirectoryStore.create(root)
    store.put("a", b"first")
    found = store.get_with_etag("a")
    assert found is not None
    assert DeletedMeanwhile(root).replace("a", b"second", found[1])
    deletion.join()
    assert store.get("a") is None


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
    store = open_store(Settings(store=(tmp_path / "with a space").as_uri()))
    store.put("a", b"1")
    assert (tmp_path / "with a space" / "a").read_bytes() == b"1"
    assert open_store(Settings(store=(tmp_path / "with a space").as_uri())).get("a") == b"1"


@pytest.mark.parametrize("url", ["gs://bucket", "file://", "/srv/store", ""])
def test_url_of_no_known_store_is_refused(url: str) -> None:
    with pytest.raises(InputError, match="No store is known"):
        open_store(Settings(store=url))


def test_file_in_the_stores_place_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FarmUnavailable):
        DirectoryStore.create(tmp_path / "file")


def test_what_killed_writers_left_is_swept(directory: DirectoryStore, root: Path) -> None:
    directory.put("a/b", b"whole")
    (root / "a" / ".new-abc").write_bytes(b"half")
    assert directory.sweep(directory.now() - 60) == 0
    assert directory.sweep(directory.now() + 60) == 1
    assert [path.name for path in (root / "a").iterdir()] == ["b"]


def test_object_whose_removal_was_cut_short_is_brought_back(directory: DirectoryStore, root: Path) -> None:
    directory.put("a/b", b"whole")
    directory.put("a/c", b"old")
    for name in "bc":
        (root / "a" / name).rename(root / "a" / f".gone-{name}")
    directory.put("a/c", b"new")
    assert directory.sweep(directory.now() + 60) == 2
    assert (directory.get("a/b"), directory.get("a/c")) == (b"whole", b"new")


def test_blob_that_is_put_again_counts_as_new(directory: DirectoryStore, root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"blob")
    directory.put_file("a", tmp_path / "file")
    os.utime(root / "a", (1, 1))
    directory.put_file("a", tmp_path / "file")
    assert not directory.delete_older("a", directory.now() - 60)


def test_new_folders_are_synced_with_their_parents(directory: DirectoryStore, root: Path) -> None:
    """By what the kernel was asked for: strace is not everywhere, an audit hook is."""
    synced = synced_folders(lambda: directory.put_new("a/b/c", b"commit"))
    assert {root / "a" / "b", root / "a", root} <= synced
    assert synced_folders(lambda: directory.replace("a/b/c", b"x", None)) & {root / "a" / "b"} == set()
    assert root / "a" / "b" in synced_folders(lambda: directory.put("a/b/c", b"y"))


def synced_folders(operation: Callable[[], object]) -> set[Path]:
    opened: set[Path] = set()
    active = [True]

    def hear(event: str, arguments: tuple[object, ...]) -> None:
        if active and event == "open" and int(str(arguments[2])) & os.O_DIRECTORY:
            opened.add(Path(str(arguments[0])))

    sys.addaudithook(hear)
    operation()
    active.clear()
    return opened


def test_boto3_is_imported_for_buckets_alone(tmp_path: Path) -> None:
    """An embedded farm with a directory has no half second to spare for it."""
    code = (
        "import sys; from wheelfarm.settings import Settings; import wheelfarm_services.__main__\n"
        "from wheelfarm_services.store import open_store\n"
        f"open_store(Settings(store={tmp_path.as_uri()!r})).put('a', b'')\n"
        "print('boto3' in sys.modules or 'botocore' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_folders_that_have_long_been_empty_are_swept(directory: DirectoryStore, root: Path) -> None:
    for key in ("a/b/c", "d/e", "f/g/h"):
        directory.put(key, b"old")
        os.utime(root / key, (1, 1))
        assert key == "d/e" or directory.delete_older(key, 2)
    for folder in ("a/b", "a", "d"):
        os.utime(root / folder, (1, 1))
    assert directory.sweep(2) == 0
    assert sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_dir()) == [
        "a",
        "d",
        "f",
        "f/g",
    ]


def test_what_is_put_while_its_folder_is_swept_away_is_there(directory: DirectoryStore, root: Path) -> None:
    done = threading.Event()

    def sweep() -> None:
        while not done.is_set():
            for name in ("a", "quarantine"):
                with suppress(OSError):
                    (root / name).rmdir()

    sweeper = threading.Thread(target=sweep)
    sweeper.start()
    try:
        for number in range(20):
            directory.put("quarantine/x", b"%d" % number)
            directory.move("quarantine/x", "a/b")
            assert directory.get("a/b") == b"%d" % number
            directory.delete("a/b")
    finally:
        done.set()
        sweeper.join()


class Later(DirectoryStore):
    """A store by whose clock everything was written a while ago."""

    def now(self) -> float:
        return super().now() + 60


def test_watched_file_is_the_same_until_it_is_replaced_altered_or_moved(root: Path) -> None:
    store = Later.create(root)

    def in_place() -> None:
        with (root / "a/b").open("r+b") as file:
            file.write(b"B")

    def backdated() -> None:
        in_place()
        os.utime(root / "a/b", ns=(known.st_atime_ns, known.st_mtime_ns))

    changes: list[Callable[[], object]] = [
        lambda: store.put("a/b", b"bytes"),
        lambda: store.replace("a/b", b"other", (store.get_with_etag("a/b") or (b"", ""))[1]),
        in_place,
        backdated,
        lambda: store.move("a/b", "a/c"),
        lambda: (root / "a").rename(root / "c"),
        lambda: shutil.rmtree(root),
    ]
    for change in changes:
        store.put("a/b", b"bytes")
        known = (root / "a/b").stat()
        same = store.watch("a/b")
        assert same is not None
        assert (same(), same()) == (True, True)
        change()
        assert not same()


def test_what_was_written_just_now_is_not_watched_for_the_next_write_may_have_the_same_time(root: Path) -> None:
    store = DirectoryStore.create(root)
    store.put("a", b"1")
    os.utime(root / "a", (0, 0))  # its content is told to be old, but not the change of it
    assert store.watch("a") is None
    assert Later(root).watch("a") is not None
