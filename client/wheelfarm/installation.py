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
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from uv import find_uv_bin

from wheelfarm.errors import BadInterpreter, InstallFailed, NoEnvironment
from wheelfarm.names import normalized
from wheelfarm.wheel import BuiltWheel
from wheelfarm.wheelhouse import Remembered, Wheelhouse

_LOCAL = ".venv"
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

    A directory may be filled without any environment, for the interpreter on PATH. Raises NoEnvironment, and
    BadInterpreter for a ./.venv that would have what came with this folder run.
    """
    if venv is not None:
        return Environment(python=_made(venv, python), directory=directory)
    if python is not None:
        return Environment(python=_interpreter(python), directory=directory)
    for root in filter(None, (environment.get("VIRTUAL_ENV"), environment.get("CONDA_PREFIX"), _LOCAL)):
        if (Path(root) / "bin" / "python").exists():
            if root == _LOCAL:
                _require_not_of_this_folder(Path(root))
            return Environment(python=(Path(root) / "bin" / "python").absolute(), directory=directory)
    if directory is not None:
        return Environment(python=_interpreter("python3"), directory=directory)
    raise NoEnvironment(
        "There is no environment to install into: none is active and there is no .venv here.",
        hint="Name one with --venv DIR (made when absent), --python PATH or --target-dir DIR.",
    )


def _require_not_of_this_folder(root: Path) -> None:
    """Raise BadInterpreter where an environment that nobody has named runs a program out of the current folder: a
    repository can bring its own, and whoever plans or builds what is in one does not mean to run that."""
    here = Path.cwd()
    settings = (root / "pyvenv.cfg").read_text(errors="replace") if (root / "pyvenv.cfg").is_file() else ""
    homes = re.findall(r"^\s*home\s*=\s*(\S.*?)\s*$", settings, re.MULTILINE | re.IGNORECASE)
    places = [(root / "bin" / "python").resolve(), *(Path(home).resolve() for home in homes)]
    inside = [place for place in places if place.is_relative_to(here)]
    if inside and not Path.home().is_relative_to(here):
        raise BadInterpreter(
            f"./{root} would run {inside[0]}, which lies in this folder and may have come with it.",
            hint=f"If it is yours, name it: --python {root}",
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
    installer's, never the user's. It links files out of there, so that one which was edited in place in some
    environment would come along: what it installed is compared with the wheels, and fetched anew where it differs.
    Raises InstallFailed with the installer's explanation, or naming what is still not as the farm built it.
    """
    wanted = _absent(remembered.wheels, wheelhouse, environment)
    missing = wanted
    for afresh in (False, True):
        if not missing:
            return tuple(wanted)
        if afresh:  # uv trusts what it has unpacked, whatever became of it since
            clean = [find_uv_bin(), "cache", "clean", "--no-config", "--cache-dir", str(cache_dir), "--"]
            _run_uv([*clean, *(wheel.name for wheel in missing)])
        _run_installer(remembered.lock, missing, environment, cache_dir)
        missing = _absent(remembered.wheels, wheelhouse, environment)
    if missing:
        names = ", ".join(f"{wheel.name} {wheel.version}" for wheel in missing)
        raise InstallFailed(f"What was installed into {environment.shown} is not what the farm built: {names}.")
    return tuple(wanted)


def _run_installer(lock: Path, missing: Sequence[BuiltWheel], environment: Environment, cache_dir: Path) -> None:
    """Have uv install what is missing of a lock, in the place of what is there of the same projects."""
    present = _installed(_site_packages(environment))
    command = [find_uv_bin(), "pip", "install", "--no-config", "--quiet", "--color", "never"]
    command += ["--no-index", "--no-deps", "--no-build", "--require-hashes", "--offline"]
    command += ["--python", str(environment.python), "--preview-features", "pylock"]
    command += ["--target", str(environment.directory)] if environment.directory else []
    command += [f"--reinstall-package={wheel.name}" for wheel in missing if wheel.name in present]
    command += ["--cache-dir", str(cache_dir), "--requirements", str(lock)]
    done = _run_uv(command)
    if done.returncode != 0:
        raise InstallFailed(
            f"The farm's wheels could not be installed into {environment.shown}:\n{done.stderr.strip()}"
        )


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
    return {normalized(path.name.removesuffix(".dist-info").rpartition("-")[0]): path for path in found}


def _absent(wheels: Sequence[BuiltWheel], wheelhouse: Wheelhouse, environment: Environment) -> list[BuiltWheel]:
    """The wheels that are not installed: not every file of theirs is recorded, and there with a wheel's bytes."""
    present = _installed(_site_packages(environment))
    shipped = {wheel: _shipped(wheelhouse.wheel(wheel)) for wheel in wheels if wheel.name in present}
    allowed: dict[str, set[str]] = {}  # of a file that two projects ship, either's bytes are there
    for rows in shipped.values():
        for name, digest in rows.items():
            allowed.setdefault(name, set()).add(digest)
    return [
        wheel
        for wheel in wheels
        if not shipped.get(wheel) or not _is_installed(present[wheel.name], shipped[wheel], allowed)
    ]


def _is_installed(info: Path, shipped: Mapping[str, str], allowed: Mapping[str, Collection[str]]) -> bool:
    try:
        installed = _rows((info / "RECORD").read_text())
    except (OSError, UnicodeDecodeError, csv.Error):
        return False
    return all(
        installed.get(name) == digest and _digest(info.parent / name) in allowed[name]
        for name, digest in shipped.items()
    )


def _shipped(wheel: Path) -> dict[str, str]:
    """The digests of a wheel's files that are installed as they are; none where its record can't be read."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            record = next(name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/RECORD", name))
            rows = _rows(archive.read(record).decode())
    except (OSError, StopIteration, zipfile.BadZipFile, UnicodeDecodeError, csv.Error):
        return {}
    return {name: digest for name, digest in rows.items() if digest and ".data/" not in name}


def _rows(record: str) -> dict[str, str]:
    return {row[0]: row[1] for row in csv.reader(io.StringIO(record)) if len(row) == 3}


def _digest(path: Path) -> str:
    try:
        digest = hashlib.sha256(path.read_bytes()).digest()
    except OSError:
        return ""
    return f"sha256={base64.urlsafe_b64encode(digest).decode().rstrip('=')}"
