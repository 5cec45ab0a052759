from itertools import pairwise

import pytest

from wheelfarm.schedule import makespan, without_cycles


def test_independent_builds_share_the_slots() -> None:
    seconds = {"a": 3.0, "b": 2.0, "c": 2.0}
    assert makespan(seconds, {}, 1) == 7.0
    assert makespan(seconds, {}, 2) == 4.0
    assert makespan(seconds, {}, 9) == 3.0


def test_build_begins_when_what_it_needs_is_there() -> None:
    seconds = {"app": 1.0, "left": 2.0, "right": 5.0, "backend": 1.0}
    needs = {"app": ["left", "right"], "left": ["backend"], "right": ["backend"]}
    assert makespan(seconds, needs, 2) == 7.0
    assert makespan(seconds, needs, 1) == 9.0


def test_what_is_cached_is_waited_for_by_nobody() -> None:
    assert makespan({"app": 1.0}, {"app": ["cached"], "cached": ["other"]}, 2) == 1.0


def test_free_slot_takes_what_was_asked_for_first() -> None:
    assert makespan({"long": 5.0, "short": 1.0, "last": 1.0}, {"last": ["short"]}, 1) == 7.0
    assert makespan({"short": 1.0, "last": 1.0, "long": 5.0}, {"last": ["short"]}, 2) == 5.0


def test_nothing_takes_no_time() -> None:
    assert makespan({}, {}, 2) == 0.0


def test_builds_that_need_each_other_end_all_the_same() -> None:
    needs = {"a": ["b"], "b": ["c"], "c": ["a"], "d": ["d"]}
    assert makespan(dict.fromkeys("abcd", 1.0), needs, 1) == 4.0


@pytest.mark.parametrize(
    ("needs", "members"),
    [
        ({"a": ["b"], "b": ["a"]}, [{"a", "b"}]),
        ({"a": ["a"]}, [{"a"}]),
        ({"a": ["b"], "b": ["c"], "c": ["b", "d"], "d": []}, [{"b", "c"}]),
        ({"a": ["b"], "b": ["c"], "c": []}, []),
    ],
)
def test_cycles_are_told_in_the_order_of_need(needs: dict[str, list[str]], members: list[set[str]]) -> None:
    _, cycles = without_cycles(needs)
    assert [set(cycle) for cycle in cycles] == members
    for cycle in cycles:
        assert cycle[0] == cycle[-1]
        assert all(need in needs[name] for name, need in pairwise(cycle))
