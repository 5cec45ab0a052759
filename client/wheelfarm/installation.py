"""Installing: which environment, which of its packages the farm must replace, and uv to do it, by hash, from paths."""

import base64
import csv
import hashlib
import io
import json
import os
import re
import shutil
import stat
import subprocess
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.utils import canonicalize_name
from uv import find_uv_bin

from wheelfarm.errors import BadInterpreter, InstallFailed, NoEnvironment
from wheelfarm.wheel import BuiltWheel
from wheelfarm.wheelhouse import Remembered, Wheelhouse

_PATHS = (
    'import json, sysconfig; paths = sysconfig.get_paths(); print(json.dumps([paths["purelib"], paths["platlib"]]))'
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Environment:
    """Where to install: an environment's interpreter, or a plain directory filled for an interpreter."""

    python: Path
    directory: Path | None = None

    @property
    def shown(self) -> str:
        return str(self.directory or self.python.parent.parent)


def find_environment(
    environment: Mapping[str, str], *, python: str | None, venv: Path | None, directory: Path | None
) -> Environment:
    """The environment asked for: `--venv` (made when absent), `--python`, else the active one, else ./.venv.

    A directory may be filled without any environment, for the interpreter on PATH. Raises NoEnvironment.
    """
    if venv is not None:
        return Environment(python=_made(venv, python), directory=directory)
    if python is not None:
        return Environment(python=_interpreter(python), directory=directory)
    for root in filter(None, (environment.get("VIRTUAL_ENV"), environment.get("CONDA_PREFIX"), ".venv")):
        if (Path(root) / "bin" / "python").exists():
            return Environment(python=(Path(root) / "bin" / "python").absolute(), directory=directory)
    if directory is not None:
        return Environment(python=_interpreter("python3"), directory=directory)
    raise NoEnvironment(
        "There is no environment to install into: none is active and there is no .venv here.",
        hint="Name one with --venv DIR (made when absent), --python PATH or --target-dir DIR.",
    )


def environment_to_build_for(environment: Mapping[str, str], python: str | None) -> Environment:
    """The environment that `install` would take, or else the interpreter on PATH, where nothing is to be installed."""
    try:
        return find_environment(environment, python=python, venv=None, directory=None)
    except NoEnvironment:
        if python is not None:
            raise
        return Environment(python=_interpreter("python3"))


def install(
    remembered: Remembered, wheelhouse: Wheelhouse, environment: Environment, *, cache_dir: Path
) -> tuple[BuiltWheel, ...]:
    """Install a remembered set, and nothing else, from the wheelhouse by hash; the wheels that were not there before.

    What stands there with other contents than the farm's wheel, whoever installed it, is replaced. `cache_dir` is the
    installer's, never the user's. Raises InstallFailed with the installer's explanation.
    """
    present = _installed(_site_packages(environment))
    wanted = [wheel for wheel in remembered.wheels if not _is_installed(wheelhouse.wheel(wheel), wheel, present)]
    if not wanted:
        return ()
    command = [find_uv_bin(), "pip", "install", "--no-config", "--quiet", "--color", "never"]
    command += [
        "--no-index",
        "--no-deps",
        "--no-build",
        "--require-hashes",
        "--offline",
        "--link-mode",
        "copy",
    ]
    command += ["--python", str(environment.python), "--preview-features", "pylock"]
    command += ["--target", str(environment.directory)] if environment.directory else []
    replaced = [wheel.name for wheel in wanted if wheel.name in present]  # uv reads a wheel anew to reinstall it
    command += [word for name in replaced for word in ("--reinstall-package", name)]
    command += ["--cache-dir", str(cache_dir), "--requirements", str(remembered.lock)]
    done = _run_uv(command)
    if done.returncode != 0:
        raise InstallFailed(
            f"The farm's wheels could not be installed into {environment.shown}:\n{done.stderr.strip()}"
        )
    return tuple(wanted)


def _run_uv(command: list[str]) -> subprocess.CompletedProcess[str]:
    """uv without the settings of this machine's own tools: with UV_VENV_SEED it would fetch prebuilt wheels."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("UV_", "PIP_", "PYTHON"))}
    return subprocess.run(command, env=clean, capture_output=True, text=True, check=False)


def _made(venv: Path, python: str | None) -> Path:
    interpreter = (venv / "bin" / "python").absolute()
    if not interpreter.exists():
        command = [find_uv_bin(), "venv", "--no-config", "--quiet", "--no-python-downloads", str(venv)]
        command += ["--python", str(_interpreter(python or "python3"))]
        done = _run_uv(command)
        if done.returncode != 0:
            raise NoEnvironment(f"The environment {venv} can't be made:\n{done.stderr.strip()}")
    return interpreter


def _interpreter(given: str) -> Path:
    """The interpreter that a path, an environment's folder, a command's name or a version such as 3.12 stands for."""
    if "/" in given or Path(given).is_dir():
        return _interpreter_at(Path(given))
    if found := shutil.which(given):
        return Path(found).absolute()
    command = [find_uv_bin(), "python", "find", "--no-config", "--no-python-downloads", "--no-project", "--", given]
    done = _run_uv(command)
    if done.returncode != 0:
        raise NoEnvironment(f"No Python interpreter is known as {given!r}.\n{done.stderr.strip()}")
    return Path(done.stdout.strip())


def _interpreter_at(given: Path) -> Path:
    """The interpreter at a path, or of the environment there. Raises BadInterpreter saying what is there instead."""
    try:
        path = (given / "bin" / "python" if given.is_dir() else given).absolute()
        mode = path.stat().st_mode
        if stat.S_ISREG(mode) and os.access(path, os.X_OK):
            return path
        reason = f"{path} is not executable" if stat.S_ISREG(mode) else f"{path} is not a file"
    except OSError as error:
        reason = f"{path} can't be read ({error.strerror})"
    raise BadInterpreter(f"{given} is no Python interpreter: {reason}.", hint="Name another one with --python.")


def _site_packages(environment: Environment) -> list[Path]:
    if environment.directory is not None:
        return [environment.directory]
    # without site, a virtual environment's interpreter gives its base's paths on Python before 3.14
    root = environment.python.parent.parent
    if (root / "pyvenv.cfg").exists():
        return sorted(root.glob("lib/python*/site-packages"))
    done = subprocess.run(
        [str(environment.python), "-I", "-S", "-c", _PATHS], capture_output=True, text=True, check=True
    )
    return list(dict.fromkeys(Path(path) for path in json.loads(done.stdout)))


def _installed(folders: list[Path]) -> dict[str, Path]:
    """The .dist-info directories there are, by normalised project name."""
    found = [path for folder in folders for path in sorted(folder.glob("*.dist-info"))]
    return {canonicalize_name(path.name.removesuffix(".dist-info").rpartition("-")[0]): path for path in found}


def _is_installed(path: Path, wheel: BuiltWheel, present: Mapping[str, Path]) -> bool:
    """Whether what is installed is this very wheel: every file of it there, recorded and with the wheel's bytes."""
    info = present.get(wheel.name)
    if info is None:
        return False
    try:
        installed = _rows((info / "RECORD").read_text())
        with zipfile.ZipFile(path) as archive:
            record = next(name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/RECORD", name))
            shipped = _rows(archive.read(record).decode())
    except (OSError, StopIteration, zipfile.BadZipFile, UnicodeDecodeError, csv.Error):
        return False
    shipped = {name: row for name, row in shipped.items() if row and ".data/" not in name}
    return all(installed.get(name) == row and _digest(info.parent / name) == row for name, row in shipped.items())


def _rows(record: str) -> dict[str, str]:
    return {row[0]: row[1] for row in csv.reader(io.StringIO(record)) if len(row) == 3}


def _digest(path: Path) -> str:
    try:
        digest = hashlib.sha256(path.read_bytes()).digest()
    except OSError:
        return ""
    return f"sha256={base64.urlsafe_b64encode(digest).decode().rstrip('=')}"
