import zipfile
from pathlib import Path

import pytest

from tests.support.values import make_built_wheel, make_target
from wheelfarm.closure import unsatisfied
from wheelfarm.wheel_metadata import WheelMetadata, read_wheel_metadata

TARGET = make_target()


def found(**requires_dist: list[str]) -> list[str]:
    """What is unsatisfied in a set of version 1.0 of these projects."""
    told = {
        make_built_wheel(name.replace("_", "-")): WheelMetadata(requires_dist=tuple(lines))
        for name, lines in requires_dist.items()
    }
    return [str(one) for one in unsatisfied(told, TARGET)]


def test_closed_set_lacks_nothing() -> None:
    assert found(app=["Lib_One>=1,<2", 'absent; sys_platform == "win32"', 'absent; extra == "web"'], lib_one=[]) == []


@pytest.mark.parametrize(
    ("line", "instead"),
    [
        ("absent>=2", "it is not in the set"),
        ('absent; python_version > "3"', "it is not in the set"),
        ("lib>1", "the set has lib==1.0"),
        ("lib==1.0.post1", "the set has lib==1.0"),
    ],
)
def test_what_is_required_and_absent_or_of_another_version_is_named(line: str, instead: str) -> None:
    assert found(app=[line], lib=[]) == [f"app==1.0 requires {line}, and {instead}"]


def test_extras_count_where_a_wheel_of_the_set_wants_them_however_deep() -> None:
    lacking = 'absent; extra == "deep"'
    assert found(app=["lib"], lib=['other[deep]; extra == "web"'], other=[lacking]) == []
    assert found(app=["lib[Web]"], lib=['other[deep]; extra == "web"'], other=[lacking]) == [
        f"other==1.0 requires {lacking}, and it is not in the set"
    ]


def test_projects_that_require_each_other_with_extras_come_to_an_end() -> None:
    assert found(app=["lib[a]", 'lib[a]; extra == "b"'], lib=['app[b]; extra == "a"']) == []


def test_what_cannot_be_read_counts_not() -> None:
    assert found(app=["not a requirement", "lib; nonsense == 'x'"]) == []


@pytest.mark.parametrize(("requires_python", "fits"), [(">=3.8", True), ("<3", False), ("nonsense", True)])
def test_wheel_that_excludes_the_targets_python_is_named(requires_python: str, fits: bool) -> None:
    lacking = unsatisfied({make_built_wheel("app"): WheelMetadata(requires_python=requires_python)}, TARGET)
    assert (lacking == []) is fits
    assert fits or "requires Python <3" in str(lacking[0])


def test_metadata_of_a_wheel_is_read_from_its_file_and_of_none_is_empty(tmp_path: Path) -> None:
    wheel = tmp_path / "app-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("app/x.dist-info/METADATA", "Requires-Dist: wrong\n")
        archive.writestr(
            "app-1.0.dist-info/METADATA",
            "Name: app\nRequires-Dist: a\n   >=1\nRequires-Python:  >=3.8\n\nRequires-Dist: b",
        )
    assert read_wheel_metadata(wheel) == WheelMetadata(requires_dist=("a >=1",), requires_python=">=3.8")
    wheel.write_bytes(b"no wheel")
    assert read_wheel_metadata(wheel) == WheelMetadata()
