"""Plans that have to find another way: cycles, old setuptools, failures that are remembered."""

import json
import re

from tests.acceptance.conftest import Done, Home
from tests.acceptance.test_recipes import write_recipe
from tests.support.projects import BACKEND, Project

BROKEN = BACKEND.replace("    stem =", "    raise RuntimeError('this setuptools builds nothing old')\n    stem =", 1)


def manifest(home: Home, name: str) -> dict[str, object]:
    """The manifest of a project's only wheel."""
    found = [json.loads(path.read_text()) for path in home.store.glob("manifests/*.json")]
    (one,) = [value for value in found if value["wheel"]["name"] == name]
    provenance: dict[str, object] = one["provenance"]
    return provenance


def versions_used(home: Home, name: str) -> list[str]:
    plan = manifest(home, name)["plan"]
    assert isinstance(plan, dict)
    return [f"{one['sdist']['name']}=={one['sdist']['version']}" for one in plan["requirements"]]


def setuptools(version: str, backend: str, uploaded: str) -> Project:
    modules = {"setuptools/__init__.py": "", "setuptools/build_meta.py": backend}
    return Project(name="setuptools", version=version, modules=modules, uploaded=uploaded)


def test_cycle_is_left_by_an_older_version(home: Home) -> None:
    home.upstream.add(
        Project(name="hen", build_requires=["egg"]),
        Project(name="egg", version="2.0", build_requires=["hen"]),
        Project(name="egg", version="1.0"),
    )

    done = home.run("build", "hen")

    assert done.code == 0, done.err
    assert versions_used(home, "hen") == ["egg==1.0"]


def test_version_that_closes_the_cycle_is_excluded_and_the_plan_says_so(home: Home) -> None:
    home.upstream.add(
        Project(name="hen", version="2.0", build_requires=["egg"]),
        Project(name="hen", version="1.0"),
        Project(name="egg", build_requires=["hen"]),
    )

    done = home.run("build", "hen")

    assert done.code == 0, done.err
    assert versions_used(home, "egg") == ["hen==1.0"]
    plan = manifest(home, "egg")["plan"]
    assert isinstance(plan, dict)
    assert plan["constraints"] == ["hen!=2.0"]


def test_project_that_needs_itself_is_built_with_an_older_self(home: Home) -> None:
    home.upstream.add(Project(name="tool", version="2.0", build_requires=["tool"]), Project(name="tool", version="1.0"))

    done = home.run("build", "tool")

    assert done.code == 0, done.err
    assert versions_used_of_newest(home) == ["tool==1.0"]


def versions_used_of_newest(home: Home) -> list[str]:
    found = [json.loads(path.read_text()) for path in home.store.glob("manifests/*.json")]
    newest = max(found, key=lambda value: str(value["wheel"]["version"]))
    return [
        f"{one['sdist']['name']}=={one['sdist']['version']}" for one in newest["provenance"]["plan"]["requirements"]
    ]


def test_versions_left_out_of_a_cycle_are_bounded(home: Home) -> None:
    home.upstream.add(
        *(Project(name="tool", version=f"{number}.0", build_requires=["tool"]) for number in range(1, 20))
    )

    done = home.run("build", "tool")

    assert done.code == 24, done.err


def test_cycle_is_left_by_a_bootstrap_recipe(home: Home) -> None:
    home.upstream.add(Project(name="hen", build_requires=["egg"]), Project(name="egg", build_requires=["hen"]))
    settings = write_recipe(home, "build-requirements = []\n", project="egg")

    done = home.run("build", "hen", environment=settings)

    assert done.code == 0, done.err
    assert versions_used(home, "hen") == ["egg==1.0"]


def test_legacy_build_that_fails_is_tried_with_the_setuptools_of_its_time(home: Home) -> None:
    home.upstream.add(
        Project(
            name="app", build_requires=["setuptools"], backend="setuptools.build_meta", uploaded="2020-06-01T00:00:00Z"
        ),
        setuptools("80.0", BROKEN, "2025-01-01T00:00:00Z"),
        setuptools("70.0", BACKEND, "2020-01-01T00:00:00Z"),
    )

    done = home.run("build", "app")

    assert done.code == 0, done.err + home.farm_log()
    assert versions_used(home, "app") == ["setuptools==70.0"]
    plan = manifest(home, "app")["plan"]
    assert isinstance(plan, dict)
    assert plan["constraints"] == ["setuptools<=70.0"]
    assert "setuptools 80.0" in plan["fallback"]
    assert "2020-06-01" in plan["fallback"]
    assert not list(home.store.glob("plans/*.fallback.json"))


def test_legacy_build_that_fails_twice_tells_both(home: Home) -> None:
    home.upstream.add(
        Project(
            name="app", build_requires=["setuptools"], backend="setuptools.build_meta", uploaded="2020-06-01T00:00:00Z"
        ),
        setuptools("80.0", BROKEN, "2025-01-01T00:00:00Z"),
        setuptools("70.0", BROKEN.replace("nothing old", "nothing new"), "2020-01-01T00:00:00Z"),
    )

    done = home.run("build", "app")

    assert done.code == 20, done.err
    assert "nothing old" in done.err
    assert "nothing new" in done.err
    assert not list(home.store.glob("plans/*.fallback.json"))


def test_failed_build_is_remembered_until_it_is_told_to_try_again(home: Home) -> None:
    home.upstream.add(Project(name="app", build_code="raise RuntimeError('broken')"))

    first, second = home.run("build", "app"), home.run("build", "app")
    third = home.run("build", "app", "--retry")

    assert [done.code for done in (first, second, third)] == [20, 20, 20]
    assert "nothing that it is built from has changed" not in first.err + third.err
    assert "nothing that it is built from has changed" in second.err
    assert "--retry" in second.err
    assert "broken" in second.err
    assert re.search(r"the whole log: wheelfarm logs [0-9a-f]{12}", second.err)


def test_failed_build_is_forgotten_when_a_build_requirement_changes(home: Home) -> None:
    home.upstream.add(
        Project(name="app", build_requires=["helper"], build_code="import helper; assert helper.VERSION == '2.0'"),
        Project(name="helper", version="1.0"),
    )
    assert home.run("build", "app").code == 20
    home.upstream.add(Project(name="helper", version="2.0"))

    done = home.run("build", "app")

    assert done.code == 0, done.err


def test_failed_build_requirement_is_remembered_too(home: Home) -> None:
    home.upstream.add(
        Project(name="app", build_requires=["helper"]),
        Project(name="helper", build_code="raise RuntimeError('broken')"),
    )

    def run(*words: str) -> Done:
        done = home.run("build", "app", *words)
        assert done.code == 20, done.err
        return done

    assert "nothing that it is built from has changed" not in run().err
    assert "nothing that it is built from has changed" in run().err
    assert "nothing that it is built from has changed" not in run("--retry").err
