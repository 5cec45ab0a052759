import json
from dataclasses import replace
from pathlib import Path

import pytest

from wheelfarm.errors import InputError
from wheelfarm.recipe import ProjectRecipes, Recipe, RecipeLimits, RecipeTest, parse_recipes, read_recipe_file

BASE = """
project = "app"
[[recipe]]
reason = "Everything."
environment = { A = "1", B = "1" }
extra-build-requirements = ["numpy"]
limits = { cores = 4, timeout-s = 10 }
[[recipe]]
reason = "Old ones."
versions = "<2"
environment = { B = "2" }
build-constraints = ["cython<3"]
limits = { cores = 1 }
[[recipe]]
reason = "New Pythons."
python = ">=3.12"
build-requirements = []
"""


def parse(text: str) -> ProjectRecipes:
    return parse_recipes(text, origin="app.toml", patches={"a.patch": "a" * 64})


def rule(text: str) -> str:
    return f'project = "app"\n[[recipe]]\nreason = "Why."\n{text}\n'


def test_rules_that_hold_are_laid_on_one_another_in_order() -> None:
    found = parse(BASE).recipe_for("1.0", "3.11.2")

    assert found == Recipe(
        reason="Everything. Old ones.",
        environment={"A": "1", "B": "2"},
        extra_build_requirements=("numpy",),
        build_constraints=("cython<3",),
        limits=RecipeLimits(cores=1, timeout_s=10),
    )


def test_rules_go_by_version_and_by_python() -> None:
    recipes = parse(BASE)

    assert recipes.recipe_for("2.0", "3.11.2").build_constraints == ()
    assert recipes.recipe_for("2.0", "3.11.2").build_requirements is None
    assert recipes.recipe_for("2.0", "3.12.1").build_requirements == ()
    assert recipes.recipe_for("2.0b1", "3.12.0rc1").build_requirements is None


def test_recipe_survives_its_json() -> None:
    for python in ("3.11.2", "3.12.1"):
        found = parse(BASE).recipe_for("1.0", python)
        assert Recipe.from_json(found.to_json()) == found


def test_recipe_that_asks_for_nothing_has_no_digest() -> None:
    assert Recipe().digest == ""
    assert Recipe(reason="None at all.").digest == ""
    assert parse(rule('versions = "<1"\nenvironment = { A = "1" }')).recipe_for("2", "3.11").digest == ""


def test_digest_tells_limits_and_the_build_digest_does_not() -> None:
    plain, limited = (parse(rule(text)).recipe_for("1", "3.11") for text in ("", "limits = { cores = 1 }"))
    changed = parse(rule('environment = { A = "1" }')).recipe_for("1", "3.11")

    assert plain.digest != limited.digest
    assert plain.build_digest == limited.build_digest == ""
    assert changed.build_digest != ""


def test_patches_enter_by_their_contents() -> None:
    one = parse_recipes(rule('patches = ["a.patch"]'), origin="x", patches={"a.patch": "a" * 64})
    other = parse_recipes(rule('patches = ["a.patch"]'), origin="x", patches={"a.patch": "b" * 64})

    assert one.recipe_for("1", "3.11").digest != other.recipe_for("1", "3.11").digest


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "'project' must be"),
        ('project = "App"\n', "'App'"),
        ('project = "app"\n', "has no [[recipe]]"),
        ('project = "app"\nrecipes = []\n', "unknown key 'recipes'"),
        ('project = "app"\n[[recipe]]\n', "'reason' is missing"),
        ('project = "app"\nrecipe = [1]\n', "a table is expected"),
        (rule("bootstrap = {}"), "unknown key 'bootstrap'"),
        (rule('environment = { "A B" = "1" }'), "'A B'"),
        (rule("environment = { A = 1 }"), "A must be a string"),
        (rule('environment = { LD_PRELOAD = "x" }'), "'LD_PRELOAD'"),
        (rule('environment = { PYTHONPATH = "x" }'), "'PYTHONPATH'"),
        (rule("config-settings = { a = [1] }"), "'a' must be"),
        (rule("build-constraints = [1]"), "a list of requirements"),
        (rule('build-constraints = "cython"'), "a list is expected"),
        (rule('extra-build-requirements = ["not a requirement"]'), "'not a requirement'"),
        (rule('extra-build-requirements = ["x @ https://example.invalid/x.whl"]'), "names a URL"),
        (rule('patches = ["b.patch"]'), "no 'b.patch'"),
        (rule('patches = ["/etc/passwd"]'), "'/etc/passwd'"),
        (rule("limits = { cores = true }"), "'cores'"),
        (rule('python = "3"'), "'3' is no version specifier"),
        ("a = ", "is not TOML"),
    ],
)
def test_what_is_wrong_is_named(text: str, said: str) -> None:
    with pytest.raises(InputError) as raised:
        parse(text)
    assert said in raised.value.message + raised.value.hint
    assert "app.toml" in raised.value.message


def test_file_is_read_with_the_patches_beside_it(tmp_path: Path) -> None:
    (tmp_path / "fix.patch").write_text("--- a\n")
    (tmp_path / "app.toml").write_text(rule('patches = ["fix.patch"]'))

    recipes = read_recipe_file(tmp_path / "app.toml")

    assert recipes.recipe_for("1", "3.11").patches == tuple(recipes.patches.values())
    assert len(recipes.patches["fix.patch"]) == 64


def test_file_must_be_named_by_its_project(tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text(rule(""))
    with pytest.raises(InputError, match="'app'") as raised:
        read_recipe_file(tmp_path / "other.toml")
    assert raised.value.hint == "Name it app.toml."


@pytest.mark.parametrize("data", [b"\xff", b"#" * (2 << 20)])
def test_file_that_is_no_text_or_too_large_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "app.toml").write_bytes(data)
    with pytest.raises(InputError, match=r"app\.toml"):
        read_recipe_file(tmp_path / "app.toml")


def test_tests_of_rules_are_laid_together_and_survive_their_json() -> None:
    later = '[[recipe]]\nreason = "More."\ntest = { import = ["b.c"], command = ["python", "-m", "b"], load = false }\n'
    found = parse(rule('test = { import = ["a"], command = ["true"] }') + later).recipe_for("1", "3.11")

    assert found.test == RecipeTest(imports=("a", "b.c"), command=("python", "-m", "b"), load=False)
    assert Recipe.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_test_builds_anew_and_a_recipe_without_one_is_what_it_was_before_there_were_tests() -> None:
    plain, tested = (
        parse(rule(f'environment = {{ A = "1" }}\n{text}')).recipe_for("1", "3.11")
        for text in ("", 'test = { import = ["a"] }')
    )

    assert "test" not in plain.to_json()
    assert plain.build_digest != tested.build_digest


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('test = { import = "a" }', "a list is expected"),
        ('test = { import = ["a-b"] }', "'a-b' is not the name of a module"),
        ('test = { import = ["os; x"] }', "is not the name of a module"),
        ("test = { command = [1] }", "a list of strings is expected"),
        ('test = { load = "no" }', "true or false is expected"),
        ('test = { imports = ["a"] }', "unknown key 'imports'"),
    ],
)
def test_test_that_is_malformed_is_refused(text: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        parse(rule(text))


def test_system_packages_of_rules_that_hold_are_joined_and_change_the_digest() -> None:
    text = BASE.replace("limits = { cores = 1 }", 'system-packages = ["libyaml-dev"]').replace(
        'environment = { A = "1", B = "1" }', 'system-packages = ["libffi-dev", "libyaml-dev"]'
    )
    found = parse(text).recipe_for("1.0", "3.11.2")
    assert found.system_packages == ("libffi-dev", "libyaml-dev")
    assert Recipe.from_json(json.loads(json.dumps(found.to_json()))) == found
    without = replace(found, system_packages=())
    assert "system_packages" not in without.to_json()
    assert without.build_digest != found.build_digest


@pytest.mark.parametrize("name", ["-o=Dir=/", "Libyaml", "a b", ""])
def test_name_that_is_no_package_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="'system-packages'"):
        parse(rule(f'system-packages = ["{name}"]'))


def test_sets_of_packages_are_found_whatever_versions_ask_for_them() -> None:
    text = """
project = "x"
[[recipe]]
reason = "r"
versions = ">=2,<4"
system-packages = ["libb"]
[[recipe]]
reason = "r"
versions = ">3"
system-packages = ["liba"]
[[recipe]]
reason = "r"
versions = "==1.*"
python = ">=3.12"
system-packages = ["libc"]
[[recipe]]
reason = "r"
versions = "==5.1"
limits = { cores = 1 }
"""
    recipes = parse_recipes(text, origin="x.toml", patches={})
    assert recipes.system_packages("3.11.2") == {("libb",), ("liba", "libb"), ("liba",)}
    assert recipes.system_packages("3.12.0") == {("libb",), ("liba", "libb"), ("liba",), ("libc",)}
