"""What a request would take, told before anything is built."""

from tests.acceptance.conftest import Home
from tests.support.projects import Project, backend_project


def nothing_was_built(home: Home) -> bool:
    """No wheel, no log of a build, no environment, no job: nothing ran."""
    traces = [*home.store.glob("wheels/*"), *home.store.glob("logs/*"), *home.store.glob("plans/*")]
    return not traces and not list(home.root.glob("cache/**/trees/*")) and "job" not in home.farm_log()


def test_plan_tells_what_would_be_built_and_builds_nothing(home: Home) -> None:
    home.upstream.add(
        Project(name="app", requires_dist=["library"], build_requires=["tinybackend"], backend="tinybackend"),
        Project(name="library"),
        backend_project(),
    )

    done = home.run("plan", "app")

    assert done.code == 0, done.err
    assert nothing_was_built(home)
    states = {line.split()[1]: line.split()[0] for line in done.out.splitlines() if "==" in line[:30]}
    assert states == {"app==1.0": "build", "library==1.0": "build", "tinybackend==1.0": "build"}
    assert "to build app==1.0" in done.out
    assert "3 sdists: 0 cached, 3 to build (1 of them for builds alone)" in done.out


def test_plan_tells_what_is_cached(home: Home) -> None:
    home.upstream.add(
        Project(name="app", requires_dist=["library"]), Project(name="library", build_requires=["helper"]),
        Project(name="helper"),
    )  # fmt: skip
    home.run("build", "library")
    wheels = home.wheel_names()

    told = home.run("plan", "--json", "app").json

    assert {name: bool(one["forecast"]["wheel"]) for name, one in told["prospects"].items()} == {
        "app==1.0": False,
        "library==1.0": True,
    }
    assert home.wheel_names() == wheels


def test_metadata_that_only_a_build_can_tell_is_taken_as_stated_until_it_is_there(home: Home) -> None:
    lies = "import pathlib; at = pathlib.Path('tiny.json'); at.write_text(at.read_text().replace('guess', 'library'))\n"
    home.upstream.add(
        Project(name="app", static=False, requires_dist=["guess"], code=lies),
        Project(name="guess"),
        Project(name="library"),
    )

    before = home.run("plan", "app")
    assert nothing_was_built(home)
    installed = home.run("install", "--venv", home.root / "env", "app")
    after = home.run("plan", "--json", "app")

    assert not nothing_was_built(home)
    assert "the list may change" in before.out
    assert "guess" in before.out
    assert "library" not in before.out
    assert installed.code == 0, installed.err
    assert sorted(installed.out.split()) == ["app==1.0", "library==1.0"], "the estimate must not be taken for the truth"
    assert set(after.json["prospects"]) == {"app==1.0", "library==1.0"}


def test_plan_tells_a_failure_that_the_farm_remembers(home: Home) -> None:
    home.upstream.add(
        Project(name="app", requires_dist=["broken"]),
        Project(name="broken", static=False, build_code="raise SystemExit('no header foo.h')"),
    )
    assert home.run("install", "--venv", home.root / "env", "app").code == 20

    done = home.run("plan", "app")

    assert done.code == 0, done.err
    assert "likely to fail: it failed before: The build of broken==1.0 failed" in done.out
    assert "1 likely to fail: broken==1.0" in done.out


def test_durations_of_past_builds_are_told(home: Home) -> None:
    home.upstream.add(Project(name="app", version="1.0"))
    assert home.run("build", "app").code == 0
    home.upstream.add(Project(name="app", version="2.0"), Project(name="other"))

    told = home.run("plan", "--json", "app==2", "other").json["prospects"]

    assert told["app==2.0"]["forecast"]["seconds_from"] == "other versions"
    assert told["app==2.0"]["seconds"] > 0
    assert told["other==1.0"]["guessed"]
    assert home.run("why", "--json", "app").json["origins"]["app-1.0-1-py3-none-any.whl"]["duration_s"] > 0


def test_plan_tells_why_build_requirements_cannot_be_had(home: Home) -> None:
    home.upstream.add(Project(name="app", build_requires=["absent"]))

    done = home.run("plan", "app")

    assert done.code == 0, done.err
    assert (
        "likely to fail: its build requirements can't be had: The source index has no project named absent" in done.out
    )
    assert "1 likely to fail: app==1.0" in done.out


def test_plan_of_a_request_without_a_solution_fails_as_install_does(home: Home) -> None:
    home.upstream.add_file("app", "app-1.0-py3-none-any.whl", b"prebuilt")
    assert home.run("plan", "app").code == home.run("install", "--venv", home.root / "env", "app").code == 12
    assert home.run("plan", "absent").code == 11
    assert home.run("plan").code == 2


def test_plan_of_a_tree_goes_by_what_it_states(home: Home) -> None:
    home.upstream.add(Project(name="library"), Project(name="more"), Project(name="tool"))
    tree = Project(name="mine", build_requires=["tool"]).tree(home.root / "mine")
    table = (tree / "pyproject.toml").read_text()
    project = '[project]\nname = "mine"\nversion = "1"\ndependencies = ["library"]\n'
    (tree / "pyproject.toml").write_text(f'{table}{project}optional-dependencies = {{more = ["more"]}}\n')

    done = home.run("plan", "./mine[more]")

    assert done.code == 0, done.err
    assert nothing_was_built(home)
    states = {line.split()[1]: line for line in done.out.splitlines() if line.startswith("build")}
    assert states.keys() == {"mine", "library==1.0", "more==1.0", "tool==1.0"}
    assert states["mine"].endswith("to install")
    assert states["tool==1.0"].endswith("to build mine (tree)")
    assert "the list may change" not in done.out
    (tree / "pyproject.toml").write_text(f'{table}[project]\nname = "mine"\ndynamic = ["version", "dependencies"]\n')
    told = home.run("plan", "--json", "./mine").json["prospects"]
    assert set(told) == {"mine (tree)", "tool==1.0"}
    assert not told["mine (tree)"]["metadata_known"]
