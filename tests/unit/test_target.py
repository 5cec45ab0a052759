import json
import os
import sys
from contextlib import suppress
from dataclasses import asdict, replace
from importlib.metadata import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.specifiers import SpecifierSet
from packaging.tags import Tag

from tests.support.values import make_target
from tests.support.waiting import wait_until
from wheelfarm.errors import BadInterpreter, InputError
from wheelfarm.target import LATER_FIELDS, Target, host_target, native_tags


def test_target_survives_its_way_over_the_wire() -> None:
    target = make_target()
    assert Target.from_json(json.loads(json.dumps(target.to_json()))) == target


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "Upper"),
        ("name", "../up"),
        ("name", "a" * 101),
        ("queue", ""),
        ("queue", "two words"),
        ("revision", "e" * 63),
        ("revision", "E" * 64),
        ("python", 3),
        ("prefix", None),
        ("abi", ["cp311"]),
        ("surplus", "field"),
    ],
)
def test_malformed_target_is_refused_by_its_field(field: str, value: Any) -> None:
    with pytest.raises(InputError, match=field):
        Target.from_json({**asdict(make_target()), field: value})


@pytest.mark.parametrize("field", [name for name in asdict(make_target()) if name not in LATER_FIELDS])
def test_target_that_lacks_a_field_is_refused(field: str) -> None:
    value = {name: held for name, held in asdict(make_target()).items() if name != field}
    with pytest.raises(InputError, match=field):
        Target.from_json(value)


def test_native_tags_are_the_platforms_own_and_never_manylinux() -> None:
    tags = native_tags(make_target())
    assert {
        Tag("cp311", "cp311", "linux_x86_64"),
        Tag("py3", "none", "any"),
        Tag("cp39", "abi3", "linux_x86_64"),
    } <= tags
    assert {tag.platform for tag in tags} == {"linux_x86_64", "any"}
    assert Tag("cp312", "cp312", "linux_x86_64") not in tags


def test_native_tags_of_free_threaded_python_have_no_abi3() -> None:
    tags = native_tags(replace(make_target(), python_version="3.14.0", abi="cp314t"))
    assert Tag("cp314", "cp314t", "linux_x86_64") in tags
    assert "abi3" not in {tag.abi for tag in tags}
    assert "cp314" not in {tag.abi for tag in tags}


def test_libraries_of_free_threaded_python_lie_in_a_folder_of_their_own() -> None:
    assert make_target().site_packages == "lib/python3.11/site-packages"
    free = replace(make_target(), python_version="3.14.0", abi="cp314t")
    assert free.site_packages == "lib/python3.14t/site-packages"


class FakeInterpreter:
    """A script that answers the probe like an interpreter and counts how often it was asked."""

    def __init__(self, folder: Path, **facts: Any) -> None:
        self.path = folder / "python"
        self._count = folder / "count"
        self._count.write_text("")
        self.answer(**facts)

    def answer(self, **facts: Any) -> None:
        said = {
            "implementation": "cpython",
            "executable": str(self.path),
            "prefix": "/usr",
            "version": "3.11.7",
            "platform": "linux-x86_64",
            "abi": "cp311",
            "sysconfig": {"CFLAGS": "-O2"},
            **facts,
        }
        self.path.write_text(f"#!/bin/sh\necho asked >> '{self._count}'\ncat <<'END'\n{json.dumps(said)}\nEND\n")
        self.path.chmod(0o755)

    @property
    def times_asked(self) -> int:
        return len(self._count.read_text().splitlines())


@pytest.fixture
def interpreter(tmp_path: Path) -> FakeInterpreter:
    return FakeInterpreter(tmp_path)


def test_host_target_is_read_once_and_remembered(tmp_path: Path, interpreter: FakeInterpreter) -> None:
    first = host_target(interpreter.path, sandbox="bubblewrap", memory=tmp_path / "memory")
    assert host_target(interpreter.path, sandbox="bubblewrap", memory=tmp_path / "memory") == first
    assert interpreter.times_asked == 1
    assert Target.from_json(first.to_json()) == first


def test_host_target_is_forgotten_when_the_interpreter_changes(tmp_path: Path, interpreter: FakeInterpreter) -> None:
    first = host_target(interpreter.path, sandbox="bubblewrap", memory=tmp_path / "memory")
    interpreter.answer(version="3.11.8")
    second = host_target(interpreter.path, sandbox="bubblewrap", memory=tmp_path / "memory")
    assert second.python_version == "3.11.8"
    assert (second.name, second.revision) != (first.name, first.revision)


def test_host_target_is_forgotten_when_a_link_leads_to_another_interpreter(tmp_path: Path) -> None:
    for name, version in (("a", "3.11.1"), ("b", "3.11.2")):
        (tmp_path / name).mkdir()
        FakeInterpreter(tmp_path / name, version=version)
    link = tmp_path / "python"
    link.symlink_to("a/python")
    assert host_target(link, sandbox="none", memory=tmp_path / "memory").python_version == "3.11.1"
    link.unlink()
    link.symlink_to("b/python")
    assert host_target(link, sandbox="none", memory=tmp_path / "memory").python_version == "3.11.2"


@pytest.mark.parametrize("damage", ["", "not json", "[]", '{"name": "of another version"}'])
def test_memory_that_cannot_be_read_is_read_anew(tmp_path: Path, interpreter: FakeInterpreter, damage: str) -> None:
    memory = tmp_path / "memory"
    first = host_target(interpreter.path, sandbox="bubblewrap", memory=memory)
    (remembered,) = memory.iterdir()
    remembered.write_text(damage)
    assert host_target(interpreter.path, sandbox="bubblewrap", memory=memory) == first
    assert interpreter.times_asked == 2


def test_unsandboxed_builds_have_a_target_of_their_own_that_says_so(
    tmp_path: Path, interpreter: FakeInterpreter
) -> None:
    confined = host_target(interpreter.path, sandbox="bubblewrap", memory=tmp_path / "memory")
    unconfined = host_target(interpreter.path, sandbox="none", memory=tmp_path / "memory")
    assert unconfined.name.endswith("-unsandboxed")
    assert unconfined.name != confined.name
    assert unconfined.revision != confined.revision


def test_compiler_flags_are_part_of_the_revision(tmp_path: Path, interpreter: FakeInterpreter) -> None:
    first = host_target(interpreter.path, sandbox="none", memory=tmp_path / "memory")
    interpreter.answer(sysconfig={"CFLAGS": "-O3"})
    assert host_target(interpreter.path, sandbox="none", memory=tmp_path / "memory").revision != first.revision


def test_environment_and_its_base_interpreter_are_one_target(tmp_path: Path) -> None:
    base = Path(os.path.realpath(sys.executable))
    mine = host_target(Path(sys.executable), sandbox="none", memory=tmp_path / "memory")
    assert host_target(base, sandbox="none", memory=tmp_path / "memory") == mine
    assert mine.python == str(base)


def test_environments_of_one_interpreter_ask_it_once(tmp_path: Path, interpreter: FakeInterpreter) -> None:
    for name in ("a", "b"):
        (tmp_path / name / "bin").mkdir(parents=True)
        (tmp_path / name / "bin" / "python").symlink_to(interpreter.path)
        (tmp_path / name / "pyvenv.cfg").write_text(f"prompt = {name}\nhome = {interpreter.path.parent}\n")
    memory = tmp_path / "memory"
    first, second = (host_target(tmp_path / name / "bin" / "python", sandbox="none", memory=memory) for name in "ab")
    assert (first, interpreter.times_asked) == (second, 1)


@pytest.mark.parametrize("settings", ["", "home = elsewhere\n", "home = /no/such/folder\n", "\x00"])
def test_environment_that_does_not_tell_its_interpreter_is_asked_itself(
    tmp_path: Path, interpreter: FakeInterpreter, settings: str
) -> None:
    (tmp_path / "a" / "bin").mkdir(parents=True)
    own = FakeInterpreter(tmp_path / "a" / "bin", version="3.11.8")
    (tmp_path / "a" / "pyvenv.cfg").write_text(settings or f"home = {interpreter.path.parent}\n")
    assert host_target(own.path, sandbox="none", memory=tmp_path / "memory").python_version == "3.11.8"
    assert (own.times_asked, interpreter.times_asked) == (1, 0)


def test_interpreter_other_than_cpython_is_refused(tmp_path: Path, interpreter: FakeInterpreter) -> None:
    interpreter.answer(implementation="pypy")
    with pytest.raises(InputError, match="pypy"):
        host_target(interpreter.path, sandbox="none", memory=tmp_path / "memory")


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("#!/bin/sh\necho broken; exit 3\n", r"status 3 \(broken\)"),
        ("#!/bin/sh\necho no json\n", "it said 'no json"),
        ("#!/bin/sh\necho '{}'\n", "it said '{}"),
        ("#!/bin/sh\n", "it said ''"),
        ("#!/bin/sh\nyes\n", "status -9"),
        ("#!/no/such/interpreter\n", "can't be started"),
        ("\x7fELF", "can't be started"),
    ],
)
def test_what_does_not_run_as_python_is_refused_with_the_option_that_names_another(
    tmp_path: Path, script: str, reason: str
) -> None:
    python = tmp_path / "python"
    python.write_text(script)
    python.chmod(0o755)
    with pytest.raises(BadInterpreter, match=f"does not work.*{reason}") as caught:
        host_target(python, sandbox="none", memory=tmp_path / "memory")
    assert "--python" in caught.value.hint


def test_interpreter_that_hangs_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    python = tmp_path / "python"
    seconds = f"600.{os.getpid()}"
    python.write_text(f"#!/bin/sh\nsleep {seconds} & wait\n")
    python.chmod(0o755)
    with pytest.raises(BadInterpreter, match="did not answer"):
        host_target(python, sandbox="none", memory=tmp_path / "memory", patience_s=0.5)
    assert wait_until(lambda: not commands_with(seconds)), commands_with(seconds)


def commands_with(word: str) -> list[str]:
    """The command lines of this machine that hold a word."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            found.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return [words for words in found if word in words]


@pytest.mark.parametrize("library", ["installer", "packaging", "pyproject-hooks"])
def test_libraries_of_the_driver_run_on_the_oldest_python_that_is_accepted(library: str) -> None:
    assert SpecifierSet(metadata(library)["Requires-Python"]).contains("3.10")


def test_python_older_than_the_driver_is_refused(tmp_path: Path, interpreter: FakeInterpreter) -> None:
    interpreter.answer(version="3.9.18")
    with pytest.raises(BadInterpreter, match=r"3\.10 or later"):
        host_target(interpreter.path, sandbox="none", memory=tmp_path / "memory")
