import csv
import io
import os
import shutil
import sys
import time
import zipfile
from pathlib import Path

import pytest

from tests.support.archives import make_zip, wheel_files
from tests.support.values import make_built_wheel, make_target
from wheelfarm.errors import BadInterpreter, InstallFailed, NoEnvironment
from wheelfarm.installation import Environment, environment_to_build_for, find_environment, install
from wheelfarm.installed_files import _digest, _unchanged
from wheelfarm.requirements import Requirements
from wheelfarm.wheel import BuiltWheel
from wheelfarm.wheelhouse import Remembered, Wheelhouse


def make_environment(root: Path) -> Path:
    """A folder that looks like an environment; its interpreter."""
    (root / "bin").mkdir(parents=True)
    (root / "bin" / "python").symlink_to(sys.executable)
    return root / "bin" / "python"


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def test_venv_asked_for_wins_over_all(tmp_path: Path) -> None:
    mine = make_environment(tmp_path / "mine")
    make_environment(tmp_path / "active")
    found = find_environment(
        {"VIRTUAL_ENV": str(tmp_path / "active")}, python="3", venv=mine.parent.parent, directory=None
    )
    assert found == Environment(python=mine)


def test_python_may_be_an_interpreter_or_the_folder_of_an_environment(tmp_path: Path) -> None:
    mine = make_environment(tmp_path / "mine")
    for given in (str(mine), str(mine.parent.parent)):
        assert find_environment({}, python=given, venv=None, directory=None).python == mine


def test_active_environment_comes_before_conda_before_the_one_in_this_folder(tmp_path: Path) -> None:
    active = make_environment(tmp_path / "active")
    conda = make_environment(tmp_path / "conda")
    local = make_environment(tmp_path / "here" / ".venv")
    environment = {"VIRTUAL_ENV": str(tmp_path / "active"), "CONDA_PREFIX": str(tmp_path / "conda")}
    assert find_environment(environment, python=None, venv=None, directory=None).python == active
    del environment["VIRTUAL_ENV"]
    assert find_environment(environment, python=None, venv=None, directory=None).python == conda
    assert find_environment({}, python=None, venv=None, directory=None).python == local


def test_active_environment_that_is_gone_is_passed_over(tmp_path: Path) -> None:
    local = make_environment(tmp_path / "here" / ".venv")
    environment = {"VIRTUAL_ENV": str(tmp_path / "gone"), "CONDA_PREFIX": ""}
    assert find_environment(environment, python=None, venv=None, directory=None).python == local


def test_environment_that_came_with_this_folder_is_not_taken_unless_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker, here = tmp_path / "marker", tmp_path / "here"
    python = here / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    (here / "tool").write_text(f"#!/bin/sh\ntouch {marker}\n")
    (here / "tool").chmod(0o755)
    for make in (lambda: python.symlink_to("../../tool"), lambda: shutil.copy(here / "tool", python)):
        make()
        with pytest.raises(BadInterpreter, match="lies in this folder"):
            environment_to_build_for({}, None)
        python.unlink()
    python.symlink_to(sys.executable)
    (here / ".venv" / "pyvenv.cfg").write_text("include-system-site-packages = false\nHOME = tools/bin\n")
    with pytest.raises(BadInterpreter, match="tools/bin"):
        environment_to_build_for({}, None)
    assert environment_to_build_for({}, ".venv").python == python
    monkeypatch.setenv("HOME", str(here))
    assert environment_to_build_for({}, None).python == python
    assert not marker.exists()


def test_directory_needs_no_environment_but_uses_one(tmp_path: Path) -> None:
    alone = find_environment({}, python=None, venv=None, directory=tmp_path / "filled")
    assert alone.python == Path(shutil.which("python3") or "")
    assert alone.shown == str(tmp_path / "filled")
    local = make_environment(tmp_path / "here" / ".venv")
    assert find_environment({}, python=None, venv=None, directory=tmp_path / "filled").python == local


def test_no_environment_is_an_error_that_says_how_to_name_one() -> None:
    with pytest.raises(NoEnvironment) as caught:
        find_environment({}, python=None, venv=None, directory=None)
    assert "--venv" in caught.value.hint


def test_unknown_interpreter_is_named() -> None:
    with pytest.raises(NoEnvironment, match="no-such-python"):
        find_environment({}, python="no-such-python", venv=None, directory=None)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("absent", "can't be read"),
        ("empty", "can't be read"),
        ("text", "not executable"),
        ("socket", "not a file"),
        ("loop", "can't be read"),
    ],
)
def test_path_that_is_no_interpreter_is_told_apart(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").write_text("")
    os.mkfifo(tmp_path / "socket")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(BadInterpreter, match=reason):
        find_environment({}, python=str(tmp_path / name), venv=None, directory=None)


def test_venv_is_made_where_there_is_none_and_holds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_VENV_SEED", "1")
    monkeypatch.setenv("UV_OFFLINE", "1")
    found = find_environment({}, python=sys.executable, venv=tmp_path / "made", directory=None)
    assert found.python == tmp_path / "made" / "bin" / "python"
    assert found.shown == str(tmp_path / "made")
    assert not list((tmp_path / "made").glob("lib/python*/site-packages/*.dist-info"))


class Installation:
    """A wheelhouse with one wheel, remembered, and a directory to install it into."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.house = Wheelhouse(root / "house")
        self.directory = root / "filled"
        self.environment = Environment(python=Path(sys.executable), directory=self.directory)

    def put(self, data: bytes) -> Remembered:
        wheel = make_built_wheel(data=data)
        self.house.wheel(wheel).parent.mkdir(parents=True, exist_ok=True)
        self.house.wheel(wheel).write_bytes(data)
        return self.house.remember(Requirements(lines=("app",)), make_target(), [wheel])

    def install(self, remembered: Remembered) -> tuple[BuiltWheel, ...]:
        return install(remembered, self.house, self.environment, cache=self.root / "cache")


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    return Installation(tmp_path)


WHEEL = make_zip(wheel_files(files={"app-1.0.data/scripts/app": b"#!python\n"}))
OTHER = make_zip(wheel_files(files={"app.py": b"VERSION = 2\n"}))


def test_what_sets_were_seen_as_is_kept_for_those_installed_last(installation: Installation) -> None:
    memory = installation.root / "cache" / "installed"
    memory.mkdir(parents=True)
    for number in range(40):
        (memory / f"old{number}").touch()
        os.utime(memory / f"old{number}", (number, number))
    installation.install(installation.put(WHEEL))
    left = {path.name for path in memory.iterdir()}
    assert {name for name in left if name.startswith("old")} == {f"old{number}" for number in range(9, 40)}
    assert len(left) == 32


def test_installed_wheel_is_not_installed_again(installation: Installation) -> None:
    remembered = installation.put(WHEEL)
    assert installation.install(remembered) == remembered.wheels
    assert (installation.directory / "app.py").read_bytes() == b"VERSION = 1\n"
    assert installation.install(remembered) == ()


def test_other_wheel_of_the_same_version_is_replaced(installation: Installation) -> None:
    installation.install(installation.put(WHEEL))
    remembered = installation.put(OTHER)
    assert installation.install(remembered) == remembered.wheels
    assert (installation.directory / "app.py").read_bytes() == b"VERSION = 2\n"


@pytest.mark.parametrize("damage", ["changed", "gone", "no record", "record of another"])
def test_installation_with_a_changed_file_is_replaced(installation: Installation, damage: str) -> None:
    remembered = installation.put(WHEEL)
    installation.install(remembered)
    module, record = installation.directory / "app.py", installation.directory / "app-1.0.dist-info" / "RECORD"
    match damage:
        case "changed":
            module.write_bytes(b"VERSION = 9\n")
        case "gone":
            module.unlink()
        case "no record":
            record.unlink()
        case _:
            rows = list(csv.reader(io.StringIO(record.read_text())))
            record.write_text("".join(",".join([row[0], row[1][:-1] + "x", row[2]]) + "\n" for row in rows))
    assert installation.install(remembered) == remembered.wheels
    assert module.read_bytes() == b"VERSION = 1\n"


def test_edit_in_one_environment_does_not_reach_the_next(installation: Installation) -> None:
    remembered = installation.put(WHEEL)
    installation.install(remembered)
    with (installation.directory / "app.py").open("r+b") as file:  # in place, and so in the installer's cache, too
        file.write(b"VERSION = 9\n")
    installation.environment = Environment(python=Path(sys.executable), directory=installation.root / "next")
    assert installation.install(remembered) == remembered.wheels
    assert (installation.root / "next" / "app.py").read_bytes() == b"VERSION = 1\n"


def test_edit_that_hides_by_its_times_does_not_reach_the_next_environment(installation: Installation) -> None:
    remembered = installation.put(WHEEL)
    installation.install(remembered)
    time.sleep(0.05)  # a file that has just changed is not remembered
    assert installation.install(remembered) == ()
    module = installation.directory / "app.py"
    before = module.stat()
    with module.open("r+b") as file:
        file.write(b"VERSION = 9\n")
    os.utime(module, ns=(before.st_atime_ns, before.st_mtime_ns))
    installation.environment = Environment(python=Path(sys.executable), directory=installation.root / "next")
    assert installation.install(remembered) == remembered.wheels
    assert (installation.root / "next" / "app.py").read_bytes() == b"VERSION = 1\n"


def test_what_was_read_is_known_until_it_changes(installation: Installation) -> None:
    remembered = installation.put(WHEEL)
    installation.install(remembered)
    time.sleep(0.05)
    installation.install(remembered)
    (memory,) = (installation.root / "cache" / "installed").iterdir()
    module = installation.directory / "app.py"
    assert _digest(str(module)) in _unchanged(memory).values()
    (installation.root / "another").hardlink_to(module)
    assert _unchanged(memory) == {}
    time.sleep(0.05)
    assert installation.install(remembered) == ()
    assert _digest(str(module)) in _unchanged(memory).values()
    memory.write_text(memory.read_text().replace("sha256=", "sha256=x"))
    assert _unchanged(memory) == {}
    assert installation.install(remembered) == ()


def test_file_that_two_projects_ship_may_be_either_ones(installation: Installation) -> None:
    wheels = []
    for name in ("app", "bpp"):
        data = make_zip(wheel_files(name=name, files={"shared.py": name.encode()}))
        wheels.append(make_built_wheel(name=name, data=data))
        installation.house.wheel(wheels[-1]).parent.mkdir(parents=True, exist_ok=True)
        installation.house.wheel(wheels[-1]).write_bytes(data)
    remembered = installation.house.remember(Requirements(lines=("app", "bpp")), make_target(), wheels)
    assert installation.install(remembered) == tuple(wheels)
    assert installation.install(remembered) == ()


def test_record_that_cannot_be_read_is_left_to_the_installer_to_name(installation: Installation) -> None:
    remembered = installation.put(WHEEL)
    info = installation.directory / "app-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "RECORD").write_text('"' + "x" * 200_000)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: app\nVersion: 1.0\n")
    with pytest.raises(InstallFailed, match="RECORD"):
        installation.install(remembered)


def test_wheel_that_was_changed_in_the_wheelhouse_is_not_installed(installation: Installation) -> None:
    remembered = installation.put(WHEEL)
    installation.house.wheel(remembered.wheels[0]).write_bytes(OTHER)
    with pytest.raises(InstallFailed, match="could not be installed"):
        installation.install(remembered)
    assert not (installation.directory / "app.py").exists()


def test_what_is_installed_in_an_environment_is_found_below_its_own_root(tmp_path: Path) -> None:
    installation = Installation(tmp_path)
    environment = find_environment({}, python=sys.executable, venv=tmp_path / "made", directory=None)
    installation.environment = environment
    remembered = installation.put(WHEEL)
    assert installation.install(remembered) == remembered.wheels
    assert installation.install(remembered) == ()
    (site_packages,) = (tmp_path / "made").glob("lib/python*/site-packages")
    assert (site_packages / "app.py").exists()


def test_wheel_without_a_record_is_not_taken_for_installed(installation: Installation) -> None:
    with zipfile.ZipFile(io.BytesIO(WHEEL)) as archive:
        held = {name: archive.read(name) for name in archive.namelist() if not name.endswith("RECORD")}
    installation.install(installation.put(WHEEL))
    with pytest.raises(InstallFailed):
        installation.install(installation.put(make_zip(held)))
