"""What a failed build hints at, from what real tools of this machine say."""

import shutil
from textwrap import dedent

import pytest

from tests.acceptance.conftest import Home
from tests.support.projects import Project

COMPILE = """
import subprocess
with open("x.c", "w") as file:
    file.write({source!r})
subprocess.run({command!r}, check=True)
"""


def failed_build(home: Home, build_code: str, **traits: object) -> str:
    home.upstream.add(Project(name="app", build_code=build_code, **traits))  # type: ignore[arg-type]
    done = home.run("build", "app")
    assert done.code == 20, done.err
    _, found, hint = done.err.partition("\nhint: ")
    assert found, done.err
    return hint


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
@pytest.mark.parametrize(
    ("source", "command", "hint"),
    [
        ("#include <gdal/gdal.h>\n", ["gcc", "-c", "x.c"], "apt-get install libgdal-dev"),
        ("int main() { return 0; }\n", ["gcc", "x.c", "-lnetcdf"], "apt-get install libnetcdf-dev"),
        ("#include <frobnicate.h>\n", ["gcc", "-c", "x.c"], "apt-file search /frobnicate.h"),
    ],
    ids=["header", "library", "unknown header"],
)
def test_what_gcc_misses(home: Home, source: str, command: list[str], hint: str) -> None:
    assert hint in failed_build(home, COMPILE.format(source=source, command=command))


@pytest.mark.skipif(shutil.which("cmake") is None, reason="needs cmake")
def test_what_cmake_misses(home: Home) -> None:
    source = "cmake_minimum_required(VERSION 3.10)\nproject(x NONE)\nfind_package(GDAL REQUIRED)\n"
    code = COMPILE.format(source=source, command=["cmake", "."]).replace("x.c", "CMakeLists.txt")
    assert "apt-get install libgdal-dev" in failed_build(home, code)


def test_what_the_shell_misses(home: Home) -> None:
    hint = failed_build(home, "import subprocess; subprocess.run('nc-config --libs', shell=True, check=True)")
    assert "apt-get install libnetcdf-dev" in hint


def test_download_is_told(home: Home) -> None:
    hint = failed_build(home, "import urllib.request; urllib.request.urlopen('http://files.example/x')")
    assert "no network" in hint


def test_recipe_of_the_hint_lets_it_be_built(home: Home) -> None:
    home.upstream.add(Project(name="helper", modules={"helper.py": "NAME = 'helper'\n"}))
    hint = failed_build(home, "", code="import helper\n")
    assert "app.toml in the folder that WHEELFARM_RECIPES names" in hint
    recipes = home.root / "recipes"
    recipes.mkdir()
    (recipes / "app.toml").write_text(dedent(hint.partition(":\n")[2]))

    done = home.run("build", "app", environment={"WHEELFARM_RECIPES": str(recipes)})

    assert done.code == 0, done.err
