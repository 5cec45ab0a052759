from pathlib import Path

import pytest

from tests.support.values import make_target
from wheelfarm.errors import BadTree, DirectReferenceRefused, HashMismatch, InputError
from wheelfarm.job import TREE_VERSION
from wheelfarm.local_source import LocalSource, parse_local
from wheelfarm.packing import packed
from wheelfarm.requirements import read_requirements

HASH = "ab" * 32


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "here"
    for folder in (root, root / "lib", tmp_path / "beside"):
        folder.mkdir()
        (folder / "pyproject.toml").write_text("[project]\nname = 'My.Lib'\n")
    (root / "app-1.0.tar.gz").write_bytes(b"archive")
    (root / "app.zip").write_bytes(b"zip archive")
    (root / "app-1.0-py3-none-any.whl").write_bytes(b"wheel")
    (root / "app-1.0.tar.bz2").write_bytes(b"archive")
    monkeypatch.chdir(root)
    return root


def parse(text: str) -> LocalSource:
    source = parse_local(text, origin="place")
    assert source is not None
    return source


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (".", "."),
        ("./lib", "lib"),
        ("lib/", "lib"),
        ("../beside", "../beside"),
        ("./lib[b,A_a]", "lib"),
        ("./lib [a-a, b]", "lib"),
        (".[a-a,b]", "."),
        ("./app-1.0.tar.gz", "app-1.0.tar.gz"),
        ("app-1.0.tar.gz", "app-1.0.tar.gz"),
        ("app.zip[b,a-a]", "app.zip"),
    ],
)
def test_paths_are_relative_to_the_current_folder_and_may_have_extras(here: Path, text: str, path: str) -> None:
    source = parse(text)
    assert source.path.resolve() == (here / path).resolve()
    assert source.extras == (("a-a", "b") if "[" in text else ())
    assert source.name == ""


def test_file_urls_may_name_their_project(here: Path) -> None:
    url = (here / "lib").as_uri()
    assert parse(url).path == here / "lib"
    named = parse(f"My_Lib[x] @ {url}")
    assert (named.name, named.extras, named.path) == ("my-lib", ("x",), here / "lib")


@pytest.mark.parametrize("text", ["./lib ; python_version < '3'", "./lib[x]; python_version < '3'"])
def test_markers_are_the_targets(here: Path, text: str) -> None:
    assert not parse(text).applies(make_target())
    assert parse(text.replace("<", ">=")).applies(make_target())


@pytest.mark.parametrize(
    "text",
    [
        "lib",
        "lib[extra]>=1",
        "absent.tar.gz",
        "git+https://x.example/y",
        "https://x.example/y-1.tar.gz",
        "a @ https://x/y",
    ],
)
def test_what_names_no_path_is_left_to_others(here: Path, text: str) -> None:
    assert parse_local(text, origin="place") is None


@pytest.mark.parametrize(
    ("text", "cls", "reason"),
    [
        ("./absent", BadTree, "command line: ./absent is not there"),
        ("./app-1.0-py3-none-any.whl", DirectReferenceRefused, "wheel that somebody else built"),
        ("./app-1.0.tar.bz2", BadTree, "neither a folder nor an archive"),
        ("/dev/null", BadTree, "neither a folder nor a file"),
        ("./lib[", DirectReferenceRefused, "names a URL or a path"),
        ("./lib[a b]", InputError, "not a requirement"),
        ("./lib; nonsense == 1", InputError, "not a requirement"),
        ("file://elsewhere/lib", InputError, "not the URL of a local path"),
        ("lib @ file:///lib#egg=lib", InputError, "not the URL of a local path"),
        ("./" + "x" * 5000, BadTree, "can't be read|is not there"),
        ("./x\0y", BadTree, "can't be read|is not there"),
    ],
)
def test_what_cannot_be_taken_is_refused_by_its_cause(
    here: Path, text: str, cls: type[InputError], reason: str
) -> None:
    with pytest.raises(cls, match=reason):
        read_requirements([text], [], [])


def test_hashes_are_for_archives(here: Path) -> None:
    assert read_requirements([f"./app-1.0.tar.gz --hash=sha256:{HASH}"], [], []).local[0].hashes == {HASH}
    with pytest.raises(InputError, match="has no hash"):
        read_requirements([f"./lib --hash=sha256:{HASH}"], [], [])


def test_constraints_name_no_paths(here: Path) -> None:
    (here / "c.txt").write_text("./lib\n")
    with pytest.raises(DirectReferenceRefused):
        read_requirements(["app"], [], [Path("c.txt")])


def test_packed_sources_are_told_by_name_and_digest(here: Path) -> None:
    sources = [parse("./lib"), parse("./app-1.0.tar.gz"), parse("./app.zip"), parse("./lib; python_version < '3'")]
    with packed(sources, make_target()) as found:
        assert [(one.tree.name, one.tree.filename, one.is_tree) for one in found] == [
            ("my-lib", "my-lib.tar.gz", True),
            ("app", "app.tar.gz", False),
            ("app-zip", "app-zip.zip", False),
        ]
        assert {one.tree.version for one in found} == {TREE_VERSION}
        assert found[0].archive.is_file()
        assert found[1].archive == here / "app-1.0.tar.gz"
        assert len({one.identity for one in found}) == 3
    assert not found[0].archive.exists()
    assert found[1].archive.exists()


def test_identity_changes_with_contents_and_extras_alone(here: Path) -> None:
    def identity(text: str) -> str:
        with packed([parse(text)], make_target()) as (one,):
            return one.identity

    first = identity("./lib")
    assert identity("lib/") == first
    assert identity("./lib[x]") != first
    (here / "lib" / "new.py").write_text("")
    assert identity("./lib") != first


def test_archive_with_none_of_its_hashes_is_a_mismatch(here: Path) -> None:
    source = parse_local("./app-1.0.tar.gz", origin="place", hashes=frozenset({HASH}))
    assert source is not None
    with pytest.raises(HashMismatch, match="allow only"), packed([source], make_target()):
        pass
