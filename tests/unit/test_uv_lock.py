from pathlib import Path

import pytest

from wheelfarm.errors import InputError, LockOutdated
from wheelfarm.uv_lock import exported, require_current

SHA256 = "ab" * 32
HEAD = 'version = 1\nrequires-python = ">=3.10"\n'
PROJECT = '[project]\nname = "mine"\nversion = "1"\nrequires-python = ">=3.10"\ndependencies = ["app"]\n'
LOCK = f"""{HEAD}
[[package]]
name = "app"
version = "1.0"
source = {{ registry = "https://index.example/simple" }}
sdist = {{ url = "https://index.example/app-1.0.tar.gz", hash = "sha256:{SHA256}" }}

[[package]]
name = "mine"
version = "1"
source = {{ virtual = "." }}
dependencies = [{{ name = "app" }}]

[package.metadata]
requires-dist = [{{ name = "app" }}]
"""


def write(folder: Path, lock: str, project: str = PROJECT) -> Path:
    (folder / "pyproject.toml").write_text(project)
    (folder / "uv.lock").write_text(lock)
    return folder / "uv.lock"


def test_lock_of_any_revision_is_read_with_its_project_beside_it(tmp_path: Path) -> None:
    value = exported(write(tmp_path, LOCK), extras=(), all_extras=False, groups=())
    (package,) = value["packages"]
    assert (package["name"], package["version"], package["sdist"]["hashes"]) == ("app", "1.0", {"sha256": SHA256})


def test_configuration_of_the_project_is_not_read(tmp_path: Path) -> None:
    path = write(tmp_path, LOCK, f'{PROJECT}[tool.uv]\nrequired-version = "<0.1"\ncache-dir = "{tmp_path}/cache"\n')
    (tmp_path / "uv.toml").write_text('required-version = "<0.1"\n')
    assert len(exported(path, extras=(), all_extras=False, groups=())["packages"]) == 1
    assert not (tmp_path / "cache").exists()


def test_interpreter_of_the_project_is_not_run(tmp_path: Path) -> None:
    path, marker = write(tmp_path, LOCK), tmp_path / "marker"
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\ntouch {marker}\n")
    python.chmod(0o755)
    (tmp_path / ".venv" / "pyvenv.cfg").write_text("home = /usr/bin\n")
    exported(path, extras=(), all_extras=False, groups=())
    require_current(path)
    assert not marker.exists()


@pytest.mark.parametrize(
    "text", ["", "x =", 'version = 99\nrequires-python = ">=3.10"\n', "package = 3\n", "[package]\n"]
)
def test_malformed_lock_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match=r"uv\.lock"):
        exported(write(tmp_path, text), extras=(), all_extras=False, groups=())


def test_lock_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="can't be read"):
        exported(tmp_path / "uv.lock", extras=(), all_extras=False, groups=())


def test_unknown_group_is_refused_in_uvs_words(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nope"):
        exported(write(tmp_path, LOCK), extras=(), all_extras=False, groups=["nope"])


def test_lock_is_current_until_the_project_asks_for_something_else(tmp_path: Path) -> None:
    path = write(tmp_path, LOCK)
    require_current(path)
    write(tmp_path, LOCK, PROJECT.replace('"app"', '"app>=1"'))
    with pytest.raises(LockOutdated, match="not what its project asks for"):
        require_current(path)


def test_member_outside_the_projects_folder_is_not_copied(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "pyproject.toml").write_text("not toml at all [")
    folder = tmp_path / "project"
    folder.mkdir()
    more = '\n[[package]]\nname = "outside"\nversion = "1"\nsource = { editable = "../outside" }\n'
    value = exported(write(folder, LOCK + more), extras=(), all_extras=False, groups=())
    assert [package["name"] for package in value["packages"]] == ["app"]


def test_uv_that_does_not_come_to_an_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wheelfarm.uv_lock._UV_S", 0.0)
    with pytest.raises(InputError, match="did not come to an end"):
        exported(write(tmp_path, LOCK), extras=(), all_extras=False, groups=())
