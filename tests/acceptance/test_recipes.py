"""Recipes: what the operator adds to a project's build, and how the farm tells of it."""

from pathlib import Path

import pytest

from tests.acceptance.conftest import Home, held_farm
from tests.support.projects import Project

REASON = 'reason = "The test says so."\n'
SAYS = "import os; print('said:', os.environ.get('APP_MODE'), config_settings, open('tiny.json').read()[:12])"


def write_recipe(home: Home, text: str, project: str = "app") -> dict[str, str]:
    """The operator's folder with one recipe, as the setting that names it."""
    folder = home.root / "recipes"
    folder.mkdir(exist_ok=True)
    (folder / f"{project}.toml").write_text(f'project = "{project}"\n[[recipe]]\n{REASON}{text}')
    return {"WHEELFARM_RECIPES": str(folder)}


def build_log(home: Home) -> str:
    """The build log of `app`."""
    return next(text for text in home.build_logs() if "building app==1.0" in text)


def test_environment_and_config_settings_reach_the_backend(home: Home) -> None:
    home.upstream.add(Project(name="app", build_code=SAYS))
    settings = write_recipe(home, 'environment = { APP_MODE = "fast" }\nconfig-settings = { level = ["1", "2"] }\n')

    done = home.run("build", "app", environment=settings)

    assert done.code == 0, done.err
    assert "said: fast {'level': ['1', '2']}" in build_log(home)


def test_recipe_of_other_versions_does_not_apply(home: Home) -> None:
    home.upstream.add(Project(name="app", build_code=SAYS))
    settings = write_recipe(home, 'versions = ">=2"\nenvironment = { APP_MODE = "fast" }\n')

    assert home.run("build", "app", environment=settings).code == 0
    assert "said: None" in build_log(home)


def test_changed_recipe_builds_anew_under_a_name_of_its_own_and_an_equal_one_does_not(home: Home) -> None:
    write = "import os; TINY['modules'] = {'app.py': repr(os.environ.get('APP_MODE'))}"
    home.upstream.add(Project(name="app", build_code=write))
    for mode in ("a", "b", "b"):
        settings = write_recipe(home, f'environment = {{ APP_MODE = "{mode}" }}\n')
        assert home.run("build", "app", environment=settings).code == 0

    assert home.wheel_names() == ["app-1.0-1-py3-none-any.whl", "app-1.0-2-py3-none-any.whl"]


def test_farm_that_read_a_recipe_before_it_was_changed_is_not_used(home: Home) -> None:
    home.upstream.add(Project(name="app"))
    home.settings |= write_recipe(home, 'environment = { APP_MODE = "a" }\n')
    with held_farm(home):
        assert home.run("build", "app").code == 0
        write_recipe(home, 'environment = { APP_MODE = "b" }\n')
        done = home.run("build", "app")
    assert (done.code, "another WHEELFARM_RECIPES" in done.err) == (30, True), done.err


def test_changed_limits_do_not_build_anew(home: Home) -> None:
    home.upstream.add(Project(name="app"))
    for seconds in (100, 200):
        settings = write_recipe(home, f"limits = {{ timeout-s = {seconds} }}\n")
        assert home.run("build", "app", environment=settings).code == 0

    assert len(home.build_logs()) == 1


def test_limits_of_a_recipe_hold_for_its_project(home: Home) -> None:
    home.upstream.add(Project(name="app", build_code="import time; time.sleep(3000)"))
    settings = write_recipe(home, "limits = { timeout-s = 1 }\n")

    done = home.run("build", "app", environment=settings)

    assert done.code == 21, done.err
    assert "after 2 s" in done.err  # tried once more with twice as much


def test_extra_build_requirements_and_constraints(home: Home) -> None:
    home.upstream.add(
        Project(name="app", build_code="import helper; print('helper is', helper.VERSION)"),
        Project(name="helper", version="1.0"),
        Project(name="helper", version="2.0"),
    )
    settings = write_recipe(home, 'extra-build-requirements = ["helper"]\nbuild-constraints = ["helper<2"]\n')

    assert home.run("build", "app", environment=settings).code == 0
    assert "helper is 1.0" in build_log(home)


def test_patch_is_applied_before_the_build(home: Home) -> None:
    home.upstream.add(Project(name="app", modules={"app.py": "answer = 41\n"}))
    settings = write_recipe(home, 'patches = ["answer.patch"]\n')
    (home.root / "recipes" / "answer.patch").write_text(_patch('"app.py": "answer = 41', '"app.py": "answer = 42'))

    done = home.run("install", "--target-dir", home.root / "target", "app", environment=settings)

    assert done.code == 0, done.err
    assert (home.root / "target" / "app.py").read_text() == "answer = 42\n"


def test_patch_that_does_not_apply_fails_the_build(home: Home) -> None:
    home.upstream.add(Project(name="app"))
    settings = write_recipe(home, 'patches = ["answer.patch"]\n')
    (home.root / "recipes" / "answer.patch").write_text(_patch("no such line", "at all"))

    done = home.run("build", "app", environment=settings)

    assert done.code == 20, done.err
    assert "patch 1 of the recipe does not apply" in done.err


def test_build_requirements_of_a_recipe_stand_for_all_of_the_sdists_own(home: Home) -> None:
    home.upstream.add(
        Project(name="app", build_requires=["absent"], asks=["absent"], build_code="import helper"),
        Project(name="helper"),
    )
    settings = write_recipe(home, 'build-requirements = ["helper"]\n')

    done = home.run("build", "app", environment=settings)

    assert done.code == 0, done.err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("environment = 1\n", "'environment'"),
        ('enviroment = { A = "1" }\n', "unknown key 'enviroment'"),
        ('environment = { PATH = "/x" }\n', "'PATH'"),
        ('patches = ["absent.patch"]\n', "absent.patch"),
        ('patches = ["../up.patch"]\n', "'../up.patch'"),
        ('versions = "new"\n', "'new'"),
        ('build-constraints = ["x @ file:///etc/passwd"]\n', "file:///etc/passwd"),
        ("limits = { timeout-s = -1 }\n", "'timeout-s'"),
        ("limits = { time-s = 1 }\n", "unknown key 'time-s'"),
        ("not toml", "not TOML"),
    ],
)
def test_recipe_that_is_wrong_is_refused_by_name(home: Home, text: str, said: str) -> None:
    settings = write_recipe(home, text)
    path = Path(settings["WHEELFARM_RECIPES"]) / "app.toml"

    checked = home.run("recipe", "check", path)
    built = home.run("build", "app", environment=settings)

    for done in (checked, built):
        assert done.code in (2, 3), done.err
        assert said in done.err
        assert str(path.parent) in done.err
        assert "Traceback" not in done.err


def test_recipe_show_gives_the_file_and_the_list(home: Home) -> None:
    settings = write_recipe(home, 'environment = { APP_MODE = "fast" }\n')

    shown = home.run("recipe", "show", "App", environment=settings)
    listed = home.run("recipe", "show", environment=settings)
    unknown = home.run("recipe", "show", "nothing", environment=settings)

    assert 'environment = { APP_MODE = "fast" }' in shown.out
    assert "app (app.toml)" in listed.out
    assert (unknown.code, "nothing" in unknown.err) == (33, True)


def test_shipped_recipes_are_sound(home: Home) -> None:
    import wheelfarm_services.recipe_book as book

    found = sorted(book.SHIPPED.glob("*.toml"))
    done = home.run("recipe", "check", *found) if found else None
    assert done is None or done.code == 0, done.err


def _patch(old: str, new: str) -> str:
    """A patch of `tiny.json` that replaces a part of its only line."""
    line = Project(name="app", modules={"app.py": "answer = 41\n"}).files()["tiny.json"].decode()
    changed = line.replace(old, new) if old in line else new
    before = line if old in line else old
    note = "\\ No newline at end of file\n"
    return f"--- a/tiny.json\n+++ b/tiny.json\n@@ -1 +1 @@\n-{before}\n{note}+{changed}\n{note}"
