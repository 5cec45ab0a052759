import tomllib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from packaging.pylock import Pylock

from tests.support.values import make_built_wheel, make_target
from wheelfarm.errors import InputError
from wheelfarm.farm_lock import (
    LockFormat,
    WheelSource,
    locked_versions,
    pylock_wheels,
    render_lock,
    requirements_wheels,
)
from wheelfarm.wheel import BuiltWheel

WHEELS = (
    make_built_wheel("b-lib", "2.0+cc", data=b"b", filename="b_lib-2.0+cc-3-cp311-cp311-linux_x86_64.whl"),
    make_built_wheel("app", "1.0"),
)
FARM = WheelSource(url="https://farm.example/base")


def pylock(wheels: Sequence[BuiltWheel] = WHEELS, path: str = "pylock.toml", source: WheelSource = FARM) -> Pylock:
    value = tomllib.loads(render_lock(Path(path), wheels, make_target(), source))
    return Pylock.from_dict({"packages": [], **value})


def test_lock_is_valid_and_names_each_wheel_with_url_size_and_hash() -> None:
    first, second = pylock().packages
    assert (first.name, second.name) == ("app", "b-lib")
    (wheel,) = second.wheels or ()
    assert wheel.url == (
        f"https://farm.example/base/wheels/{WHEELS[0].sha256}/b_lib-2.0%2Bcc-3-cp311-cp311-linux_x86_64.whl"
    )
    assert (wheel.filename, wheel.size, wheel.hashes) == (WHEELS[0].filename, 1, {"sha256": WHEELS[0].sha256})
    assert first.sdist is None


@pytest.mark.parametrize("name", ["pylock.toml", "lock.txt"])
def test_lock_is_the_same_in_whatever_order_wheels_come(name: str) -> None:
    assert len({render_lock(Path(name), wheels, make_target(), FARM) for wheels in (WHEELS, WHEELS[::-1])}) == 1


def test_empty_set_has_a_lock_too() -> None:
    assert pylock(()).packages == []


def test_lock_is_for_the_targets_python_and_machine() -> None:
    lock = pylock()
    there = {
        "python_full_version": "3.11.2",
        "python_version": "3.11",
        "implementation_name": "cpython",
        "sys_platform": "linux",
        "platform_machine": "x86_64",
    }
    assert [marker.evaluate(dict(there)) for marker in lock.environments or ()] == [True]
    for name, value in {"python_version": "3.12", "platform_machine": "aarch64", "sys_platform": "darwin"}.items():
        assert [marker.evaluate({**there, name: value}) for marker in lock.environments or ()] == [False]
    assert lock.requires_python is not None
    assert ("3.11.9" in lock.requires_python, "3.12.0" in lock.requires_python) == (True, False)


def test_prerelease_of_python_is_not_shut_out_by_its_own_lock() -> None:
    early = replace(make_target(), python_version="3.15.0rc1", abi="cp315")
    value = tomllib.loads(render_lock(Path("pylock.toml"), WHEELS, early, FARM))
    assert "requires-python" not in value


def test_wheels_below_the_lock_are_named_by_relative_paths(tmp_path: Path) -> None:
    source = WheelSource(folder=tmp_path / ".store")
    (wheel,) = pylock(WHEELS[1:], str(tmp_path / "pylock.toml"), source).packages[0].wheels or ()
    assert (wheel.path, wheel.url) == (f".store/wheels/{WHEELS[1].sha256}/{WHEELS[1].filename}", None)
    (wheel,) = pylock(WHEELS[1:], str(tmp_path / "elsewhere" / "pylock.toml"), source).packages[0].wheels or ()
    assert (wheel.path, wheel.url) == (
        None,
        f"{tmp_path.as_uri()}/.store/wheels/{WHEELS[1].sha256}/{WHEELS[1].filename}",
    )


def test_no_credentials_of_a_url_get_into_a_lock() -> None:
    source = WheelSource(url="https://me:hunter2@farm.example:8080/?token=hunter2")
    text = render_lock(Path("lock.txt"), WHEELS, make_target(), source)
    assert "hunter2" not in text
    assert "app @ https://farm.example:8080/wheels/" in text


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "lock.txt"
    path.write_text(render_lock(path, WHEELS, make_target(), FARM))
    assert requirements_wheels(path) == (WHEELS[1], WHEELS[0])
    assert locked_versions(path) == {"app": "1.0", "b-lib": "2.0+cc"}
    text = render_lock(Path("pylock.toml"), WHEELS, make_target(), FARM)
    assert pylock_wheels(tomllib.loads(text)) == (WHEELS[1], WHEELS[0])


@pytest.mark.parametrize(
    ("old", "new"),
    [("app @", "app==1"), ("1.0, 5 bytes", "1.0"), (WHEELS[1].sha256, "0" * 63), ("/wheels/", "/other/")],
)
def test_edited_requirements_are_refused(tmp_path: Path, old: str, new: str) -> None:
    path = tmp_path / "lock.txt"
    path.write_text(render_lock(path, WHEELS, make_target(), FARM).replace(old, new))
    with pytest.raises(InputError, match="was edited"):
        requirements_wheels(path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("size = 5", "size = '5'"),
        ("[[packages.wheels]]", "[packages.sdist]"),
        ('\nversion = "1.0"', '\nversion = "one point oh?"'),
        ('name = "app-1.0-1-py3-none-any.whl"', 'name = "../../app.whl"'),
    ],
)
def test_edited_pylock_is_refused(old: str, new: str) -> None:
    text = render_lock(Path("pylock.toml"), WHEELS[1:], make_target(), FARM)
    with pytest.raises(InputError, match="was edited"):
        pylock_wheels(tomllib.loads(text.replace(old, new)))


def test_what_others_wrote_is_no_lock_of_the_farm(tmp_path: Path) -> None:
    path = tmp_path / "requirements.txt"
    assert locked_versions(path) is None
    path.write_text("app==1.0\n")
    with pytest.raises(InputError, match="did not write it"):
        locked_versions(path)
    assert pylock_wheels({"created-by": "uv", "packages": []}) is None


@pytest.mark.parametrize("name", ["lock.toml", "pylock.a.b.toml", "uv.lock", "pylock", "pylock..toml"])
def test_name_that_installers_would_not_take_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="no name of a lock"):
        LockFormat.of(Path(name))


def test_format_goes_by_the_name() -> None:
    found = [LockFormat.of(Path(name)) for name in ("a/pylock.toml", "pylock.cp312.toml", "requirements.txt")]
    assert found == [LockFormat.PYLOCK, LockFormat.PYLOCK, LockFormat.REQUIREMENTS]
