import sys
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
from wheelfarm_workers.grounds import Definitions
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


@pytest.mark.parametrize("text", ["", "host:", "HOST", "../etc", "x/y"])
def test_what_is_no_target_of_a_worker_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match="is no target of a worker"):
        own_target(text, Settings(), Definitions(tmp_path, cache=tmp_path))


def test_an_undefined_target_is_refused_with_the_names_that_are_near(tmp_path: Path) -> None:
    define_host(tmp_path, "debian12")
    with pytest.raises(InputError, match=r"no target 'debian13'\. Near: debian12\."):
        own_target("debian13", Settings(), Definitions(tmp_path, cache=tmp_path))


def test_a_target_of_a_resource_class_is_served_by_workers_of_that_class_alone(tmp_path: Path) -> None:
    define_host(tmp_path, "big", 'resource-class = "large"')
    with pytest.raises(InputError, match="of the resource class large, and this one is of none") as error:
        Definitions(tmp_path, cache=tmp_path).target("big")
    assert "WHEELFARM_RESOURCE_CLASS=large" in error.value.hint
    assert Definitions(tmp_path, cache=tmp_path, resource_class="large").target("big").name == "big"


def test_what_a_definition_says_of_builds_is_part_of_the_revision(tmp_path: Path) -> None:
    definitions = Definitions(tmp_path, cache=tmp_path)
    revisions = set()
    for number, line in enumerate(
        ("", 'variant = "avx2"', 'environment = { CFLAGS = "-O3" }', 'tag-policy = "portable"')
    ):
        define_host(tmp_path, f"x{number}", line)
        revisions.add(definitions.target(f"x{number}").revision)
    define_host(tmp_path, "limited", "limits = { timeout-s = 9 }")
    assert len(revisions) == 4
    assert definitions.target("limited").revision in revisions


def test_a_definition_that_was_changed_since_is_no_ground_for_the_old_revision(tmp_path: Path) -> None:
    define_host(tmp_path, "mine")
    definitions = Definitions(tmp_path, cache=tmp_path)
    target = definitions.target("mine")
    define_host(tmp_path, "mine", 'variant = "avx2"')
    assert definitions.definition(target) is None


def define_host(folder: Path, name: str, *lines: str) -> None:
    (folder / f"{name}.toml").write_text("\n".join([f'python = "{sys.executable}"', *lines]))


def test_host_is_this_interpreter_or_a_named_one(tmp_path: Path) -> None:
    settings, definitions = Settings(cache=tmp_path), Definitions(tmp_path, cache=tmp_path)
    host = own_target("host", settings, definitions)
    assert own_target(f"host:{host.python}", settings, definitions) == host


def test_a_worker_whose_toolchain_changed_builds_nothing_more() -> None:
    told: list[str] = []
    targets = own(TARGET, now=make_target(revision="f" * 64), outdated=lambda: told.append("outdated"))
    with pytest.raises(FarmUnavailable, match="changed under a worker"):
        targets.target(make_job())
    assert told == ["outdated"]
