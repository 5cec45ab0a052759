"""Locks of uv as input: `uv.lock` read through `uv export`, whose PEP 751 lock is the form that is specified.

uv runs on a copy, in a folder of its own, of the lock and of the pyproject.toml files that it speaks of: without
network, without this machine's settings, and with nothing there that it could run.
"""

import os
import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from uv import find_uv_bin

from wheelfarm.errors import InputError, LockOutdated
from wheelfarm.project_file import read_toml

NAME = "uv.lock"
_UV_S = 120.0
"""How long uv may take, which reads a large lock in less than a second."""
_LOCAL = ("editable", "virtual", "directory")


def exported(path: Path, *, extras: Sequence[str], all_extras: bool, groups: Sequence[str]) -> dict[str, Any]:
    """The lock at `path`, as it stands, in PEP 751's form: of its project the dependencies, without the project itself,
    with those of the extras and dependency groups. Raises InputError in uv's words where it can't be read."""
    command = ["export", "--frozen", "--format", "pylock.toml", "--no-header", "--no-emit-project"]
    command += ["--no-default-groups", "--preview-features", "frozen-lockfile"]  # a lock without its project
    command += ["--all-extras"] if all_extras else [f"--extra={extra}" for extra in extras]
    command += [f"--group={group}" for group in groups]
    with _copied(path) as folder:
        done = _run_uv(command, folder)
    if done.returncode != 0:
        raise InputError(f"{path} can't be taken.\n{done.stderr.strip()}")
    return {"packages": [], **tomllib.loads(done.stdout)}


def require_current(path: Path) -> None:
    """Raise LockOutdated where the lock at `path` is not what its project asks for now.

    uv compares them, resolving nothing: an index would have to be asked, and metadata that only a build backend can
    tell could not be.
    """
    if not path.exists():
        raise InputError(f"--locked: there is no {path}.", hint="Write it with `uv lock`, or leave --locked out.")
    registries = {index for package in _packages(path) if (index := _source(package).get("registry"))}
    command = ["lock", "--check", "--no-build", *(f"--index={registry}" for registry in sorted(registries))]
    with _copied(path) as folder:
        done = _run_uv(command, folder)
    if done.returncode != 0:
        raise LockOutdated(
            f"{path} is not what its project asks for now, or that can't be told without building something.",
            hint=f"Write it anew: uv lock. Or take it as it stands: -r {path}\n{done.stderr.strip()}",
        )


@contextmanager
def _copied(path: Path) -> Iterator[Path]:
    """A folder with the lock and, of its project and the members of its workspace, the pyproject.toml."""
    members = {place for package in _packages(path) for kind in _LOCAL if (place := _source(package).get(kind))}
    root = path.parent.resolve()
    with tempfile.TemporaryDirectory(prefix="wheelfarm-lock-") as home:
        folder = Path(home, "project")
        folder.mkdir()
        shutil.copyfile(path, folder / NAME)
        for place in (".", *sorted(map(str, members))):
            project = (root / place / "pyproject.toml").resolve()
            if project.is_file() and project.is_relative_to(root):
                copy = folder / project.relative_to(root)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(project, copy)
        yield folder


def _run_uv(command: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"),  # --check looks for an interpreter that the project allows
        "HOME": str(folder.parent),
        "UV_PYTHON_DOWNLOADS": "never",
        "UV_OFFLINE": "1",
        "UV_NO_CACHE": "1",
    }
    command = [find_uv_bin(), *command, "--no-config", "--color", "never", "--quiet"]
    pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True}
    try:
        return subprocess.run(command, env=environment, cwd=folder, check=False, timeout=_UV_S, **pipes)
    except subprocess.TimeoutExpired:
        raise InputError(f"uv did not come to an end with the lock within {_UV_S:.0f} s.") from None


def _packages(path: Path) -> list[Mapping[str, Any]]:
    found = read_toml(path).get("package", [])
    return [package for package in found if isinstance(package, dict)] if isinstance(found, list) else []


def _source(package: Mapping[str, Any]) -> Mapping[str, Any]:
    source = package.get("source")
    return source if isinstance(source, dict) else {}
