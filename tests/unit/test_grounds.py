"""What a target stands on is unpacked when it is needed, and again when it was evicted meanwhile."""

import os
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from wheelfarm.errors import SandboxUnavailable
from wheelfarm.target import Target
from wheelfarm_services.store import DirectoryStore
from wheelfarm_services.targets import queue_of
from wheelfarm_workers.cache_bound import CacheBound
from wheelfarm_workers.distributions import Distributions
from wheelfarm_workers.grounds import DefinedGrounds, Definitions
from wheelfarm_workers.roots import Roots
from wheelfarm_workers.sandbox.back_ends import BackEnds

DEFINED = """
root = "sha256:{sha256}"
python = "/usr/bin/python3"
[interpreter]
version = "3.12.1"
abi = "cp312"
platform = "linux-{machine}"
prefix = "/usr"
"""


class NoBackEnds:
    """Nothing is run."""

    def back_end(self, name: str) -> None:
        return None


@pytest.fixture
def grounds(tmp_path: Path) -> DefinedGrounds:
    """Grounds of one target, `mine`, of a root filesystem of one file."""
    (tmp_path / "tree" / "usr").mkdir(parents=True)
    (tmp_path / "tree" / "usr" / "file").write_bytes(b"x" * 5000)
    subprocess.run(["tar", "-C", tmp_path / "tree", "-cf", tmp_path / "root.tar", "."], check=True)
    roots = Roots(tmp_path, tmp_path / "roots-cache")
    sha256 = roots.keep_archive(tmp_path / "root.tar")
    (tmp_path / "mine.toml").write_text(DEFINED.format(sha256=sha256, machine=os.uname().machine))
    store = DirectoryStore.create(tmp_path / "store")
    return DefinedGrounds(
        definitions=Definitions(tmp_path, cache=tmp_path),
        roots=roots,
        distributions=Distributions(lambda: store, tmp_path / "pythons"),
        back_ends=cast(BackEnds, NoBackEnds()),
        host="none",
    )


@pytest.fixture
def target(grounds: DefinedGrounds, tmp_path: Path) -> Target:
    return Definitions(tmp_path, cache=tmp_path).target("mine")


def shrink(tmp_path: Path) -> int:
    work = tmp_path / "work"
    work.mkdir(exist_ok=True)
    return CacheBound([tmp_path / "roots-cache"], work, most_bytes=1).shrink()


def test_root_filesystem_that_a_build_may_use_stays(grounds: DefinedGrounds, target: Target, tmp_path: Path) -> None:
    root = grounds.of(target, for_s=7200).root
    assert root is not None
    assert shrink(tmp_path) == 0
    os.utime(root.folder, (0, 0))
    grounds.of(target)  # asked for again, as every run does
    assert shrink(tmp_path) == 0
    assert (root.folder / "usr" / "file").exists()


def test_root_filesystem_that_was_evicted_is_unpacked_again(
    grounds: DefinedGrounds, target: Target, tmp_path: Path
) -> None:
    root = grounds.of(target).root
    assert root is not None
    os.utime(root.folder, (0, 0))
    assert shrink(tmp_path) > 0
    assert not root.folder.exists()
    assert grounds.of(target).root == root
    assert (root.folder / "usr" / "file").exists()
    shutil.rmtree(root.folder)
    assert (grounds.of(target).root, root.folder.exists()) == (root, True)


def test_target_of_another_machine_is_one_target_with_one_queue_for_native_and_emulating_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "arm.toml").write_text(DEFINED.format(sha256="a" * 64, machine="aarch64"))
    found = []
    for machine in ("x86_64", "aarch64"):
        monkeypatch.setattr(os, "uname", lambda machine=machine: SimpleNamespace(machine=machine))
        found.append(Definitions(tmp_path, cache=tmp_path / machine).target("arm"))
    assert found[0] == found[1]
    assert {queue_of(target) for target in found} == {f"arm.{found[0].revision[:16]}"}


def test_worker_that_cannot_run_a_targets_programs_refuses_it_with_what_to_install(
    grounds: DefinedGrounds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mainframe.toml").write_text(DEFINED.format(sha256="a" * 64, machine="s390x"))
    target = Definitions(tmp_path, cache=tmp_path).target("mainframe")
    monkeypatch.setattr("wheelfarm_workers.machines._BINFMT", tmp_path)
    with pytest.raises(SandboxUnavailable, match="does not run programs for s390x") as error:
        grounds.of(target)
    assert "apt-get install qemu-user-static binfmt-support" in error.value.hint
