from dataclasses import replace

from tests.support.values import make_built_wheel, make_sdist, make_target
from wheelfarm.explanation import BuildSystem, Explanation, Origin, ResolvedSet, Use, bringings
from wheelfarm.explanation_text import explanation_lines, tree_lines
from wheelfarm.requirement_path import Step
from wheelfarm.target_markers import marker_environment

TARGET = make_target()
ENVIRONMENT = marker_environment(TARGET)


def file(name: str) -> str:
    return make_built_wheel(name).filename


def use(name: str, *way: Step) -> Use:
    return Use(filename=file(name), way=way)


def make_origin(name: str, *built_with: str) -> Origin:
    """A wheel built with others, each of which it requires itself."""
    uses = tuple(use(other, Step(requirement=f"{other}>=0")) for other in built_with)
    return Origin(wheel=make_built_wheel(name), sdist=make_sdist(name), target=TARGET, built_with=uses)


def explain(name: str, *origins: Origin, **used_by: list[Use]) -> Explanation:
    return Explanation(
        wheel=make_built_wheel(name),
        origins={origin.wheel.filename: origin for origin in origins},
        used_by={file(used): tuple(uses) for used, uses in used_by.items()},
    )


def resolved(asked: list[str], **requires_dist: list[str]) -> ResolvedSet:
    wheels = {name: make_built_wheel(name) for name in requires_dist}
    return ResolvedSet(asked=tuple(asked), resolved_at=1e9, wheels=wheels, requires_dist=requires_dist)


def test_json_gives_the_explanation_again() -> None:
    origin = replace(
        make_origin("app", "backend"),
        build_system=BuildSystem(requires=("backend>=0",), backend="backend", asked=("helper",)),
        constraints=("setuptools<60",),
        recipe={"environment": {"A": "1"}},
        built_at=1e9,
        duration_s=1.5,
    )
    explanation = explain("app", origin, make_origin("backend"), app=[use("other", Step(requirement="app", of="x"))])
    assert Explanation.from_json(explanation.to_json()) == explanation


def test_each_question_that_led_to_a_wheel_is_told_once() -> None:
    sets = [
        resolved(["app", "tool"], app=["library>1"], tool=[], library=[]),
        resolved(["app", "tool"], app=["library>1"], tool=[], library=[]),
        resolved(["library"], library=[]),
        resolved(["tool"], tool=[]),
    ]
    found = list(bringings(explain("library", make_origin("library")), sets, ENVIRONMENT))
    assert [[step.requirement for step in way.runtime] for way in found] == [["app", "library>1"], ["library"]]


def test_other_wheel_of_the_same_project_was_not_brought() -> None:
    other = replace(make_built_wheel("library"), filename="library-0.9-1-py3-none-any.whl")
    earlier = replace(resolved(["library"], library=[]), wheels={"library": other})
    assert list(bringings(explain("library", make_origin("library")), [earlier], ENVIRONMENT)) == []


def test_build_requirement_is_brought_by_what_was_built_with_it() -> None:
    explanation = explain(
        "backend",
        make_origin("backend"),
        backend=[use("plugin", Step(requirement="backend>3"))],
        plugin=[use("library", Step(requirement="plugin[x]"))],
    )
    (way,) = bringings(explanation, [resolved(["app"], app=["library"], library=[])], ENVIRONMENT)
    assert [step.requirement for step in way.runtime] == ["app", "library"]
    assert [(name, way[0].requirement) for name, way in way.builds] == [
        (file("library"), "plugin[x]"),
        (file("plugin"), "backend>3"),
    ]


def test_what_nothing_remembered_asked_for_has_no_way_however_it_was_used() -> None:
    explanation = explain("backend", make_origin("backend"), backend=[use("app")], app=[use("backend")])
    assert list(bringings(explanation, [], ENVIRONMENT)) == []


def test_tree_goes_down_to_backends_that_build_themselves_and_draws_a_subtree_once() -> None:
    explanation = explain(
        "app",
        make_origin("app", "left", "right"),
        make_origin("left", "plugin"),
        make_origin("right", "plugin", "gone"),
        make_origin("plugin", "backend"),
        make_origin("backend"),
    )
    assert list(tree_lines(explanation)) == [
        "  ├── left 1.0  for left>=0",
        "  │   └── plugin 1.0  for plugin>=0",
        "  │       └── backend 1.0  for backend>=0 [builds itself]",
        "  └── right 1.0  for right>=0",
        "      ├── plugin 1.0  for plugin>=0 (*)",
        "      └── gone 1.0  for gone>=0 [no longer on the index]",
        "  (*) built with what is drawn above",
    ]


def test_tree_of_projects_that_were_built_with_each_other_ends() -> None:
    explanation = explain("a", make_origin("a", "b"), make_origin("b", "a"))
    assert list(tree_lines(explanation)) == [
        "  └── b 1.0  for b>=0",
        "      └── a 1.0  for a>=0 (*)",
        "  (*) built with what is drawn above",
    ]


def test_provenance_is_told_as_far_as_it_was_recorded() -> None:
    old = "\n".join(explanation_lines(explain("app", make_origin("app")), []))
    assert "at a time that was not recorded" in old
    assert "fallback" not in old
    new = replace(make_origin("app"), built_at=0.0, duration_s=2.34, fallback="setuptools of 2015", url="http://x/app")
    told = "\n".join(explanation_lines(explain("app", new), []))
    assert "1970-01-01 00:00:00 UTC, in 2.3 s" in told
    assert "setuptools of 2015" in told
    assert "listed at http://x/app" in told


def test_recipe_is_told_by_its_reason_and_what_it_sets() -> None:
    recipe = {
        "reason": "Old C.",
        "build_constraints": ["cython<3"],
        "patches": [],
        "limits": {"cores": 1, "disk": None},
    }
    told = "\n".join(explanation_lines(explain("app", replace(make_origin("app"), recipe=recipe)), []))
    assert 'recipe      Old C. (build-constraints = ["cython<3"], limits = {"cores": 1})' in told


def test_revisions_of_the_target_are_told_with_what_changed() -> None:
    built = replace(TARGET, revision="b" * 64, root="2" * 64)
    before = replace(TARGET, revision="a" * 64, root="1" * 64)
    now = replace(built, revision="c" * 64)
    explanation = replace(explain("app", replace(make_origin("app"), target=built)), earlier=before)
    assert Explanation.from_json(explanation.to_json()) == explanation
    told = "\n".join(explanation_lines(explanation, [], now))
    assert f"revision {'b' * 12}, native tags, root filesystem sha256:{'2' * 12}" in told
    change = f"root filesystem sha256:{'1' * 12} -> sha256:{'2' * 12}"
    assert f"built before in revision {'a' * 12}; since then changed: {change}" in told
    assert f"now the target is in revision {'c' * 12}; since then changed: its environment or its toolchain" in told
    same = "\n".join(explanation_lines(explain("app", make_origin("app")), [], TARGET))
    assert "since then changed" not in same
