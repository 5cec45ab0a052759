"""A small relocatable Python distribution, made of the interpreter that the tests run with."""

import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

LEFT_OUT = (
    *("test", "tests", "idlelib", "lib2to3", "tkinter", "turtledemo", "pydoc_data", "ensurepip", "*.opt-?.pyc"),
    *("site-packages", "dist-packages", "config-*", "sitecustomize.py", "*.a"),
)
VERSION = platform.python_version()
MINOR = f"{sys.version_info[0]}.{sys.version_info[1]}"
PLATFORM = f"linux-{platform.machine()}-gnu"
KEY = f"cpython-{VERSION}-{PLATFORM}"


def unfit() -> str:
    """Why no distribution can be made of this interpreter; empty where one can."""
    if sys.platform != "linux" or platform.libc_ver()[0] != "glibc":
        return "the interpreter is none of Linux with glibc"
    if not re.fullmatch(r"3\.[0-9]+\.[0-9]+", VERSION) or sysconfig.get_config_var("Py_GIL_DISABLED"):
        return f"the interpreter is no plain release: {VERSION}"
    if sysconfig.get_config_var("Py_ENABLE_SHARED") and not shutil.which("patchelf"):
        return "the interpreter's libpython can't be made relocatable: patchelf is not installed"
    return ""


def archive_name(build: str, ending: str = "tar.gz") -> str:
    """As python-build-standalone calls one for this machine."""
    return f"cpython-{VERSION}+{build}-{platform.machine()}-unknown-linux-gnu-install_only.{ending}"


def mark_installation(folder: Path, mark: str) -> None:
    """Make an installation differ from others: its module `made_by` says so."""
    (folder / "lib" / f"python{MINOR}" / "made_by.py").write_text(f"MARK = {mark!r}\n")


def make_installation(folder: Path) -> None:
    """Lay an installation out, as if it had been configured with the prefix /install."""
    stdlib = Path(sysconfig.get_path("stdlib"))
    lib = folder / "lib" / f"python{MINOR}"
    shutil.copytree(stdlib, lib, ignore=_left_out, symlinks=False)
    (lib / "site-packages").mkdir()
    for data in lib.glob("_sysconfigdata_*.py"):
        text = data.read_text().replace(sys.base_prefix, "/install") if sys.base_prefix != "/usr" else data.read_text()
        data.write_text(re.sub(r"'prefix': '[^']*'", "'prefix': '/install'", text))
    include = Path(sysconfig.get_path("include", vars={"installed_base": sys.base_prefix}))
    if include.is_dir():
        shutil.copytree(include, folder / "include" / f"python{MINOR}")
    _copy_executable(folder)


def _copy_executable(folder: Path) -> None:
    executable = folder / "bin" / f"python{MINOR}"
    executable.parent.mkdir()
    shutil.copy(os.path.realpath(getattr(sys, "_base_executable", sys.executable)), executable)
    (executable.parent / "python3").symlink_to(executable.name)
    library = sysconfig.get_config_var("INSTSONAME") or ""
    if sysconfig.get_config_var("Py_ENABLE_SHARED") and ".so" in library:
        shutil.copy(Path(sysconfig.get_config_var("LIBDIR")) / library, folder / "lib" / library)
        subprocess.run(["patchelf", "--set-rpath", "$ORIGIN/../lib", executable], check=True)


def _left_out(folder: str, names: Sequence[str]) -> set[str]:
    links = {name for name in names if (Path(folder) / name).is_symlink() and not (Path(folder) / name).exists()}
    return {*shutil.ignore_patterns(*LEFT_OUT)(folder, list(names)), *links}


def pack(installation: Path, archive: Path, *, root: str = "python") -> Path:
    """Pack an installation under the folder `root`, compressed as the archive's name says."""
    opened = _zstd if archive.name.endswith(".zst") else _gzip
    with opened(archive) as stream, tarfile.open(fileobj=stream, mode="w") as tar:
        tar.add(installation, root or ".")
    return archive


def _gzip(archive: Path) -> IO[bytes]:
    import gzip

    return gzip.open(archive, "wb", compresslevel=1)  # type: ignore[return-value]


def _zstd(archive: Path) -> IO[bytes]:
    try:
        from compression import zstd  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        from backports import zstd
    opened: Callable[..., IO[bytes]] = zstd.open
    return opened(archive, "wb", level=1)
