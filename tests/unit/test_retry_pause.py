import pytest

from wheelfarm.job import FailureClass
from wheelfarm_workers.failure import retry_pause_s

PARTS = FailureClass.INFRASTRUCTURE


@pytest.mark.parametrize("failure_class", [each for each in FailureClass if each is not PARTS])
def test_what_no_time_mends_is_not_paused_for(failure_class: FailureClass) -> None:
    assert retry_pause_s(failure_class, 2, 0.5) == 0


def test_pauses_grow_by_the_attempt_up_to_a_bound() -> None:
    assert [retry_pause_s(PARTS, attempt, 0.5) for attempt in (1, 2, 3, 4, 9)] == [1, 4, 16, 64, 120]


def test_pauses_of_one_attempt_are_spread_by_half_to_both_sides() -> None:
    assert [retry_pause_s(PARTS, 2, chance) for chance in (0.0, 1.0)] == [2, 6]
