"""Local trees and sdists: built in the sandbox like everything, and on no index."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.acceptance.conftest import PATIENCE_S, Done, Home
from tests.acceptance.test_install import run_python
from tests.support.projects import Project, make_tar_gz


def install(home: Home, *words: str | Path) -> Done:
    return home.run("install", "--venv", "env", *words)


def on_pages(home: Home) -> str:
    """All that the farm's pages and their entries say, once it has ended."""
    home.come_to_rest()
    found = [*home.store.glob("flat/**/*"), *home.store.glob("index/**/*"), *home.store.glob("names/**/*")]
    return "".join(path.name + path.read_text() for path in found if path.is_file())


def test_tree_is_installed_with_its_dependencies_and_stands_on_no_index(home: Home) -> None:
    home.upstream.add(Project(name="library"), Project(name="helper"))
    mine = Project(name="mine", requires_dist=["library"], build_requires=["helper"], code="import helper\n")
    mine.tree(home.root / "tree")

    done = install(home, "./tree")

    assert done.code == 0, done.err
    assert sorted(done.out.split()) == ["library==1.0", "mine==1.0"]
    assert run_python(home.root / "env", "import mine, library; print(mine.VERSION)") == "1.0"
    assert "library" in on_pages(home)
    assert "mine" not in on_pages(home)
    assert "mine" not in "".join(path.name for path in home.store.glob("sdists/*/*"))
    assert not any("mine" in path for path in home.upstream.requests)


def test_tree_that_did_not_change_is_found_again_without_a_farm(home: Home) -> None:
    Project(name="mine").tree(home.root / "tree")
    install(home, "./tree")
    log = home.farm_log_at_rest()

    again = home.run("install", "--venv", "other", "./tree")

    assert again.out.split() == ["mine==1.0"], again.err
    assert home.farm_log() == log, "a farm was started"


def test_tree_that_changed_is_built_again_and_replaces_what_was_installed(home: Home) -> None:
    tree = Project(name="mine", modules={"mine.py": "VALUE = 1\n"}).tree(home.root / "tree")
    install(home, "./tree")
    Project(name="mine", modules={"mine.py": "VALUE = 2\n"}).tree(tree)

    done = install(home, "./tree")

    assert done.out.split() == ["mine==1.0"], done.err
    assert run_python(home.root / "env", "import mine; print(mine.VALUE)") == "2"


def test_what_depends_on_a_local_project_gets_the_local_one(home: Home) -> None:
    home.upstream.add(
        Project(name="user", requires_dist=["mine>=1"]),
        Project(name="mine", version="3.0"),
    )
    Project(name="mine", version="1.5.dev0", modules={"mine/__init__.py": "VERSION = 'local'\n"}).tree(
        home.root / "tree"
    )

    local = install(home, "user", "./tree")
    elsewhere = home.run("install", "--venv", "other", "user", "mine")

    assert sorted(local.out.split()) == ["mine==1.5.dev0", "user==1.0"], local.err
    assert run_python(home.root / "env", "import mine; print(mine.VERSION)") == "local"
    assert sorted(elsewhere.out.split()) == ["mine==3.0", "user==1.0"], elsewhere.err


def test_local_project_that_nothing_else_can_live_with_is_no_solution(home: Home) -> None:
    home.upstream.add(Project(name="user", requires_dist=["mine>=2"]), Project(name="mine", version="2.0"))
    Project(name="mine").tree(home.root / "tree")

    done = install(home, "user", "./tree")

    assert done.code == 10
    assert "mine" in done.err


def test_extras_and_dynamic_metadata_of_trees_count(home: Home) -> None:
    home.upstream.add(Project(name="first"), Project(name="second"))
    requires = ["first; extra == 'one'", "second; extra == 'two'"]
    Project(name="mine", extras=["one", "two"], requires_dist=requires, static=False).tree(home.root / "tree")

    done = install(home, "./tree[one]")

    assert sorted(done.out.split()) == ["first==1.0", "mine==1.0"], done.err
    assert "mine" not in on_pages(home)


def test_trees_in_a_requirements_file_are_relative_to_the_current_folder(home: Home) -> None:
    Project(name="mine").tree(home.root / "tree")
    other = Project(name="other").tree(home.root / "other tree")
    (home.root / "asked").mkdir()
    text = f"./tree  # a comment\nother @ {other.as_uri()}\n./tree ; python_version < '3'\n"
    (home.root / "asked" / "all.txt").write_text(text)

    done = install(home, "-r", "asked/all.txt")

    assert sorted(done.out.split()) == ["mine==1.0", "other==1.0"], done.err


def test_current_folder_is_built_into_a_wheel_with_its_backends_own_name(home: Home) -> None:
    Project(name="mine").tree(home.root)

    done = home.run("build", "--out", "out", ".")

    assert done.code == 0, done.err
    assert [path.name for path in (home.root / "out").iterdir()] == ["mine-1.0-py3-none-any.whl"]


def test_why_tells_of_a_local_wheel_by_its_file_alone(home: Home) -> None:
    home.upstream.add(Project(name="helper"))
    Project(name="mine", build_requires=["helper"]).tree(home.root / "tree")
    built = home.run("build", "--out", "out", "./tree")
    assert built.code == 0, built.err

    by_file = home.run("why", "out/mine-1.0-py3-none-any.whl")
    by_name = home.run("why", "mine")

    assert by_file.code == 0, by_file.err
    assert "helper 1.0" in by_file.out
    assert "mine==1.0" in by_file.out
    assert by_name.code == 33


def test_sdist_is_taken_as_it_is_and_stays_local_though_the_index_has_it_too(home: Home) -> None:
    mine = Project(name="mine")
    (home.root / mine.filename).write_bytes(mine.sdist())

    local = install(home, mine.filename)
    shown = on_pages(home)
    home.upstream.add(mine)
    listed = home.run("install", "--venv", "other", "mine")

    assert local.out.split() == ["mine==1.0"], local.err
    assert "mine" not in shown
    assert listed.out.split() == ["mine==1.0"], listed.err
    assert "mine-1.0-1-py3-none-any.whl" in on_pages(home)


def test_archive_of_a_tree_is_first_made_an_sdist(home: Home) -> None:
    files = {f"mine-main/{path}": data for path, data in Project(name="mine").files().items() if path != "PKG-INFO"}
    (home.root / "main.tar.gz").write_bytes(make_tar_gz(files))

    done = install(home, "./main.tar.gz")

    assert done.out.split() == ["mine==1.0"], done.err


def test_version_is_read_off_the_tags_and_no_credential_is_sent(home: Home) -> None:
    code = (
        "import subprocess\n"
        "said = subprocess.run(['git', 'describe', '--tags', '--long', '--dirty'], capture_output=True, text=True)\n"
        "print('git said', said.stdout, said.stderr)\n"
    )
    tree = Project(name="mine", build_requires=[], code=code).tree(home.root / "tree")
    (tree / "pyproject.toml").write_text((tree / "pyproject.toml").read_text() + "# like setuptools-scm\n")
    git = ["git", "-C", str(tree), "-c", "user.name=me", "-c", "user.email=me@example.org"]
    for words in (
        ["init", "-q", "-b", "main"],
        ["add", "."],
        ["commit", "-q", "-m", "first"],
        ["tag", "-a", "v7", "-m", "seven"],
        ["commit", "-q", "--allow-empty", "-m", "second"],
        ["remote", "add", "origin", "https://me:s3cret@example.org/mine"],
    ):
        subprocess.run([*git, *words], check=True, capture_output=True)

    done = install(home, "./tree")

    assert done.code == 0, done.err
    logs = "".join(home.build_logs())
    assert "git said v7-1-g" in logs
    assert "dirty" not in logs
    assert not any(b"s3cret" in path.read_bytes() for path in home.store.glob("local/*/archive"))


def test_tree_whose_backend_fails_is_told_with_its_log(home: Home) -> None:
    tree = Project(name="mine", code="print('about to fail')\nraise SystemError('no luck')\n").tree(home.root / "tree")

    done = install(home, tree)

    assert done.code == 20
    assert "about to fail" in done.err
    assert "no luck" in done.err


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("open(folder + '/x.tar.gz', 'wb').write(b'junk'); return 'x.tar.gz'", "made is no sdist"),
        ("return 'x.tar.gz'", "what it made is: 'no sdist'"),
        ("import tarfile; tarfile.open(folder + '/x.tar.gz', 'w:gz').close(); return 'x.tar.gz'", "PKG-INFO"),
    ],
)
def test_backend_that_makes_no_sdist_has_failed(home: Home, body: str, told: str) -> None:
    tree = Project(name="mine").tree(home.root / "tree")
    with (tree / "backend.py").open("a") as backend:
        backend.write(f"\ndef build_sdist(folder, config_settings=None):\n    {body}\n")

    done = install(home, "./tree")

    assert done.code == 20, done.err
    assert told in done.err
    assert not list(home.store.glob("local/*/record.json"))


def test_trees_of_one_project_are_not_mixed_up_when_two_commands_build_them_at_once(home: Home) -> None:
    for folder in ("a", "b"):
        Project(name="mine", modules={"mine.py": f"FROM = {folder!r}\n"}).tree(home.root / folder)

    running = [home.start("install", "--venv", f"env-{folder}", f"./{folder}") for folder in ("a", "b")]
    ended = [(process.communicate(timeout=PATIENCE_S)[1], process.returncode) for process in running]

    assert [code for _, code in ended] == [0, 0], ended
    assert [run_python(home.root / f"env-{folder}", "import mine; print(mine.FROM)") for folder in "ab"] == ["a", "b"]


def test_name_that_is_also_a_folder_is_the_indexs_and_said_to_be(home: Home) -> None:
    home.upstream.add(Project(name="mine", version="2.0"))
    Project(name="mine").tree(home.root / "mine")

    done = install(home, "mine")

    assert done.out.split() == ["mine==2.0"], done.err
    assert "the folder is asked for as ./mine" in done.err


def test_file_url_must_lead_to_the_project_that_it_names(home: Home) -> None:
    tree = Project(name="mine").tree(home.root / "tree")

    done = install(home, f"yours @ {tree.as_uri()}")

    assert done.code == 2
    assert "is the project mine, and yours was asked for" in done.err


@pytest.mark.parametrize("case", ["empty", "broken", "fifo", "link", "secret", "wheel", "absent"])
def test_tree_that_cannot_be_sent_is_refused_before_a_farm_starts(home: Home, case: str) -> None:
    tree, given, code = Project(name="mine").tree(home.root / "tree"), "./tree", 6
    match case:
        case "empty":
            (home.root / "hollow").mkdir()
            given, told = "./hollow", "neither a pyproject.toml nor a setup.py"
        case "broken":
            (tree / "pyproject.toml").write_text("[project\n")
            told = "pyproject.toml is not TOML"
        case "fifo":
            os.mkfifo(tree / "pipe")
            told = "pipe is a device, a socket or a FIFO"
        case "link":
            (tree / "link").symlink_to("/etc/passwd")
            told = "leads out of the tree"
        case "secret":
            (tree / "loop").symlink_to("../tree/../../elsewhere")
            told = "leads out of the tree"
        case "wheel":
            (home.root / "mine-1.0-py3-none-any.whl").write_bytes(b"")
            given, told, code = "./mine-1.0-py3-none-any.whl", "a wheel that somebody else built", 3
        case _:
            given, told = "./absent", "./absent is not there"

    done = install(home, given)

    assert done.code == code, done.err
    assert told in done.err
    assert home.farm_log() == ""


def test_result_names_the_wheels_of_trees_too(home: Home) -> None:
    Project(name="mine").tree(home.root / "tree")

    done = home.run("install", "--venv", "env", "--json", "./tree")

    assert [wheel["name"] for wheel in json.loads(done.out)["installed"]] == ["mine"]
