"""The bound of a worker's cache."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from wheelfarm_workers.cache_bound import CacheBound, made_once, use

KIB = 1 << 10


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    for name in ("trees", "sdists", "work"):
        (tmp_path / name).mkdir()
    return tmp_path


def bound(cache: Path, most_bytes: int) -> CacheBound:
    return CacheBound([cache / "sdists", cache / "trees"], cache / "work", most_bytes=most_bytes)


def sdist(cache: Path, name: str, *, hours_ago: float, kib: int = 64) -> Path:
    path = cache / "sdists" / name
    path.write_bytes(b"x" * (kib * KIB))
    used(path, hours_ago)
    return path


def tree(cache: Path, name: str, *, hours_ago: float, kib: int = 64) -> Path:
    path = cache / "trees" / name
    (path / "lib" / "deep").mkdir(parents=True)
    (path / "lib" / "deep" / "module.py").write_bytes(b"x" * (kib * KIB))
    used(path, hours_ago)
    return path


def used(path: Path, hours_ago: float) -> None:
    then = time.time() - hours_ago * 3600
    os.utime(path, (then, then))


def test_what_was_used_least_recently_goes_until_the_rest_fits(cache: Path) -> None:
    oldest, newer = tree(cache, "oldest", hours_ago=30), tree(cache, "newer", hours_ago=3)
    old, newest = sdist(cache, "old", hours_ago=20), sdist(cache, "newest", hours_ago=2)
    freed = bound(cache, 160 * KIB).shrink()
    assert [path.exists() for path in (oldest, old, newer, newest)] == [False, False, True, True]
    assert freed >= 128 * KIB
    assert list((cache / "work").iterdir()) == []


def test_cache_within_its_bound_is_left_alone(cache: Path) -> None:
    kept = sdist(cache, "kept", hours_ago=1000)
    assert bound(cache, 1 << 20).shrink() == 0
    assert kept.exists()


def test_nothing_goes_that_a_build_may_be_using_or_that_is_new(cache: Path) -> None:
    built_with, new = tree(cache, "built-with", hours_ago=30), tree(cache, "new", hours_ago=0.5)
    assert use(built_with, for_s=7200)
    assert bound(cache, 1).shrink() == 0
    assert built_with.exists()
    assert new.exists()
    used(built_with, 1.5)
    assert bound(cache, 1).shrink() > 0
    assert not built_with.exists()


def test_use_lasts_as_long_as_was_said(cache: Path) -> None:
    path = tree(cache, "tree", hours_ago=30)
    use(path, for_s=10 * 3600)
    assert path.stat().st_mtime > time.time() + 8 * 3600


def test_what_was_evicted_is_not_there_to_be_used(cache: Path) -> None:
    path = sdist(cache, "gone", hours_ago=30)
    bound(cache, 1).shrink()
    assert not use(path)
    assert not path.exists()


def test_who_was_told_that_a_tree_is_there_finds_it_whole(cache: Path) -> None:
    """Against an evictor that never rests: whatever `use` has promised stays."""
    paths = [tree(cache, f"t{number}", hours_ago=30, kib=1) for number in range(60)]

    def take(path: Path) -> bool:
        return not use(path) or (path / "lib" / "deep" / "module.py").exists()

    with ThreadPoolExecutor(4) as pool:
        evicting = pool.submit(bound(cache, 1).shrink)
        assert all(pool.map(take, reversed(paths)))
        evicting.result()


def test_folder_that_is_not_there_yet_is_no_trouble(tmp_path: Path) -> None:
    assert CacheBound([tmp_path / "absent"], tmp_path, most_bytes=1).shrink() == 0


def test_what_several_want_at_once_is_made_once_and_stays_for_all(cache: Path) -> None:
    path = cache / "roots" / "root"
    made: list[int] = []

    def make() -> None:
        made.append(len(made))
        partial = path.with_name(".new")
        partial.mkdir()
        (partial / "file").write_bytes(b"x")
        used(partial, 1000)  # as archives have it
        partial.replace(path)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda _: made_once(path, make, for_s=7200), range(8))) == [path] * 8
    assert made == [0]
    assert path.stat().st_mtime > time.time()


def test_what_was_evicted_is_made_again_and_what_is_half_made_is_left_alone(cache: Path) -> None:
    path = cache / "roots" / "root"
    path.parent.mkdir()
    half = path.with_name(".root.new")
    for folder in (path, half):
        folder.mkdir()
        (folder / "file").write_bytes(b"x" * KIB)
        used(folder, 30)
    assert CacheBound([path.parent], cache / "work", most_bytes=1).shrink() > 0
    assert [path.exists(), half.exists()] == [False, True]
    assert made_once(path, path.mkdir).exists()
    assert CacheBound([path.parent], cache / "work", most_bytes=1).shrink() == 0
