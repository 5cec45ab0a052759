import hashlib
import io
import os
import shutil
import socket
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from wheelfarm.errors import BadTree
from wheelfarm.tree import pack_tree, project_name

PROJECT = {"pyproject.toml": '[project]\nname = "mine"\n', "mine/__init__.py": ""}


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return write(tmp_path / "tree", PROJECT)


def git(root: Path, *words: str) -> str:
    me = ["-c", "user.name=me", "-c", "user.email=me@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *me, *words], cwd=root, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def committed(root: Path) -> Path:
    git(root, "init", "-q", "-b", "main")
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "first")
    return root


def pack(root: Path) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "packed.tar.gz"
        sha256 = pack_tree(root, archive)
        data = archive.read_bytes()
    assert sha256 == hashlib.sha256(data).hexdigest()
    return data


def members(data: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {member.name.removeprefix("tree/"): member for member in tar}


def names(root: Path) -> list[str]:
    return [name for name in members(pack(root)) if not name.startswith(".git/")]


def unpacked(root: Path, folder: Path) -> Path:
    with tarfile.open(fileobj=io.BytesIO(pack(root))) as tar:
        tar.extractall(folder, filter="data")
    return folder / "tree"


def test_same_tree_gives_the_same_bytes_whatever_its_times_and_place(tree: Path, tmp_path: Path) -> None:
    first = pack(tree)
    os.utime(tree / "pyproject.toml", (1, 1))
    (tree / "mine").chmod(0o700)
    moved = tree.rename(tmp_path / "elsewhere")
    assert pack(moved) == first
    write(moved, {"mine/__init__.py": "changed"})
    assert pack(moved) != first


def test_executable_bit_and_links_within_the_tree_are_kept(tree: Path) -> None:
    write(tree, {"run.sh": "#!/bin/sh\n"}).joinpath("run.sh").chmod(0o700)
    (tree / "mine" / "link").symlink_to("../run.sh")
    (tree / "folder").symlink_to("mine")
    found = members(pack(tree))
    assert (found["run.sh"].mode, found["pyproject.toml"].mode) == (0o755, 0o644)
    assert (found["mine/link"].linkname, found["folder"].linkname) == ("../run.sh", "mine")
    assert {(member.uid, member.gid, member.mtime) for member in found.values()} == {(0, 0, 0)}


def test_tree_without_git_leaves_out_what_is_no_part_of_a_project(tree: Path) -> None:
    write(
        tree,
        {
            ".hg/store": "",
            "mine/__pycache__/x.pyc": "",
            "mine/stray.pyc": "",
            "env/pyvenv.cfg": "",
            "env/bin/python": "",
            "cache/CACHEDIR.TAG": "",
            "cache/x": "",
            "build/lib/mine.py": "",
            "dist/mine-1.0.tar.gz": "",
            "mine.egg-info/PKG-INFO": "",
            "mine/build/__init__.py": "",
            ".github/ci.yml": "",
        },
    )
    assert names(tree) == [".github/ci.yml", "mine/__init__.py", "mine/build/__init__.py", "pyproject.toml"]


def test_unpacked_sdist_keeps_what_it_says_of_itself(tree: Path) -> None:
    write(tree, {"PKG-INFO": "", "mine.egg-info/SOURCES.txt": ""})
    assert names(tree) == ["PKG-INFO", "mine.egg-info/SOURCES.txt", "mine/__init__.py", "pyproject.toml"]


def test_work_tree_holds_what_git_does_not_ignore(tree: Path) -> None:
    write(tree, {".gitignore": "secret.txt\n/data/\n", "secret.txt": "", "data/x": "", "gone.py": "", "dist/kept": ""})
    committed(tree)
    write(tree, {"new.py": "", "ä.py": "", "env/pyvenv.cfg": "", "env/bin/python": "", "dist/mine.whl": ""})
    (tree / "gone.py").unlink()
    found = [".gitignore", "dist/kept", "mine/__init__.py", "new.py", "pyproject.toml", "ä.py"]
    assert names(tree) == found
    shutil.rmtree(tree / ".git")
    assert "secret.txt" in names(tree)


def test_ignored_folder_of_a_work_tree_is_packed_as_if_there_were_no_git(tree: Path, tmp_path: Path) -> None:
    committed(write(tmp_path, {".gitignore": "tree/\n"}))
    assert names(tree) == ["mine/__init__.py", "pyproject.toml"]


def test_subfolder_of_a_work_tree_is_packed_alone(tree: Path, tmp_path: Path) -> None:
    write(tree, {"setup.cfg": "# setuptools-scm\n"})
    committed(write(tmp_path, {"above.py": ""}))
    assert list(members(pack(tree))) == ["mine/__init__.py", "pyproject.toml", "setup.cfg"]


def test_submodules_are_packed_too_and_absent_ones_left_out(tree: Path, tmp_path: Path) -> None:
    other = committed(write(tmp_path / "other", {"part.c": ""}))
    committed(tree)
    for name in ("here", "absent"):
        git(tree, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(other), name)
    git(tree, "submodule", "deinit", "-q", "--force", "absent")
    assert names(tree) == [".gitmodules", "here/part.c", "mine/__init__.py", "pyproject.toml"]


def test_repository_tells_the_version_and_nothing_else(tree: Path, tmp_path: Path) -> None:
    write(tree, {"pyproject.toml": '[build-system]\nrequires = ["setuptools-scm"]\n', "old.txt": "once said"})
    committed(tree)
    old = git(tree, "rev-parse", "HEAD:old.txt")
    write(tree, {"old.txt": "now said"})
    git(tree, "commit", "-qam", "second")
    git(tree, "tag", "-a", "v1.5", "-m", "one")
    git(tree, "checkout", "-q", "-b", "other")
    write(tree, {"branch.txt": ""})
    git(tree, "add", ".")
    git(tree, "commit", "-qm", "third")
    git(tree, "tag", "v9")
    git(tree, "checkout", "-q", "main")
    git(tree, "commit", "-q", "--allow-empty", "-m", "fourth")
    git(tree, "remote", "add", "origin", "https://me:s3cret@example.org/mine")
    git(tree, "config", "http.extraheader", "Authorization: s3cret")
    write(tree, {".git/hooks/post-index-change": "#!/bin/sh\ntouch ran\n"}).joinpath(
        ".git/hooks/post-index-change"
    ).chmod(0o755)

    copy = unpacked(tree, tmp_path / "copy")

    assert git(copy, "describe", "--tags", "--long", "--dirty") == git(tree, "describe", "--tags", "--long")
    assert git(copy, "status", "--porcelain", "--branch") == "## main"
    assert git(copy, "tag") == "v1.5"
    assert git(copy, "ls-files").split() == ["mine/__init__.py", "old.txt", "pyproject.toml"]
    assert subprocess.run(["git", "cat-file", "-e", old], cwd=copy, capture_output=True, check=False).returncode != 0
    packed = b"".join(path.read_bytes() for path in copy.rglob("*") if path.is_file())
    assert b"s3cret" not in packed
    assert not (tree / "ran").exists()
    git(copy, "archive", "HEAD")
    write(copy, {"old.txt": "other"})
    assert git(copy, "describe", "--tags", "--dirty").endswith("-dirty")


def test_repository_is_the_same_for_the_same_state(tree: Path) -> None:
    write(tree, {"setup.cfg": "# versioneer\n"})
    committed(tree)
    first = pack(tree)
    time.sleep(0.01)
    git(tree, "gc", "-q")
    git(tree, "update-index", "-q", "--really-refresh")
    assert pack(tree) == first
    git(tree, "tag", "v2")
    assert pack(tree) != first


def test_time_of_all_is_that_of_the_commit(tree: Path) -> None:
    write(tree, {"setup.cfg": "# setuptools-scm\n"})
    committed(tree)
    times = {member.mtime for member in members(pack(tree)).values()}
    assert times == {int(git(tree, "log", "-1", "--format=%ct"))}


def test_shallow_and_detached_work_trees_tell_what_they_know(tree: Path, tmp_path: Path) -> None:
    write(tree, {"setup.cfg": "# hatch-vcs\n"})
    committed(tree)
    git(tree, "commit", "-q", "--allow-empty", "-m", "second")
    git(tmp_path, "clone", "-q", "--depth=1", tree.as_uri(), "clone")
    git(tmp_path / "clone", "checkout", "-q", "--detach")
    copy = unpacked(tmp_path / "clone", tmp_path / "copy")
    assert git(copy, "rev-parse", "HEAD") == git(tree, "rev-parse", "HEAD")
    assert git(copy, "rev-list", "--count", "HEAD") == "1"


def test_version_that_needs_no_git_gets_none(tree: Path) -> None:
    committed(tree)
    assert not any(name.startswith(".git/") for name in members(pack(tree)))


def test_repository_without_a_commit_is_none(tree: Path) -> None:
    write(tree, {"setup.cfg": "# setuptools-scm\n"})
    git(tree, "init", "-q")
    assert list(members(pack(tree))) == ["mine/__init__.py", "pyproject.toml", "setup.cfg"]


@pytest.mark.parametrize("target", ["/etc/passwd", "../elsewhere", "mine/../../elsewhere", "/"])
def test_link_that_leads_out_is_refused(tree: Path, target: str) -> None:
    (tree / "link").symlink_to(target)
    with pytest.raises(BadTree, match="link is a symbolic link that leads out of the tree"):
        pack(tree)


def test_link_through_a_linked_folder_is_judged_by_where_it_really_lies(tree: Path) -> None:
    write(tree, {"a/b/c.txt": "", "top.txt": ""})
    (tree / "a" / "b" / "up").symlink_to("../../top.txt")
    assert "a/b/up" in names(tree)
    (tree / "a" / "b" / "out").symlink_to("../../../top.txt")
    with pytest.raises(BadTree, match="leads out"):
        pack(tree)


@pytest.mark.parametrize("kind", ["fifo", "socket"])
def test_what_is_no_file_is_refused_without_being_opened(tree: Path, kind: str) -> None:
    if kind == "fifo":
        os.mkfifo(tree / "odd")
        with pytest.raises(BadTree, match="odd is a device, a socket or a FIFO"):
            pack(tree)
    else:
        with socket.socket(socket.AF_UNIX) as listening, tempfile.TemporaryDirectory() as short:
            (Path(short) / "t").symlink_to(tree)
            listening.bind(f"{short}/t/odd")
            with pytest.raises(BadTree, match="odd is a device, a socket or a FIFO"):
                pack(tree)


def test_file_that_cannot_be_read_is_named() -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = write(Path(folder) / "tree", PROJECT)
        Path(folder).chmod(0o755)
        (root / "mine" / "__init__.py").chmod(0)
        archive = Path(folder) / "out"
        archive.touch()
        archive.chmod(0o666)
        with unprivileged(), pytest.raises(BadTree, match=r"mine/__init__\.py can't be read: Permission denied"):
            pack_tree(root, archive)


def test_folder_that_cannot_be_read_is_named() -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = write(Path(folder) / "tree", PROJECT)
        Path(folder).chmod(0o755)
        (root / "mine").chmod(0)
        with unprivileged(), pytest.raises(BadTree, match=r"mine can't be read: Permission denied"):
            pack_tree(root, Path(folder) / "out")
        (root / "mine").chmod(0o755)


@contextmanager
def unprivileged() -> Iterator[None]:
    """Read as a user who may not read everything."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_too_much_is_refused_with_where_it_lies(tree: Path, tmp_path: Path) -> None:
    write(tree, {"data/large.bin": "x" * (3 << 20), "data/more": "x" * (1 << 20)})
    with pytest.raises(BadTree, match=r"more than 2 MiB.*data \(4 MiB\)"):
        pack_tree(tree, tmp_path / "out", most_bytes=2 << 20)
    with pytest.raises(BadTree, match=r"more than 3 files.*data \(2\)"):
        pack_tree(tree, tmp_path / "out", most_files=3)
    assert not (tmp_path / "out").exists()


def test_full_disk_is_told_as_the_disk_of_the_archive(tree: Path) -> None:
    write(tree, {"data.bin": "x" * (1 << 20)})
    with pytest.raises(BadTree, match="can't be packed in /dev: No space left on device") as caught:
        pack_tree(tree, Path("/dev/full"))
    assert "TMPDIR" in caught.value.hint


def test_name_is_the_stated_one_or_the_folders(tree: Path, tmp_path: Path) -> None:
    assert project_name(tree) == "mine"
    assert project_name(write(tmp_path / "legacy", {"setup.py": ""})) == "legacy"
    assert project_name(write(tmp_path / "odd", {"pyproject.toml": "project = 3\n"})) == "odd"


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"README": ""}, "it has neither a pyproject.toml nor a setup.py"),
        ({"pyproject.toml/x": "", "setup.cfg": ""}, "pyproject.toml is not a file"),
        ({"pyproject.toml": "x = [", "setup.py": ""}, "is not TOML"),
        ({"pyproject.toml": "#" * (17 << 20)}, "larger than"),
    ],
)
def test_folder_without_a_project_is_refused(tmp_path: Path, files: dict[str, str], reason: str) -> None:
    with pytest.raises(BadTree, match=reason):
        project_name(write(tmp_path, files))
