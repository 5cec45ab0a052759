import json
import os
import time
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from packaging.pylock import Pylock

from tests.support.values import make_built_wheel, make_target
from wheelfarm.requirements import Requirements
from wheelfarm.wheel import BuiltWheel
from wheelfarm.wheelhouse import REMEMBERED_S, Wheelhouse

ASKED = Requirements(lines=("app", "b>1"), constraints=("c<2",), hashes={"app": frozenset({"ab" * 32})})
TARGET = make_target()


@pytest.fixture
def house(tmp_path: Path) -> Wheelhouse:
    return Wheelhouse(tmp_path)


def put(house: Wheelhouse, wheel: BuiltWheel, data: bytes = b"wheel") -> BuiltWheel:
    house.wheel(wheel).parent.mkdir(parents=True)
    house.wheel(wheel).write_bytes(data)
    return wheel


@pytest.fixture
def wheel(house: Wheelhouse) -> BuiltWheel:
    return put(house, make_built_wheel())


def test_remembered_resolution_is_recalled(house: Wheelhouse, wheel: BuiltWheel) -> None:
    remembered = house.remember(ASKED, TARGET, [wheel])
    recalled = house.recall(ASKED, TARGET)
    assert recalled is not None
    assert (recalled.wheels, recalled.lock) == (remembered.wheels, remembered.lock) == ((wheel,), remembered.lock)


def test_order_of_requirements_does_not_matter(house: Wheelhouse, wheel: BuiltWheel) -> None:
    house.remember(ASKED, TARGET, [wheel])
    assert house.recall(replace(ASKED, lines=("b>1", "app")), TARGET) is not None


@pytest.mark.parametrize(
    "other",
    [
        replace(ASKED, lines=("app",)),
        replace(ASKED, constraints=()),
        replace(ASKED, hashes={}),
        replace(ASKED, lines=("app",), constraints=("b>1", "c<2")),
    ],
)
def test_other_requirements_recall_nothing(house: Wheelhouse, wheel: BuiltWheel, other: Requirements) -> None:
    house.remember(ASKED, TARGET, [wheel])
    assert house.recall(other, TARGET) is None


def test_other_target_or_revision_recalls_nothing(house: Wheelhouse, wheel: BuiltWheel) -> None:
    house.remember(ASKED, TARGET, [wheel])
    assert house.recall(ASKED, make_target("host-other")) is None
    assert house.recall(ASKED, make_target(revision="f" * 64)) is None


@pytest.mark.parametrize("age_s", [REMEMBERED_S + 60, -60.0])
def test_resolution_older_than_a_day_or_from_the_future_is_forgotten(
    house: Wheelhouse, wheel: BuiltWheel, age_s: float
) -> None:
    lock = house.remember(ASKED, TARGET, [wheel]).lock
    os.utime(lock, (time.time() - age_s,) * 2)
    assert house.recall(ASKED, TARGET) is None


def test_resolution_within_the_day_tells_its_age(house: Wheelhouse, wheel: BuiltWheel) -> None:
    os.utime(house.remember(ASKED, TARGET, [wheel]).lock, (time.time() - 3600,) * 2)
    recalled = house.recall(ASKED, TARGET)
    assert recalled is not None
    assert 3599 < recalled.age_s < 3700


@pytest.mark.parametrize("data", [None, b"", b"whee1"])
def test_resolution_with_a_wheel_that_is_gone_or_changed_is_forgotten(
    house: Wheelhouse, wheel: BuiltWheel, data: bytes | None
) -> None:
    house.remember(ASKED, TARGET, [wheel])
    house.wheel(wheel).unlink()
    if data is not None:
        house.wheel(wheel).write_bytes(data)
    assert house.missing([wheel]) == [wheel]
    assert house.recall(ASKED, TARGET) is None


@pytest.mark.parametrize("damage", ["", "null", "{}", "[1]", '[{"name": "of another version"}]', '"text"'])
def test_memory_that_cannot_be_read_is_no_memory(house: Wheelhouse, wheel: BuiltWheel, damage: str) -> None:
    lock = house.remember(ASKED, TARGET, [wheel]).lock
    lock.with_name("wheels.json").write_text(damage)
    assert house.recall(ASKED, TARGET) is None


def test_lock_of_other_wheels_than_remembered_is_not_used(house: Wheelhouse, wheel: BuiltWheel) -> None:
    other = put(house, make_built_wheel("other", data=b"other"), b"other")
    lock = house.remember(ASKED, TARGET, [wheel]).lock
    lock.with_name("wheels.json").write_text(json.dumps([other.to_json()]))
    assert house.recall(ASKED, TARGET) is None


def test_lock_names_each_wheel_by_path_hash_and_size(house: Wheelhouse, wheel: BuiltWheel) -> None:
    lock = house.remember(ASKED, TARGET, [wheel]).lock
    (package,) = Pylock.from_dict(tomllib.loads(lock.read_text())).packages
    assert package.wheels is not None
    (locked,) = package.wheels
    assert locked.path is not None
    assert (lock.parent / locked.path).resolve() == house.wheel(wheel)
    assert (package.name, str(package.version), locked.size) == ("app", "1.0", wheel.size)
    assert locked.hashes == {"sha256": wheel.sha256}
    assert package.sdist is None


def test_writing_leaves_no_partial_files(house: Wheelhouse, wheel: BuiltWheel) -> None:
    lock = house.remember(ASKED, TARGET, [wheel]).lock
    assert {path.name for path in lock.parent.iterdir()} == {"asked.json", "pylock.toml", "wheels.json"}


def test_past_resolutions_of_a_target_are_told_newest_first_however_old(house: Wheelhouse, wheel: BuiltWheel) -> None:
    old = house.remember(replace(ASKED, lines=("app",)), TARGET, [wheel]).lock
    os.utime(old.with_name("wheels.json"), (1_700_000_000,) * 2)
    house.remember(ASKED, TARGET, [])
    house.remember(ASKED, make_target("host-other"), [])

    newest, oldest = house.past_resolutions(TARGET.name)

    assert (newest.asked, newest.wheels) == (("app", "b>1"), ())
    assert (oldest.asked, oldest.wheels, oldest.resolved_at) == (("app",), (wheel,), 1_700_000_000)


@pytest.mark.parametrize("damage", ["", "null", "[]", '{"lines": 3, "target": "x"}', '{"lines": ["app"]}'])
def test_past_resolution_that_cannot_be_read_is_passed_over(house: Wheelhouse, wheel: BuiltWheel, damage: str) -> None:
    house.remember(ASKED, TARGET, [wheel]).lock.with_name("asked.json").write_text(damage)
    assert house.past_resolutions(TARGET.name) == []
