from collections.abc import Callable, Mapping
from dataclasses import replace

from tests.support.values import make_built_wheel, make_sdist, make_target
from wheelfarm.errors import NoSdist, WheelfarmError
from wheelfarm.forecast import Doubt, DurationSource, Forecast
from wheelfarm.job import Failure, FailureClass
from wheelfarm.outlook import Outlook, Question, Survey, outlook
from wheelfarm.outlook_text import outlook_lines
from wheelfarm.resolution import Estimate
from wheelfarm.target import Target

TARGET = make_target()


def forecast(name: str, *requires: str, version: str = "1.0", seconds: float | None = 1.0) -> Forecast:
    source = DurationSource.NONE if seconds is None else DurationSource.VERSION
    return Forecast(
        sdist=make_sdist(name, version), job="j", requires=requires, seconds=seconds, seconds_from=source, backend="b"
    )


def cached(name: str) -> Forecast:
    return Forecast(sdist=make_sdist(name), job="j", wheel=make_built_wheel(name))


def estimate(*names: str, unknown: tuple[str, ...] = ()) -> Estimate:
    return Estimate(sdists=tuple(map(make_sdist, names)), unknown=tuple(map(make_sdist, unknown)))


def look(
    requested: Estimate,
    *forecasts: Forecast,
    answers: Mapping[Question, Estimate | WheelfarmError] | None = None,
    target: Target = TARGET,
    has_tool: Callable[[str], bool | None] = lambda tool: True,
) -> Outlook:
    found = Survey(
        requested=requested, forecasts={str(one.sdist): one for one in forecasts}, answers=dict(answers or {})
    )
    return outlook(found, target, slots=2, has_tool=has_tool)


def doubts(found: Outlook, name: str) -> list[tuple[str, bool]]:
    return [(doubt.text, doubt.likely) for doubt in found.prospects[name].doubts]


def test_builds_are_told_with_what_they_are_needed_for() -> None:
    found = look(
        estimate("app"),
        forecast("app", "backend", seconds=4.0),
        forecast("backend", seconds=2.0),
        answers={(("backend",), ()): estimate("backend")},
    )
    assert found.prospects["app==1.0"].needs == ("backend==1.0",)
    assert found.prospects["backend==1.0"].builds == ("app==1.0",)
    assert [prospect.asked_for for prospect in found.prospects.values()] == [True, False]
    assert (found.work_s, found.wall_s) == (6.0, 6.0)


def test_cached_wheels_take_no_time() -> None:
    found = look(estimate("app", "library"), cached("app"), forecast("library", seconds=4.0))
    assert (found.work_s, found.wall_s) == (4.0, 4.0)
    lines = "\n".join(outlook_lines(found))
    assert "2 sdists: 1 cached, 1 to build" in lines
    assert "cached  app==1.0" in lines


def test_build_of_unknown_length_is_guessed_by_its_kind_and_says_so() -> None:
    compiled = replace(forecast("c", seconds=None), native=True)
    found = look(estimate("a", "b", "c"), forecast("a", seconds=2.0), forecast("b", seconds=None), compiled)
    seconds = {name: prospect.seconds for name, prospect in found.prospects.items() if prospect.guessed}
    assert set(seconds) == {"b==1.0", "c==1.0"}
    assert seconds["c==1.0"] > seconds["b==1.0"]
    lines = "\n".join(outlook_lines(found))
    assert f"~{seconds['b==1.0']} s" in lines
    assert "2 of these times" in lines


def test_first_plan_of_a_farm_has_guesses_alone() -> None:
    found = look(estimate("a"), forecast("a", seconds=None))
    assert found.wall_s > 0
    assert found.prospects["a==1.0"].guessed


def test_remembered_failure_is_likely_to_come_again() -> None:
    failure = Failure(
        failure_class=FailureClass.BUILD, error="build-failed", message="no header foo.h", hint="apt-get install foo"
    )
    found = look(estimate("a"), replace(forecast("a"), failure=failure))
    assert doubts(found, "a==1.0") == [("it failed before: no header foo.h", True)]
    assert "1 likely to fail: a==1.0" in list(outlook_lines(found))
    assert "        hint: apt-get install foo" in list(outlook_lines(found))


def test_build_requirements_without_a_solution_are_told() -> None:
    found = look(
        estimate("a"), forecast("a", "wheels-only"), answers={(("wheels-only",), ()): NoSdist("it has wheels only")}
    )
    ((text, likely),) = doubts(found, "a==1.0")
    assert "wheels only" in text
    assert likely


def test_what_needs_something_that_is_likely_to_fail_is_counted() -> None:
    broken = replace(forecast("broken"), doubts=(Doubt(text="no", likely=True),))
    found = look(
        estimate("app"),
        forecast("app", "library"),
        forecast("library", "broken"),
        broken,
        answers={(("library",), ()): estimate("library"), (("broken",), ()): estimate("broken")},
    )
    assert "2 more can't be built then: app==1.0, library==1.0" in list(outlook_lines(found))


def test_tool_that_the_machine_lacks_is_told() -> None:
    one = replace(forecast("a"), tools=("cargo",))
    here = look(estimate("a"), one, has_tool=lambda tool: tool != "cargo")
    assert doubts(here, "a==1.0") == [("it needs cargo, which this machine lacks", True)]
    assert doubts(look(estimate("a"), one, has_tool=lambda tool: True), "a==1.0") == []
    ((_, likely),) = doubts(look(estimate("a"), one, has_tool=lambda tool: None), "a==1.0")
    assert not likely


def test_setuptools_that_python_3_12_cannot_import_is_told() -> None:
    old = Estimate(sdists=(make_sdist("setuptools", "65.0"),), unknown=())
    asked = forecast("a", "setuptools<66")
    setuptools = forecast("setuptools", version="65.0")
    answers: dict[Question, Estimate | WheelfarmError] = {(("setuptools<66",), ()): old}
    assert doubts(look(estimate("a"), asked, setuptools, answers=answers), "a==1.0") == []
    newer = replace(TARGET, python_version="3.12.1")
    ((text, likely),) = doubts(look(estimate("a"), asked, setuptools, answers=answers, target=newer), "a==1.0")
    assert "setuptools==65.0" in text
    assert likely


def test_projects_whose_requirements_are_not_known_yet_are_named() -> None:
    found = look(
        estimate("a", unknown=("a",)),
        forecast("a", "b"),
        forecast("b"),
        answers={(("b",), ()): estimate("b", unknown=("b",))},
    )
    assert [prospect.metadata_known for prospect in found.prospects.values()] == [False, False]
    assert any(
        line.startswith("the list may change") and line.endswith("a==1.0, b==1.0") for line in outlook_lines(found)
    )


def test_builds_that_need_each_other_are_named() -> None:
    answers: dict[Question, Estimate | WheelfarmError] = {(("b",), ()): estimate("b"), (("a",), ()): estimate("a")}
    found = look(estimate("a"), forecast("a", "b"), forecast("b", "a"), answers=answers)
    assert [set(cycle) for cycle in found.cycles] == [{"a==1.0", "b==1.0"}]
    assert found.wall_s == 2.0


def test_nothing_to_build_says_no_more_than_that() -> None:
    assert list(outlook_lines(look(estimate("a"), cached("a"))))[-1] == "1 sdist: 1 cached, 0 to build"


def test_forecast_is_read_as_it_was_written() -> None:
    failure = Failure(failure_class=FailureClass.BUILD, error="build-failed", message="m")
    one = replace(
        forecast("a", "b"), failure=failure, doubts=(Doubt(text="d", likely=True, hint="h"),), tools=("cargo",)
    )
    for value in (one, cached("b"), forecast("c", seconds=None)):
        assert Forecast.from_json(value.to_json()) == value
