"""`wheelfarm export` and `import`: wheels in a folder, for stock pip and uv without any farm, and for another farm."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from uv import find_uv_bin

from tests.acceptance.conftest import Home, open_home
from tests.support.held_farm import held_farm
from tests.support.projects import Project
from tests.support.upstream import Upstream


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    """A home that has built an app, which needs a library to run and a tool to be built."""
    with Upstream() as upstream, open_home(upstream) as made:
        upstream.add(Project(name="app", requires_dist=["library"], build_requires=["tool"]))
        upstream.add(Project(name="library"), Project(name="tool"))
        with held_farm(made.environment):
            assert made.run("build", "app").code == 0, made.farm_log()
            yield made


@pytest.fixture(scope="module")
def exported(home: Home) -> Path:
    """What was exported of it then."""
    done = home.run("export", "wheels")
    assert done.code == 0, done.err + home.farm_log()
    return home.root / "wheels"


def installers(home: Home) -> dict[str, list[str]]:
    """The stock installers, each told to install into a folder of its own."""
    pip = [sys.executable, "-m", "pip", "install", "--isolated", "--no-cache-dir", "--only-binary", ":all:"]
    uv = [find_uv_bin(), "pip", "install", "--no-config", "--no-cache", "--no-build", "--python", sys.executable]
    return {
        name: [*words, "--target", str(home.root / name)] for name, words in (("pip", pip), ("uv", [*uv, "--offline"]))
    }


def installed(command: list[str], home: Home, client: str, *words: str) -> set[str]:
    """Which projects a stock installer installs."""
    shutil.rmtree(home.root / client, ignore_errors=True)
    done = subprocess.run([*command, *words], env=home.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return {path.name.partition("-")[0] for path in (home.root / client).glob("*.dist-info")}


def test_stock_installers_take_an_export_without_any_farm(home: Home, exported: Path) -> None:
    assert sorted(path.name for path in exported.glob("*.whl")) == [
        "app-1.0-1-py3-none-any.whl",
        "library-1.0-1-py3-none-any.whl",
    ]
    index = (exported / "simple").absolute().as_uri()
    for client, command in installers(home).items():
        links = ["--no-index", "--find-links", str(exported)]
        assert installed(command, home, client, *links, "app") == {"app", "library"}
        assert installed(command, home, client, "--index-url", index, "app") == {"app", "library"}


def test_copy_of_an_export_needs_nothing_beside(home: Home, exported: Path) -> None:
    copy = home.root / "elsewhere"
    shutil.copytree(exported, copy)
    assert home.run("export", "--verify", copy).code == 0
    page = ["--no-index", "--find-links", (copy / "index.html").as_uri()]
    for client, command in installers(home).items():
        assert installed(command, home, client, *page, "app") == {"app", "library"}


def test_export_of_wrong_bytes_is_refused_by_name(home: Home, exported: Path) -> None:
    digest = home.run("export", "--verify", "--json", exported).json["sha256"]
    copy = home.root / "copy"
    for path, change in (
        ("app-1.0-1-py3-none-any.whl", b"other"),
        ("library-1.0-1-py3-none-any.whl.metadata", b"Requires-Dist: evil\n"),
        ("simple/app/index.html", b"other"),
        ("provenance/app-1.0-1-py3-none-any.whl.json", b"{}"),
        ("evil-9-1-py3-none-any.whl", b"added"),
        ("index.html", None),
    ):
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(exported, copy)
        if change is None:
            (copy / path).unlink()
        else:
            (copy / path).write_bytes(change)
        for words in (["export", "--verify"], ["import"]):
            done = home.run(*words, str(copy))
            assert (done.code, f"{path}: " in done.err) == (14, True), done.err
    (copy / "manifest.json").write_text((exported / "manifest.json").read_text() + "\n")
    done = home.run("export", "--verify", "--sha256", digest, copy)
    assert done.code == 14
    assert "manifest.json" in done.err


def test_next_export_fetches_what_is_new_and_switches_at_once(home: Home, exported: Path) -> None:
    place = home.root / "growing"
    assert home.run("export", place).code == 0
    before, wheel = place.resolve(), "app-1.0-1-py3-none-any.whl"
    inode = (place / wheel).stat().st_ino
    home.upstream.add(Project(name="later"))
    assert home.run("build", "later").code == 0

    again = home.run("export", "--json", place)

    assert again.json["new"] == ["later-1.0-1-py3-none-any.whl"]
    assert place.resolve() != before
    assert (place / wheel).stat().st_ino == inode
    assert (before / wheel).exists(), "who reads the old one can go on"
    same = home.run("export", "--json", place, "app", "later")
    assert (same.json["new"], same.json["sha256"]) == ([], again.json["sha256"])
    only = home.run("export", "--json", place, "library")
    assert (only.json["new"], only.json["gone"]) == ([], [wheel, *again.json["new"]])
    assert not before.exists()


def test_other_farm_takes_an_export_in_and_makes_the_same_one(home: Home, exported: Path) -> None:
    told = home.run("export", "--json", "--with-build-requirements", "all").json
    assert {wheel["name"] for wheel in told["wheels"]} >= {"app", "library", "tool"}
    with open_home(home.upstream) as other, held_farm(other.environment):
        (target,) = (path.name for path in (home.store / "index").iterdir())
        for _ in range(2):
            done = other.run("import", "--sha256", told["sha256"], str(home.root / "all"))
            assert done.code == 0, done.err + other.farm_log()
        again = other.run("export", "--json", "--target", target, "--with-build-requirements", "all")
        assert again.json["sha256"] == told["sha256"], "the same bytes, whoever gives them"
        asked = len(home.upstream.requests)
        found = other.run("why", "app-1.0-1-py3-none-any.whl")
        assert (found.code, "tool 1.0" in found.out) == (0, True), found.out + found.err
        assert len(home.upstream.requests) == asked


def test_folder_that_is_none_of_ours_is_left_alone(home: Home, exported: Path) -> None:
    (home.root / "mine").mkdir()
    done = home.run("export", "mine")
    assert done.code == 2
    assert "was not made by wheelfarm export" in done.err
    done = home.run("export", "nothing", "unknown")
    assert done.code == 33
    assert "no wheel of unknown" in done.err
    assert not (home.root / "nothing").exists()
