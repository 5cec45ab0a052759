from pathlib import Path

import pytest

from wheelfarm.errors import InputError
from wheelfarm.project_file import group_requirements, project_requirements
from wheelfarm.requirements import read_requirements


def write(folder: Path, text: str, name: str = "pyproject.toml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


PROJECT = """
[project]
name = "My.App"
dependencies = ["first>=1", "second; python_version < '3'"]
[project.optional-dependencies]
Web_UI = ["flask"]
test = ["pytest", "my-app[web-ui]; os_name == 'posix'"]
all = ["my_app[test,web-ui]"]
[dependency-groups]
Dev = ["mypy", {include-group = "lint"}]
lint = ["ruff"]
[tool.uv.sources]
first = { path = "../elsewhere" }
"""


def test_dependencies_of_a_project_are_its_requirements(tmp_path: Path) -> None:
    assert project_requirements(write(tmp_path, PROJECT)) == ["first>=1", "second; python_version < '3'"]


def test_extras_are_added_by_any_spelling_of_their_name(tmp_path: Path) -> None:
    assert project_requirements(write(tmp_path, PROJECT), extras=["web.ui"])[2:] == ["flask"]


def test_references_of_a_project_to_its_own_extras_are_followed_with_their_markers(tmp_path: Path) -> None:
    path = write(tmp_path, PROJECT)
    assert project_requirements(path, extras=["all"])[2:] == ["pytest", 'flask; os_name == "posix"', "flask"]
    assert set(project_requirements(path, all_extras=True)[2:]) == {"flask", "pytest", 'flask; os_name == "posix"'}


def test_extras_that_refer_to_each_other_end(tmp_path: Path) -> None:
    text = '[project]\nname="a"\n[project.optional-dependencies]\nb=["a[c]", "d"]\nc=["a[b]", "e"]\n'
    assert sorted(project_requirements(write(tmp_path, text), extras=["b"])) == ["d", "e"]


def test_unknown_extra_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no extra 'docs'") as caught:
        project_requirements(write(tmp_path, PROJECT), extras=["docs"])
    assert "all, test, web-ui" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[tool.poetry]\nname = 'x'\n", "only its build backend"),
        ("[project]\nname='a'\ndynamic=['dependencies']\n", "dependencies are dynamic"),
        ("[project]\nname='a'\ndependencies='b'\n", "malformed"),
        ("[project]\nname='a'\ndependencies=[1]\n", "not a requirement"),
        ("[project]\nname='a'\ndependencies=['b >>']\n", "not a requirement"),
        ("[project]\nname='a'\ndependencies=['a[x]']\n", "refers to its extra"),
        ("[project\n", "not TOML"),
        ("\x00", "not TOML"),
    ],
)
def test_project_that_does_not_state_its_dependencies_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        project_requirements(write(tmp_path, text))


def test_absent_and_oversized_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="can't be read"):
        project_requirements(tmp_path / "pyproject.toml")
    with pytest.raises(InputError, match="larger than"):
        project_requirements(write(tmp_path, "#" * (17 << 20)))


def test_dependency_group_is_found_with_what_it_includes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, PROJECT)
    assert group_requirements(f"{path}:dev") == ["mypy", "ruff"]
    monkeypatch.chdir(tmp_path)
    assert group_requirements("lint") == ["ruff"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no \\[dependency-groups\\]"),
        ("[dependency-groups]\nother = []\n", "'dev'"),
        ("[dependency-groups]\ndev = 'x'\n", "string rather than a list"),
        ("[dependency-groups]\ndev = ['b >>']\n", "'dev'"),
        ("[dependency-groups]\ndev = [{include-group = 'dev'}]\n", "includes itself"),
        ("[dependency-groups]\ndev = []\nDEV = []\n", "'dev'"),
        ("[dependency-groups]\ndev = [{x = 1}]\n", "Invalid dependency group item"),
    ],
)
def test_dependency_group_that_cannot_be_read_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(InputError, match=reason):
        group_requirements(f"{path}:dev")


def test_projects_and_groups_are_read_as_requirements_are(tmp_path: Path) -> None:
    path = write(tmp_path, PROJECT)
    found = read_requirements(["zero"], [path], [], extras=["test"], groups=[f"{path}:lint"])
    assert found.lines == (
        "zero",
        "first>=1",
        'second; python_version < "3"',
        "pytest",
        'flask; os_name == "posix"',
        "ruff",
    )
