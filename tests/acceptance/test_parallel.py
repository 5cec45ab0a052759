"""The cores of a build: they reach its tools, and leave no mark in the wheel."""

import os
import zipfile

import pytest

from tests.acceptance.conftest import Home
from tests.acceptance.test_recipes import build_log, write_recipe
from tests.support.projects import Project, make_tar_gz
from tests.support.upstream import PassingThrough
from wheelfarm_services.upstreams import default_index_url

TELLS = """
import os
names = ("MAKEFLAGS", "CMAKE_BUILD_PARALLEL_LEVEL", "CARGO_BUILD_JOBS", "NPY_NUM_BUILD_JOBS", "MAX_JOBS")
print("cores:", *(os.environ.get(name) for name in names), open(os.environ["DIST_EXTRA_CONFIG"]).read().split())
"""
SETUP = """
from setuptools import Extension, setup
setup(name="parts", version="1.0", ext_modules=[Extension(f"part{n}", [f"part{n}.c"]) for n in range(4)])
"""
PART = """
#include <Python.h>
static struct PyModuleDef module = {{PyModuleDef_HEAD_INIT, "part{n}", "part", -1, NULL}};
PyMODINIT_FUNC PyInit_part{n}(void) {{ return PyModule_Create(&module); }}
"""


def test_cores_reach_every_build_tool(home: Home) -> None:
    home.upstream.add(Project(name="app", build_code=TELLS))

    done = home.run("build", "app", environment={"WHEELFARM_BUILD_CORES": "3"})

    assert done.code == 0, done.err
    assert "cores: -j3 3 3 3 3 ['[build_ext]', 'parallel', '=', '3']" in build_log(home)


def test_recipe_may_set_the_cores_and_keep_its_own_flags(home: Home) -> None:
    home.upstream.add(Project(name="app", build_code=TELLS))
    settings = write_recipe(home, 'limits = { cores = 2 }\nenvironment = { MAKEFLAGS = "-s" }\n')

    done = home.run("build", "app", environment=settings)

    assert done.code == 0, done.err
    assert "cores: -s 2 2 2 2 " in build_log(home)


@pytest.mark.index
def test_wheel_is_the_same_bytes_however_many_cores_built_it(home: Home) -> None:
    files = {"setup.py": SETUP.encode(), "PKG-INFO": b"Metadata-Version: 1.0\nName: parts\nVersion: 1.0\n"}
    files |= {f"part{n}.c": PART.format(n=n).encode() for n in range(4)}
    sdist = make_tar_gz({f"parts-1.0/{name}": data for name, data in files.items()})
    built = []
    with PassingThrough(default_index_url(os.environ)) as upstream:
        home.upstream = upstream
        upstream.add_file("parts", "parts-1.0.tar.gz", sdist)
        for cores in ("1", "4"):
            settings = {"WHEELFARM_BUILD_CORES": cores, "WHEELFARM_STORE": str(home.root / f"store-{cores}")}
            done = home.run("build", "parts", environment=settings, timeout_s=300)
            assert done.code == 0, done.err + home.farm_log()
            (wheel,) = (home.root / f"store-{cores}").glob("wheels/*/parts-*.whl")
            built.append(wheel)

    assert built[0].read_bytes() == built[1].read_bytes()
    assert len([name for name in zipfile.ZipFile(built[0]).namelist() if name.endswith(".so")]) == 4
