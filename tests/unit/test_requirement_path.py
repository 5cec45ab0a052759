import pytest

from tests.support.values import make_target
from wheelfarm.requirement_path import Step, requirement_path, requires_dist_of
from wheelfarm.target_markers import marker_environment

ENVIRONMENT = marker_environment(make_target())
SET = {
    "app": ["Library[fast]>=2", "other; python_version < '3'"],
    "library": ["base", "speedups>1; extra == 'fast'", "colours; extra == 'pretty'"],
    "speedups": ["base"],
    "base": [],
    "tool": ["app", "base<9"],
}


def way(asked: list[str], goal: str) -> list[tuple[str, str]]:
    return [(step.requirement, step.of) for step in requirement_path(asked, SET, goal, ENVIRONMENT)]


def test_what_was_asked_for_is_its_own_way() -> None:
    assert requirement_path(["app>=1"], SET, "app", ENVIRONMENT) == (Step(requirement="app>=1"),)


def test_shortest_way_is_taken() -> None:
    assert way(["tool"], "base") == [("tool", ""), ("base<9", "tool")]


def test_extra_is_followed_where_it_is_asked_for() -> None:
    assert way(["app"], "speedups") == [
        ("app", ""),
        ("Library[fast]>=2", "app"),
        ("speedups>1; extra == 'fast'", "library"),
    ]
    assert way(["library"], "speedups") == []
    assert way(["library[FAST]"], "speedups") == [("library[FAST]", ""), ("speedups>1; extra == 'fast'", "library")]


@pytest.mark.parametrize("goal", ["other", "colours", "absent"])
def test_what_no_marker_or_extra_brings_has_no_way(goal: str) -> None:
    assert way(["app", "tool"], goal) == []


def test_requirements_that_lead_in_a_ring_end() -> None:
    ring = {"a": ["b"], "b": ["a"]}
    assert requirement_path(["a"], ring, "c", ENVIRONMENT) == ()


def test_marker_of_what_was_asked_for_counts() -> None:
    assert way(["app; sys_platform == 'win32'"], "app") == []
    assert way(["app; python_full_version == '3.11.7' and platform_machine == 'x86_64'"], "app") != []


@pytest.mark.parametrize("line", ["not a requirement", "app; nonsense == '1'", "app @ ", "", "(" * 5000])
def test_foreign_text_that_is_no_requirement_is_passed_over(line: str) -> None:
    assert requirement_path(["tool"], {"tool": [line, "app"]}, "app", ENVIRONMENT)[-1].requirement == "app"


def test_requires_dist_is_read_of_metadata() -> None:
    metadata = (
        b"Metadata-Version: 2.1\nName: app\nRequires-Dist: a>1\nRequires-Dist: b;\n extra == 'x'\n\nRequires-Dist: c\n"
    )
    assert requires_dist_of(metadata) == ("a>1", "b; extra == 'x'")
