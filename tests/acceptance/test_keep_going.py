"""What becomes of the others when one build fails."""

from dataclasses import replace

from tests.acceptance.conftest import Home
from tests.support.projects import Project

BROKEN = Project(name="broken", build_code="raise RuntimeError('no such header')")
BAD = Project(name="bad", build_code="import time; time.sleep(1); raise RuntimeError('no such library')")


def test_failure_ends_the_command_though_others_still_build(home: Home) -> None:
    home.upstream.add(BROKEN, Project(name="slow", build_code="import time; time.sleep(3000)"))

    done = home.run("install", "--venv", home.root / "env", "slow", "broken")

    assert done.code == 20, done.err
    assert "no such header" in done.err
    assert not list((home.root / "env").glob("lib/python*/site-packages/slow*"))


def test_build_that_keeps_going_delivers_what_could_be_built_and_tells_every_failure(home: Home) -> None:
    home.upstream.add(BROKEN, BAD, Project(name="app"), Project(name="user", build_requires=["broken"]))

    done = home.run("build", "--keep-going", "--out", home.root / "out", "broken", "bad", "app", "user")

    assert done.code == 20, done.err
    delivered = list((home.root / "out").iterdir())
    assert [path.name.partition("-")[0] for path in delivered] == ["app"]
    assert done.out.split() == [str(path) for path in delivered]
    told = [line for line in done.err.splitlines() if line.startswith(("error:", "also failed:"))]
    assert len(told) == 3
    assert "no such header" in done.err
    assert "no such library" in done.err
    assert all("wheelfarm logs " in line for line in told if line.startswith("also"))


def test_failures_are_told_as_json_with_the_wheels_that_were_built(home: Home) -> None:
    home.upstream.add(BROKEN, BAD, Project(name="app"))

    done = home.run("build", "--json", "--keep-going", "broken", "bad", "app")

    assert done.code == 20, done.err
    assert done.json["error"] == "build-failed"
    assert [wheel["name"] for wheel in done.json["wheels"]] == ["app"]
    assert sorted(failed["sdist"] for failed in done.json["failed"]) == ["bad==1.0", "broken==1.0"]
    assert all(failed["log_tail"] and failed["job"] for failed in done.json["failed"])


def test_install_that_keeps_going_installs_nothing_unless_every_wheel_is_there(home: Home) -> None:
    home.upstream.add(BROKEN, BAD, Project(name="app"))
    environment = home.root / "env"

    done = home.run("install", "--keep-going", "--venv", environment, "broken", "bad", "app")

    assert done.code == 20, done.err
    assert "no such header" in done.err
    assert "no such library" in done.err
    assert not list(environment.glob("lib/python*/site-packages/app*"))
    assert [name.partition("-")[0] for name in home.wheel_names()] == ["app"]


def test_project_whose_metadata_cannot_be_computed_is_left_out_and_told(home: Home) -> None:
    home.upstream.add(replace(BROKEN, static=False), Project(name="app", static=False), Project(name="other"))

    for _ in range(2):  # the second time its failure is remembered
        done = home.run("build", "--json", "--keep-going", "broken", "app", "other")

        assert done.code == 20, done.err
        assert sorted(wheel["name"] for wheel in done.json["wheels"]) == ["app", "other"]
        assert [failed["sdist"] for failed in done.json["failed"]] == ["broken==1.0"]
        assert "wheelfarm logs " in done.err


def test_project_that_others_need_and_whose_metadata_cannot_be_computed_ends_the_command(home: Home) -> None:
    home.upstream.add(
        replace(BROKEN, static=False), Project(name="app", requires_dist=["broken"]), Project(name="other")
    )

    done = home.run("build", "--json", "--keep-going", "broken", "app", "other")

    assert done.code == 20, done.err
    assert [failed["sdist"] for failed in done.json["failed"]] == ["broken==1.0"]
    assert "no such header" in done.err
    assert done.json["wheels"] == []


def test_keeping_going_changes_nothing_where_all_goes_well(home: Home) -> None:
    home.upstream.add(Project(name="app"))

    assert home.run("build", "--keep-going", "app").code == 0
