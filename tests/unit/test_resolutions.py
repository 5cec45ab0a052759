"""Resolutions that a worker remembers."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.values import make_sdist, make_target
from wheelfarm.job import Sdist
from wheelfarm.resolution import Account, MetadataPending, Resolution
from wheelfarm_workers.resolutions import Resolutions

TARGET = make_target()
OTHER_TARGET = make_target(revision="f" * 64)


@dataclass
class Resolver:
    """Stands for uv: what it was asked, and what it answers."""

    answer: Resolution | MetadataPending = field(default_factory=lambda: Resolution(sdists=(make_sdist(),)))
    asked: list[tuple[object, object]] = field(default_factory=list)
    now: float = 0.0

    def resolve(self, requirements: object, *, constraints: object, **_: object) -> Resolution | MetadataPending:
        self.asked.append((requirements, constraints))
        return self.answer


@dataclass
class Farm:
    url: str = "http://farm.example"
    token: str = ""

    def tell(self, line: str) -> None:
        raise AssertionError(line)

    def account(self, resolution_id: str) -> Account:
        raise AssertionError(resolution_id)

    def see_local(self, resolution_id: str, sdists: Sequence[Sdist]) -> None:
        raise AssertionError(resolution_id)


@pytest.fixture
def resolver() -> Resolver:
    return Resolver()


@pytest.fixture
def remembered(resolver: Resolver, tmp_path: Path) -> Resolutions:
    return Resolutions(Farm(), tmp_path, resolver=resolver.resolve, clock=lambda: resolver.now)


def test_same_question_is_answered_from_memory_for_a_minute(resolver: Resolver, remembered: Resolutions) -> None:
    for now in (0.0, 59.0, 61.0):
        resolver.now = now
        assert remembered.resolve(["a"], ["b<2"], TARGET) == resolver.answer
    assert len(resolver.asked) == 2


def test_other_question_is_asked(resolver: Resolver, remembered: Resolutions) -> None:
    for requirements, constraints, target in (
        (["a"], [], TARGET),
        (["a"], ["b<2"], TARGET),
        (["a", "b"], [], TARGET),
        (["a"], [], OTHER_TARGET),
    ):
        remembered.resolve(requirements, constraints, target)
    assert len(resolver.asked) == 4


def test_pending_metadata_is_not_remembered(resolver: Resolver, remembered: Resolutions) -> None:
    resolver.answer = MetadataPending(sdists=(make_sdist(),))
    assert remembered.resolve(["a"], [], TARGET) == remembered.resolve(["a"], [], TARGET)
    assert len(resolver.asked) == 2
