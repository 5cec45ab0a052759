"""Installing: which environment, which of its packages the farm must replace, and uv to do it, by hash, from paths."""

import json
import os
import re
import stat
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from uv import find_uv_bin

from wheelfarm.errors import BadInterpreter, InstallFailed, NoEnvironment
from wheelfarm.installed_files import InstalledFiles, installed_projects
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
    remembered: Remembered, wheelhouse: Wheelhouse, environment: Environment, *, cache: Path
) -> tuple[BuiltWheel, ...]:
    """Install a remembered set, and nothing else, from the wheelhouse by hash; the wheels that were not there before.

    What stands there with other contents than the farm's wheel, whoever installed it, is replaced. `cache` is ours,
    never that of the user's own uv. The installer links files out of its part of it, so that one which was edited in
    place in some environment would come along: what it installed is compared with the wheels, and fetched anew where
    it differs. Raises InstallFailed with the installer's explanation, or naming what is still not as the farm built it.
    """
    files = InstalledFiles(remembered.wheels, wheelhouse, memory=cache / "installed")
    missing = wanted = files.absent(_site_packages(environment))
    for afresh in (False, True):
        if not missing:
            return tuple(wanted)
        if afresh:  # uv trusts what it has unpacked, whatever became of it since
            clean = [find_uv_bin(), "cache", "clean", "--no-config", "--cache-dir", str(cache / "uv"), "--"]
            _run_uv([*clean, *(wheel.name for wheel in missing)])
        with _installer(remembered.lock, missing, environment, cache / "uv"):
            files.read_wheels()
        missing = files.absent(_site_packages(environment))
    if missing:
        names = ", ".join(f"{wheel.name} {wheel.version}" for wheel in missing)
        raise InstallFailed(f"What was installed into {environment.shown} is not what the farm built: {names}.")
    return tuple(wanted)


@contextmanager
def _installer(lock: Path, missing: Sequence[BuiltWheel], environment: Environment, cache_dir: Path) -> Iterator[None]:
    """Have uv install what is missing of a lock, in the place of what is there of the same projects, while the context
    lasts. Raises InstallFailed."""
    present = installed_projects(_site_packages(environment))
    command = [find_uv_bin(), "pip", "install", "--no-config", "--quiet", "--color", "never"]
    command += ["--no-index", "--no-deps", "--no-build", "--require-hashes", "--offline"]
    command += ["--python", str(environment.python), "--preview-features", "pylock"]
    command += ["--target", str(environment.directory)] if environment.directory else []
    command += [f"--reinstall-package={wheel.name}" for wheel in missing if wheel.name in present]
    command += ["--cache-dir", str(cache_dir), "--requirements", str(lock)]
    with _started_uv(command) as uv:
        yield
        _, said = uv.communicate()
    if uv.returncode != 0:
        raise InstallFailed(f"The farm's wheels could not be installed into {environment.shown}:\n{said.strip()}")


def _started_uv(command: list[str]) -> "subprocess.Popen[str]":
    """uv without the settings of this machine's own tools: with UV_VENV_SEED it would fetch prebuilt wheels."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("UV_", "PIP_", "PYTHON"))}
    return subprocess.Popen(command, env=clean, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _run_uv(command: list[str]) -> subprocess.CompletedProcess[str]:
    """What uv did and said."""
    with _started_uv(command) as uv:
        said = uv.communicate()
    return subprocess.CompletedProcess(command, uv.returncode, *said)


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
    import shutil  # costly, and not needed for a path

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
