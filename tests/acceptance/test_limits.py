"""Builds that want more than there is, or leave more than was asked for: told by name, ended, and nothing published."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.acceptance.conftest import Home
from tests.acceptance.test_failures import assert_refused, install
from tests.support.projects import Project

EAT = "held = []\nwhile True: held.append(bytearray(b'x' * (8 << 20)))"
FILL = """
with open({folder!r} + "/filled", "wb") as file:
    while True: file.write(bytes(1 << 20))
"""
FLOOD = "while True: os.write(1, b'x' * 65536)"
DAEMON = """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        import time
        time.sleep(600)
    os._exit(0)
os.wait()
"""
OTHER_WHEEL = "open(os.path.join(wheel_directory, 'other-1.0-py3-none-any.whl'), 'w').close()"


def test_build_that_eats_memory_is_ended(home: Home) -> None:
    home.upstream.add(Project(name="app", build_code=EAT))

    done = install(home, "app", WHEELFARM_BUILD_MEMORY_MIB="96")

    assert_refused(home, done, 22, "app==1.0", "MiB of memory", "WHEELFARM_BUILD_MEMORY_MIB")


@pytest.mark.parametrize("folder", ["/build", "/tmp"])
def test_build_that_fills_its_disk_is_told_so(home: Home, folder: str) -> None:
    home.upstream.add(Project(name="app", build_code=FILL.format(folder=folder)))

    done = install(home, "app", WHEELFARM_BUILD_DISK_MIB="64")

    assert_refused(home, done, 22, "app==1.0", f"ran out of disk in {folder}", "hint: ")


def test_sdist_that_unpacks_to_more_than_a_build_may_have(home: Home) -> None:
    home.upstream.add(Project(name="app", modules={"app.py": "#" * (160 << 20)}))

    done = install(home, "app", WHEELFARM_BUILD_DISK_MIB="64")

    assert_refused(home, done, 22, "app==1.0", "ran out of disk in /build", "WHEELFARM_BUILD_DISK_MIB")


def test_build_that_floods_its_log_is_ended(home: Home) -> None:
    home.upstream.add(Project(name="app", build_code=FLOOD))

    assert_refused(home, install(home, "app"), 22, "app==1.0", "64 MiB of log", "hint: ")


def test_daemon_that_a_build_leaves_ends_with_it(home: Home) -> None:
    home.upstream.add(Project(name="app", build_code=DAEMON))

    done = install(home, "app")

    assert done.code == 0, done.err
    assert home.wheel_names() == ["app-1.0-1-py3-none-any.whl"]


def test_backend_that_makes_two_wheels(home: Home) -> None:
    home.upstream.add(Project(name="app", build_code=OTHER_WHEEL))

    done = install(home, "app")

    assert_refused(home, done, 23, "app==1.0", "app-1.0-py3-none-any.whl, other-1.0-py3-none-any.whl")


def test_backend_that_makes_no_wheel(home: Home) -> None:
    home.upstream.add(Project(name="app", build_code="return 'app-1.0-py3-none-any.whl'"))

    assert_refused(home, install(home, "app"), 23, "app==1.0", "no wheel")


def test_backend_that_names_another_wheel_than_it_made(home: Home) -> None:
    home.upstream.add(Project(name="app", build_code=f"{OTHER_WHEEL}; return 'app-1.0-py3-none-any.whl'"))

    assert_refused(home, install(home, "app"), 23, "app==1.0", "other-1.0-py3-none-any.whl")


def test_full_disk_of_the_store_is_told_and_publishes_nothing(home: Home) -> None:
    home.upstream.add(Project(name="app", modules={"app.py": "#" * (12 << 20)}))
    home.store.mkdir(mode=0o700)

    with small_disk(home.store, kib=8 << 10):
        done = install(home, "app")
        published = [*home.wheel_names(), *home.store.glob("flat/*/index.html")]

    assert done.code == 37, done.err
    assert "disk of the store" in done.err
    assert "is full" in done.err
    assert published == []


@pytest.mark.parametrize("kib", [64, 400, 8 << 10], ids=["resolver", "worker", "job"])
def test_full_disk_of_the_cache_is_told_and_publishes_nothing(home: Home, kib: int) -> None:
    home.upstream.add(
        Project(name="app", build_requires=["helper"]), Project(name="helper", modules={"h.py": "#" * (12 << 20)})
    )
    cache = home.root / "cache" / "wheelfarm"
    cache.mkdir(mode=0o700)

    with small_disk(cache, kib=kib):
        done = install(home, "app")

    assert done.code == 37, done.err
    assert "is full" in done.err
    assert home.wheel_names() == []


@contextmanager
def small_disk(folder: Path, *, kib: int) -> Iterator[None]:
    """A disk of that size where the folder is; only root can make one."""
    if os.getuid() != 0:
        pytest.skip("only root can mount a small disk")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={kib}k,mode=700", "tmpfs", folder], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"nothing can be mounted here: {mounted.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)
