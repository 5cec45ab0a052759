"""One set for several targets on every back end, each wheel built, loaded and imported in its own; results in docs/."""

import os
import platform
import re
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import get_args

import pytest

from tests.acceptance.conftest import Home, open_home
from tests.slow.test_own_python import BUILD, CONFIGURED, debian_source, run
from tests.support.interpreter import pack
from tests.support.projects import make_tar_gz
from tests.support.tables import Table, tables
from tests.support.upstream import PassingThrough
from wheelfarm.digest import sha256_of_file
from wheelfarm.errors import SandboxUnavailable
from wheelfarm.settings import Settings
from wheelfarm.target_definition import BackEnd, read_definition
from wheelfarm_services.store import open_store
from wheelfarm_services.upstreams import default_index_url
from wheelfarm_workers.distributions import Distributions
from wheelfarm_workers.driver import MOUNTED_AT, lay_out
from wheelfarm_workers.grounds import Definitions, ground_of
from wheelfarm_workers.machines import machine_of, require_runnable
from wheelfarm_workers.root_sources import bring_root
from wheelfarm_workers.roots import Roots
from wheelfarm_workers.sandbox import Limits, Mount
from wheelfarm_workers.sandbox.back_ends import BackEnds

pytestmark = [pytest.mark.index, pytest.mark.slow]

HEADING = "Targets"
SET = ("markupsafe", "pyyaml", "cffi", "click", "mesonic")
PACKAGES = ("gfortran", "libffi-dev", "libssl-dev", "libyaml-dev", "ninja-build", "zlib1g-dev")
MESON = {
    "PKG-INFO": "Metadata-Version: 2.2\nName: mesonic\nVersion: 1.0\n",
    "pyproject.toml": """
[build-system]
requires = ["meson-python"]
build-backend = "mesonpy"
[project]
name = "mesonic"
version = "1.0"
""",
    "meson.build": """
project('mesonic', 'c')
sources = ['mesonic.c']
flags = []
if add_languages('fortran', native: false, required: false)
  sources += 'told.f90'
  flags += '-DFORTRAN'
endif
import('python').find_installation().extension_module('mesonic', sources, c_args: flags, install: true)
""",
    "mesonic.c": """
#include <Python.h>
#ifdef FORTRAN
int told(int);
#define LANGUAGE "Fortran"
#else
static int told(int number) { return number; }
#define LANGUAGE "C"
#endif
static PyObject *tell(PyObject *self, PyObject *number) {
    return Py_BuildValue("si", LANGUAGE, told((int) PyLong_AsLong(number)));
}
static PyMethodDef methods[] = {{"tell", tell, METH_O, NULL}, {NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "mesonic", NULL, -1, methods};
PyMODINIT_FUNC PyInit_mesonic(void) { return PyModule_Create(&module); }
""",
    "told.f90": """
function told(number) result(same) bind(c, name="told")
  use iso_c_binding, only: c_int
  integer(c_int), value :: number
  integer(c_int) :: same
  character(len=12) :: text
  write(text, '(I12)') number
  read(text, '(I12)') same
end function
""",
}
"""A project that is built by meson, with Fortran (whose runtime library it then needs) where there is a compiler."""

USED = '''
import json, os, subprocess, sys
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)) + "/lib")
from packaging.tags import sys_tags
from packaging.utils import parse_wheel_filename
wheels = sorted(name for name in os.listdir("/in/wheels") if name.endswith(".whl"))
taken, path = set(sys_tags()), sys.path[0]
for name in wheels:
    assert parse_wheel_filename(name)[3] & taken, name
    words = [sys.executable, "-m", "installer", "--prefix", "/build/used"]
    subprocess.check_call(words + ["/in/wheels/" + name], env=dict(os.environ, PYTHONPATH=path))
(site,) = {top for top, folders, _ in os.walk("/build/used") if top.endswith("-packages")}
code = """import click, cffi, _cffi_backend, markupsafe._speedups, mesonic
assert mesonic.tell(7)[1] == 7
print("mesonic with", mesonic.tell(7)[0])
import importlib.util
if importlib.util.find_spec("yaml"):
    import yaml
    print("pyyaml", "with" if yaml.__with_libyaml__ else "without", "libyaml")"""
told = subprocess.check_output([sys.executable, "-c", code], env=dict(os.environ, PYTHONPATH=site))
with os.fdopen(int(os.environ["WHEELFARM_RESULT_FD"]), "wb") as out:
    out.write(told)
'''
"""What installs the wheels in their target, by its own interpreter, once that has said that it takes their tags."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A target of the table: what it is made from, what its wheels promise, and what is built of the set. (pyyaml takes
    Cython, whose compilation would take long where it is emulated.)"""

    name: str
    suite: str = ""
    arch: str = ""
    policy: str = "native"
    own_python: bool = False
    builds: tuple[str, ...] = SET


ROWS = (
    Row(name="host"),
    Row(name="bookworm", suite="bookworm"),
    Row(name="bookworm-portable", suite="bookworm", policy="portable"),
    Row(name="trixie", suite="trixie"),
    Row(name="bullseye-own-python", suite="bullseye", own_python=True),
    Row(name="arm64", suite="bookworm", arch="arm64", builds=tuple(name for name in SET if name != "pyyaml")),
)
OLD = Row(name="bullseye", suite="bullseye")


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    """One home for all targets, so that sdists are fetched once."""
    with PassingThrough(default_index_url(os.environ)) as upstream, open_home(upstream) as home:
        files = {f"mesonic-1.0/{path}": text.encode() for path, text in MESON.items()}
        upstream.add_file("mesonic", "mesonic-1.0.tar.gz", make_tar_gz(files))
        yield home


@pytest.fixture(scope="module")
def table(write_docs: bool) -> Iterator[Table]:
    """The table of the page, written at the end where that is asked for."""
    table = tables("slow-suite.md", (HEADING,))[HEADING]
    yield table
    if write_docs:
        table.write([f"{row.name}, {back_end}" for row in (*ROWS, OLD) for back_end in get_args(BackEnd)])


@pytest.mark.parametrize("back_end", get_args(BackEnd))
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_set_is_built_for_a_target_and_used_there(
    pytestconfig: pytest.Config, home: Home, row: Row, back_end: str, table: Table, tmp_path: Path
) -> None:
    name = f"set-{row.name}-{back_end}"
    define(pytestconfig, home, row, name, back_end, tmp_path)
    began = time.monotonic()
    built = home.run("build", "--target", name, "--out", name, "--json", *row.builds, timeout_s=7200)
    assert built.code == 0, built.err + home.farm_log()
    took = time.monotonic() - began
    target, said = used(home, name, home.root / name, tmp_path)

    wheels = sorted(path.name for path in (home.root / name).glob("*.whl"))
    tags = {tag for wheel in wheels for tag in wheel.removesuffix(".whl").rpartition("-")[2].split(".")}
    promises = {re.sub(r"\d*_.*", "", tag) for tag in tags}
    assert promises == {"any", "linux" if row.policy == "native" else "manylinux"}, wheels
    told = f"{len(wheels)} wheels installed and imported; {said}"
    table.add(f"{row.name}, {back_end}", target, " ".join(sorted(tags - {"any"})), told, f"{took / 60:.1f} min", when())


def test_suite_whose_python_is_too_old_is_refused_with_a_way_out(
    pytestconfig: pytest.Config, home: Home, table: Table, tmp_path: Path
) -> None:
    refused = home.run("target", "add", "old", "--from", f"tar:{root_of(pytestconfig, OLD, tmp_path)}", timeout_s=900)
    assert (refused.code, "CPython 3.9.2, and builds run on 3.10 or later" in refused.err) == (7, True), refused.err
    assert "one that the farm keeps: --interpreter" in refused.err
    table.add(f"{OLD.name}, bubblewrap", "CPython 3.9.2", "", "refused: builds run on 3.10 or later", "", when())


def when() -> str:
    return f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores"


def define(config: pytest.Config, home: Home, row: Row, name: str, back_end: str, tmp: Path) -> None:
    """Define a row's target in the home, on a back end."""
    if back_end != "bubblewrap" and (not row.suite or shutil.which(back_end) is None):
        pytest.skip(f"{back_end} is not installed, or needs a root filesystem")
    words = ["--from", f"tar:{root_of(config, row, tmp)}"] if row.suite else ["--from", "host:python3"]
    if row.own_python:
        python = cpython_of(config, root_of(config, row, tmp), tmp)
        sha256 = sha256_of_file(python)
        added = home.run("python", "add", python, "--sha256", sha256, "--json")
        assert added.code == 0, added.err
        words += ["--interpreter", python.name.split("-")[1]]
    made = home.run("target", "add", name, *words, "--tag-policy", row.policy, timeout_s=900)
    assert made.code == 0, made.err
    path = home.root / "data" / "wheelfarm-targets" / f"{name}.toml"
    path.write_text(path.read_text().replace('sandbox = "bubblewrap"', f'sandbox = "{back_end}"'))


def root_of(config: pytest.Config, row: Row, tmp: Path) -> Path:
    """The archive of a suite's root filesystem, made once for all runs of a work tree."""
    if os.getuid() != 0 or shutil.which("debootstrap", path="/usr/sbin:/usr/bin:/sbin:/bin") is None:
        pytest.skip("debootstrap is not installed, or this is not root")
    try:
        require_runnable(machine_of(row.arch))
    except SandboxUnavailable as error:
        pytest.skip(f"{error.message} {error.hint}")
    archive = kept(config, tmp) / f"{row.suite}-{row.arch or 'own'}-set.tar"
    if not archive.exists():
        roots = Roots(tmp / "made", tmp / "cache")
        sha256 = bring_root(f"debootstrap:{row.suite}", roots, arch=row.arch, packages=PACKAGES)
        shutil.move(roots.archive(sha256), archive)
    return archive


def cpython_of(config: pytest.Config, root: Path, tmp: Path) -> Path:
    """A CPython that was built on a root filesystem from this Debian's source package, once for all runs."""
    folder = kept(config, tmp) / root.stem
    for archive in folder.glob("cpython-*.tar.gz"):
        return archive
    folder.mkdir(exist_ok=True)
    (tmp / "python").mkdir()
    source = debian_source(tmp / "python")
    (tmp / "root").mkdir()
    run("tar", "-xf", root, "-C", tmp / "root", "--exclude", "./dev/*", cwd=tmp)
    shown = f"--bind {tmp / 'root'} / --dev /dev --proc /proc --tmpfs /tmp --bind {source} /build --chdir /build"
    words = ["bwrap", *shown.split(), "--unshare-net", "--setenv", "PATH", "/usr/bin:/bin"]
    steps = (f"./configure {' '.join(CONFIGURED)}", f"make -j{os.cpu_count()}", "make install DESTDIR=/build/out")
    run(*words, "sh", "-c", " && ".join(steps), cwd=tmp)
    version = re.findall(r'PY_VERSION\s+"([0-9.]+)', (source / "Include/patchlevel.h").read_text())[0]
    name = f"cpython-{version}+{BUILD}-{platform.machine()}-unknown-linux-gnu-install_only.tar.gz"
    return pack(source / "out" / "install", folder / name)


def kept(config: pytest.Config, tmp: Path) -> Path:
    return config.cache.mkdir("roots") if config.cache else tmp


def used(home: Home, name: str, wheels: Path, tmp: Path) -> tuple[str, str]:
    """What the target is, and what its own Python said of the wheels once it had installed and imported them."""
    settings = Settings.from_environment(home.environment)
    script = tmp / "used.py"
    script.write_text(USED)
    (tmp / "work").mkdir()
    tools = lay_out("used", script, ("installer", "packaging"), tmp, tmp / "work")
    definition = read_definition(settings.targets / f"{name}.toml")
    target = Definitions(settings.targets, cache=settings.cache).target(name)
    with BackEnds(slots=1, work=tmp / "work") as back_ends:
        distributions = Distributions(partial(open_store, settings, create=False), settings.cache / "pythons")
        roots = Roots(settings.targets, settings.cache / "roots")
        ground = ground_of(target, definition, roots=roots, distributions=distributions, back_ends=back_ends)
        mounts = [Mount(source=tools.folder, target=MOUNTED_AT), Mount(source=wheels, target="/in/wheels")]
        run = ground.command((target.python, "-I", tools.script), input=b"", limits=Limits(wall_s=1800), mounts=mounts)
        log: list[bytes] = []
        ended = ground.sandbox.run(run, log=log.append, cancelled=threading.Event())
        with ended.result as file:
            said = ", ".join(file.read().decode().splitlines())
    assert said, b"".join(log).decode(errors="replace")
    return f"CPython {target.python_version}, {target.platform}", said
