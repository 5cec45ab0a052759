"""What may be asked for: projects, dependency groups, locks and pip's requirements files, and what is refused."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.acceptance.conftest import Home
from tests.support.projects import Project


def written(home: Home, name: str, text: str) -> str:
    (home.root / name).write_text(text)
    return name


def lock_of(*projects: Project, more: str = "") -> str:
    text = 'lock-version = "1.0"\ncreated-by = "test"\nextras = ["web"]\n'
    for project in projects:
        sha256 = hashlib.sha256(project.sdist()).hexdigest()
        text += f'[[packages]]\nname = "{project.name}"\nversion = "{project.version}"\n'
        text += f'sdist = {{ url = "https://elsewhere/{project.filename}", hashes = {{ sha256 = "{sha256}" }} }}\n'
    return text + more


def test_project_file_gives_dependencies_extras_and_groups_but_no_tool_does(home: Home) -> None:
    home.upstream.add(*(Project(name=name) for name in ("first", "webby", "linter")))
    project = '[project]\nname = "mine"\ndependencies = ["first"]\n[project.optional-dependencies]\nweb = ["webby"]\n'
    project += '[dependency-groups]\ndev = ["linter"]\n'
    project += '[[tool.uv.index]]\nurl = "http://127.0.0.1:9/simple"\ndefault = true\n'
    written(home, "pyproject.toml", project)
    written(home, "uv.toml", 'index-url = "http://127.0.0.1:9/simple"\n')
    written(home, "pip.conf", "[global]\nindex-url = http://127.0.0.1:9/simple\n")

    done = home.run("install", "--venv", "env", "-r", "pyproject.toml", "--extra", "web", "--group", "dev")

    assert done.code == 0, done.err
    assert sorted(done.out.split()) == ["first==1.0", "linter==1.0", "webby==1.0"]


def test_lock_is_installed_as_it_stands(home: Home) -> None:
    first, second = Project(name="first"), Project(name="second")
    home.upstream.add(first, second, Project(name="second", version="2.0"))
    marked = "marker = \"'web' in extras\"\n"

    done = home.run("install", "--venv", "env", "-r", written(home, "pylock.toml", lock_of(first, second, more=marked)))
    with_extra = home.run("install", "--venv", "env", "-r", "pylock.toml", "--extra", "web")

    assert (done.code, with_extra.code) == (0, 0), done.err + with_extra.err
    assert done.out.split() == ["first==1.0"]
    assert with_extra.out.split() == ["second==1.0"]


def test_locked_sdist_that_the_source_index_does_not_list_is_refused(home: Home) -> None:
    home.upstream.add(Project(name="first"))
    lock = lock_of(Project(name="first", modules={"first/__init__.py": "OTHER = 1\n"}))

    done = home.run("install", "--venv", "env", "-r", written(home, "pylock.dev.toml", lock))

    assert done.code == 2
    assert "source index does not list first-1.0.tar.gz" in done.err


def test_locked_packages_without_an_sdist_are_named(home: Home) -> None:
    wheel = '[[packages]]\nname = "b"\nversion = "1.0"\nwheels = [{ name = "b-1.0-py3-none-any.whl", '
    wheel += 'url = "https://elsewhere/b-1.0-py3-none-any.whl", hashes = { sha256 = "00" } }]\n'

    done = home.run("install", "--venv", "env", "-r", written(home, "pylock.toml", lock_of(more=wheel)))

    assert done.code == 12
    assert "no sdist of b" in done.err


def test_prereleases_are_taken_when_asked_for(home: Home) -> None:
    home.upstream.add(Project(name="app"), Project(name="app", version="2.0rc1"))

    plain = home.run("install", "--venv", "env", "app")
    early = home.run("install", "--venv", "env", "--pre", "app")

    assert plain.out.split() == ["app==1.0"], plain.err
    assert early.out.split() == ["app==2.0rc1"], early.err


def test_hashes_of_a_requirements_file_are_those_of_sdists(home: Home) -> None:
    app = Project(name="app", requires_dist=["library"])
    home.upstream.add(app, Project(name="library"))
    line = f"app==1.0 --hash=sha256:{hashlib.sha256(app.sdist()).hexdigest()}\n"

    right = home.run("install", "--venv", "env", "-r", written(home, "right.txt", line))
    wrong = home.run("install", "--venv", "env", "-r", written(home, "wrong.txt", line[:-9] + "00000000\n"))
    lacking = home.run("install", "--venv", "env", "-r", written(home, "all.txt", "--require-hashes\n" + line))

    assert (right.code, wrong.code, lacking.code) == (0, 14, 14), right.err
    assert "library==1.0 is needed" in lacking.err


def test_what_always_holds_may_stand_in_a_file_and_markers_are_the_targets(home: Home) -> None:
    home.upstream.add(Project(name="app"), Project(name="app", version="2.0"))
    written(home, "bounds.txt", "app<2\n")
    text = "--no-binary :all:\n-c bounds.txt\napp\nabsent; python_version < '3'\n"

    done = home.run("install", "--venv", "env", "-r", written(home, "asked.txt", text))

    assert done.out.split() == ["app==1.0"], done.err


@pytest.mark.parametrize(
    ("words", "line", "code", "told"),
    [
        (["-e", "."], "", 5, "--editable ."),
        ([], "-e ./lib", 5, "wheelfarm install ./lib"),
        ([], "--extra-index-url https://elsewhere/simple", 5, "WHEELFARM_INDEX"),
        ([], "--only-binary :all:", 5, "builds everything from source"),
        ([], "--config-settings x=y", 2, "--config-settings"),
        (["--extra", "web", "app"], "", 2, "--extra"),
    ],
)
def test_refusals_say_what_to_do_and_start_nothing(
    home: Home, words: Sequence[str], line: str, code: int, told: str
) -> None:
    files = ["-r", written(home, "asked.txt", f"app\n{line}\n")] if line else []

    done = home.run("install", "--venv", "env", *words, *files)

    assert done.code == code
    assert told in done.err
    assert "hint:" in done.err
    assert home.farm_log() == ""
    assert not (home.root / "env").exists()


def test_interpreter_that_cannot_be_used_is_refused_with_its_reason(home: Home) -> None:
    python: Path = home.root / "python"
    python.write_text("#!/bin/sh\necho I am a teapot\n")

    dull = home.run("build", "--python", python, "app")
    python.chmod(0o755)
    teapot = home.run("build", "--python", python, "app")

    assert (dull.code, teapot.code) == (7, 7)
    assert "not executable" in dull.err
    assert "I am a teapot" in teapot.err


def test_files_in_files_lead_to_extras_of_extras_within_bounds_and_hashes(home: Home) -> None:
    """Two included files, a variable, a byte order mark, continued lines, an extra that names others of its project,
    what is for another platform, and the hash of something that is only needed, in the constraints."""
    needed = Project(name="needed")
    app = Project(
        name="app",
        extras=["all", "web", "win"],
        requires_dist=[
            *("app[web]; extra == 'all'", "app[win]; extra == 'all'"),
            *("webby; extra == 'web'", "windy; sys_platform == 'win32' and extra == 'win'"),
        ],
    )
    home.upstream.add(
        app, needed, Project(name="needed", version="2.0"), Project(name="webby", requires_dist=["needed"])
    )
    digest = hashlib.sha256(needed.sdist()).hexdigest()
    (home.root / "deep").mkdir()
    (home.root / "deep" / "bounds.txt").write_bytes(
        f"needed \\\n  <2 \\\n  --hash=sha256:{digest}\n".encode("utf-8-sig")
    )
    written(home, "deep/more.txt", "-c bounds.txt\nApp[ALL] ; python_version >= '3' \\\n  # all of it\n")

    words = ("install", "--venv", "env", "-r", written(home, "asked.txt", "-r ${WHERE}/more.txt\n"))
    done = home.run(*words, environment={"WHERE": "deep"})
    (home.root / "deep" / "bounds.txt").write_text(f"needed<2 --hash=sha256:{'0' * 64}\n")
    other = home.run(*words, environment={"WHERE": "deep"})

    assert done.code == 0, done.err
    assert sorted(done.out.split()) == ["app==1.0", "needed==1.0", "webby==1.0"]
    assert (other.code, "needed-1.0.tar.gz" in other.err) == (14, True)
