from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.values import make_target
from wheelfarm.errors import DirectReferenceRefused, InputError, NoSdist
from wheelfarm.job import Sdist
from wheelfarm.lock_file import LockFile, read_lock_file
from wheelfarm.requirements import read_requirements

HEAD = 'lock-version = "1.0"\ncreated-by = "test"\nextras = ["web"]\ndependency-groups = ["dev", "docs"]\n'
SHA256 = "ab" * 32
WHEEL_ = (
    f'[{{ name = "b-1-py3-none-any.whl", url = "https://x/b-1-py3-none-any.whl", hashes = {{ sha256 = "{SHA256}" }} }}]'
)


def wheels(name: str) -> str:
    file = f"{name}-1.0-py3-none-any.whl"
    return f'[{{ name = "{file}", url = "https://x/{file}", hashes = {{ sha256 = "{SHA256}" }} }}]'


def package(name: str, **fields: str) -> str:
    sdist = f'{{ url = "https://x/{name}-1.0.tar.gz", hashes = {{ sha256 = "{SHA256}" }} }}'
    values = {"name": f'"{name}"', "version": '"1.0"', "sdist": sdist, **fields}
    return "[[packages]]\n" + "".join(f"{key} = {value}\n" for key, value in values.items() if value)


def read(
    tmp_path: Path, text: str, *, extras: Sequence[str] = (), all_extras: bool = False, groups: Sequence[str] = ()
) -> LockFile:
    path = tmp_path / "pylock.toml"
    path.write_text(text)
    return read_lock_file(path, extras=extras, all_extras=all_extras, groups=groups)


def names(lock: LockFile) -> list[str]:
    return [sdist.name for sdist in lock.sdists(make_target())]


def test_sdists_are_taken_by_name_version_and_sha256_and_wheels_passed_over(tmp_path: Path) -> None:
    lock = read(tmp_path, HEAD + package("a") + package("b", wheels=wheels("b")))
    assert lock.sdists(make_target()) == (
        Sdist(name="a", version="1.0", filename="a-1.0.tar.gz", sha256=SHA256),
        Sdist(name="b", version="1.0", filename="b-1.0.tar.gz", sha256=SHA256),
    )


def test_markers_are_the_targets_not_this_interpreters(tmp_path: Path) -> None:
    lock = read(tmp_path, HEAD + package("old", marker="\"python_version < '3.9'\"") + package("a"))
    assert names(lock) == ["a"]
    old = replace(make_target(), python_version="3.8.1", abi="cp38")
    assert [sdist.name for sdist in lock.sdists(old)] == ["old", "a"]


def test_extras_and_groups_choose_packages(tmp_path: Path) -> None:
    text = HEAD + 'default-groups = ["dev"]\n' + package("w", marker="\"'web' in extras\"")
    text += package("d", marker="\"'dev' in dependency_groups\"") + package(
        "o", marker="\"'docs' in dependency_groups\""
    )
    assert names(read(tmp_path, text)) == ["d"]
    assert names(read(tmp_path, text, extras=["Web"])) == ["w", "d"]
    assert names(read(tmp_path, text, all_extras=True, groups=["docs"])) == ["w", "o"]


def test_every_package_without_an_sdist_is_named(tmp_path: Path) -> None:
    text = HEAD + package("a", sdist="", wheels=wheels("a")) + package("b") + package("c", sdist="", wheels=wheels("c"))
    with pytest.raises(NoSdist, match="no sdist of a, c,"):
        read(tmp_path, text).sdists(make_target())


@pytest.mark.parametrize(
    ("kind", "entry"),
    [
        ("vcs", '{ type = "git", url = "https://x/a", commit-id = "0" }'),
        ("directory", '{ path = "." }'),
        ("archive", f'{{ url = "https://x/a.tar.gz", hashes = {{ sha256 = "{SHA256}" }} }}'),
    ],
)
def test_entry_of_anything_but_an_index_is_refused_by_its_kind(tmp_path: Path, kind: str, entry: str) -> None:
    with pytest.raises(DirectReferenceRefused, match=f"a is locked to a {kind} entry"):
        read(tmp_path, HEAD + package("a", sdist="", version="", **{kind: entry})).sdists(make_target())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (HEAD + 'requires-python = ">=3.99"\n' + package("a"), "not for"),
        (HEAD + "environments = [\"sys_platform == 'win32'\"]\n" + package("a"), "not for"),
        (HEAD + package("a") + package("a"), "not for"),
        (HEAD + package("a", requires_python='"<3"').replace("requires_python", "requires-python"), "not for"),
        (HEAD + package("a", version=""), "can't be taken"),
        (HEAD + package("a", sdist='{ url = "https://x/a-1.0.tar.gz", hashes = { md5 = "0" } }'), "can't be taken"),
    ],
)
def test_lock_that_names_no_set_of_sdists_for_the_target_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        read(tmp_path, text).sdists(make_target())


@pytest.mark.parametrize("text", ["", "[[packages]]\n", HEAD.replace("1.0", "9.0") + package("a"), "x ="])
def test_malformed_lock_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError):
        read(tmp_path, text)


def test_unknown_extras_and_groups_are_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no extra 'gui'") as caught:
        read(tmp_path, HEAD + package("a"), extras=["gui"])
    assert "web" in caught.value.hint
    with pytest.raises(InputError, match="no dependency group 'test'"):
        read(tmp_path, HEAD + package("a"), groups=["test"])


def test_identity_changes_with_all_that_chooses(tmp_path: Path) -> None:
    text = HEAD + package("a")
    locks = [
        read(tmp_path, text),
        read(tmp_path, text, extras=["web"]),
        read(tmp_path, text, groups=["dev"]),
        read(tmp_path, text + "\n"),
    ]
    assert len({lock.identity for lock in locks}) == 4
    assert read(tmp_path, text).identity == locks[0].identity


def test_lock_stands_alone(tmp_path: Path) -> None:
    path = read(tmp_path, HEAD + package("a")).path
    assert read_requirements([], [path], []).lock is not None
    for arguments, files, constraints in ((["b"], [path], []), ([], [path, path], []), ([], [path], [path])):
        with pytest.raises(InputError, match="says everything by itself"):
            read_requirements(arguments, files, constraints)
