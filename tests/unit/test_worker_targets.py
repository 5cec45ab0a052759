from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.values import make_job, make_target
from wheelfarm.errors import FarmUnavailable, InputError
from wheelfarm.settings import Settings
from wheelfarm.target import Target
from wheelfarm_services.store import DirectoryStore
from wheelfarm_services.targets import RegisteredTargets as Registered
from wheelfarm_services.targets import define
from wheelfarm_workers.targets import OwnTargets, RegisteredTargets, own_target

TARGET = make_target()


def own(*targets: Target, now: Target | None = None, outdated: Callable[[], None] = lambda: None) -> OwnTargets:
    """The targets of a worker, of which the machine has `now` what it had."""
    return OwnTargets(targets, again=lambda target: now or target, outdated=outdated)


def test_a_worker_of_a_fleet_builds_with_its_own_interpreter_whatever_was_registered(tmp_path: Path) -> None:
    store = DirectoryStore.create(tmp_path)
    Registered(store).register(replace(TARGET, python="/tmp/evil", prefix="/tmp"))
    assert own(TARGET).target(make_job()) == TARGET
    define(store, TARGET)
    assert RegisteredTargets(store).target(make_job()).python == TARGET.python


@pytest.mark.parametrize("field", ["target", "target_revision"])
def test_a_job_for_another_target_or_revision_is_refused_with_what_is_served(field: str) -> None:
    job = replace(make_job(), **{field: "f" * 64})  # type: ignore[arg-type]
    with pytest.raises(InputError, match=rf"{'f' * 12}.* for {TARGET.name} \(revision {TARGET.revision[:12]}\) alone"):
        own(TARGET).target(job)


@pytest.mark.parametrize("text", ["", "host:", "debian12", "python3", "HOST"])
def test_what_is_no_target_of_a_worker_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="is no target of a worker"):
        own_target(text, Settings())


def test_host_is_this_interpreter_or_a_named_one(tmp_path: Path) -> None:
    settings = Settings(cache=tmp_path)
    assert own_target("host", settings) == own_target(f"host:{own_target('host', settings).python}", settings)


def test_a_worker_whose_toolchain_changed_builds_nothing_more() -> None:
    told: list[str] = []
    targets = own(TARGET, now=make_target(revision="f" * 64), outdated=lambda: told.append("outdated"))
    with pytest.raises(FarmUnavailable, match="changed under a worker"):
        targets.target(make_job())
    assert told == ["outdated"]
