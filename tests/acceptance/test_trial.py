"""Wheels are tried before they are published: extension modules are loaded, what a recipe names is imported and run."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.acceptance.conftest import Home, open_home
from tests.support.projects import Project
from tests.support.upstream import Upstream

MODULE = """
#include <Python.h>
%s
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "%s_c", NULL, -1, NULL};
PyMODINIT_FUNC PyInit_%s_c(void) { %s return PyModule_Create(&module); }
"""


def source(name: str, declared: str = "", code: str = "") -> str:
    return MODULE % (declared, name, name, code)


CALLER = """
import os, subprocess, sys

def main():
    for name in ("tool", "tool-script"):
        said = subprocess.check_output([name, "asked"], text=True, env={**os.environ, "OWN": "yes"})
        assert said.split() == ["yes", sys.prefix, "asked"], said
    isolated = subprocess.check_output(["python", "-I", "-c", "import caller, tool, sys; print(sys.prefix)"], text=True)
    assert isolated.strip() == sys.prefix, isolated
"""
PROJECTS = (
    Project(name="sound", extension=source("sound")),
    # its source names what no library has: it compiles, and could never be loaded
    Project(name="unlinked", extension=source("unlinked", "extern int left_out(void);", "left_out();")),
    # the same, where it may be for want of another project, which its package imports first
    Project(
        name="excused",
        extension=source("excused", "extern int elsewhere(void);", "elsewhere();"),
        requires_dist=["sound"],
    ),
    # linked, and yet it wants its own package: no fault that can be seen from outside
    Project(name="wants", extension=source("wants", code='PyImport_ImportModule("nowhere"); return NULL;')),
    Project(name="crashes", extension=source("crashes", code="__builtin_trap();")),
    # built against a library that is gone afterwards
    Project(
        name="stranded",
        extension=source("stranded", "extern int kept(void);", "kept();"),
        extension_flags=["-L.", "-lkept", "-Wl,-rpath,$ORIGIN"],
        build_code="""
import subprocess
with open("kept.c", "w") as file:
    file.write("int kept(void) { return 1; }")
subprocess.check_call(["gcc", "-shared", "-fPIC", "kept.c", "-o", "libkept.so"])
""",
    ),
    Project(name="left-alone", extension=source("left_alone", "extern int host(void);", "host();")),
    Project(name="pure"),
    Project(name="unimportable", modules={"unimportable.py": "import tested_by_none\n"}),
    Project(name="tested", modules={"tested.py": "import os, sys\nsys.exit(os.listdir('.') != [])\n"}),
    Project(name="failing", modules={"failing.py": "print('told by the test')\nraise SystemExit(3)\n"}),
    Project(
        name="user",
        modules={"user.py": "import pure, left\n"},
        requires_dist=["pure", "left"],
        build_requires=["pure"],
    ),
    Project(name="left"),
    # its commands are those that an installer makes of what a wheel has: an entry point, and a script as it is
    Project(
        name="tool",
        modules={
            "tool.py": "import os, sys\ndef main():\n    print(os.environ.get('OWN'), sys.prefix, *sys.argv[1:])\n",
            "tool-1.0.dist-info/entry_points.txt": "[console_scripts]\ntool = tool:main\n",
            "tool-1.0.data/scripts/tool-script": "#!python\nimport tool, sys\nsys.exit(tool.main())\n",
            "tool-1.0.data/data/share/tool.txt": "told\n",
        },
    ),
    # what it was built with and requires has its commands there, too
    Project(
        name="caller",
        modules={
            "caller.py": CALLER,
            "caller-1.0.dist-info/entry_points.txt": "[console_scripts]\ncall = caller:main\n",
        },
        requires_dist=["tool"],
        build_requires=["tool"],
    ),
    Project(name="commandless"),
    Project(name="malformed", modules={"malformed-1.0.dist-info/entry_points.txt": "[console_scripts]\nmal = :\n"}),
)
RECIPES = {
    "tool": 'test = { command = ["tool", "--version"] }',
    "caller": 'test = { command = ["call"] }',
    "malformed": 'test = { command = ["mal"] }',
    "commandless": 'test = { command = ["commandless", "--version"] }',
    "left-alone": "test = { load = false }",
    "unimportable": 'test = { import = ["unimportable"] }',
    "tested": 'test = { command = ["python", "-m", "tested"] }',
    "failing": 'test = { command = ["python", "-m", "failing"] }',
    "user": 'test = { import = ["user", "pure"] }',
}


@pytest.fixture(scope="module")
def tried() -> Iterator[tuple[Home, Any]]:
    """A home in which all of them were built, and what the command said of it."""
    with Upstream() as upstream, open_home(upstream) as home:
        upstream.add(*PROJECTS)
        folder = home.root / "recipes"
        folder.mkdir()
        for name, text in RECIPES.items():
            recipe = f'project = "{name}"\n[[recipe]]\nreason = "The test says so."\n{text}\n'
            (folder / f"{name}.toml").write_text(recipe)
        home.settings |= {"WHEELFARM_RECIPES": str(folder)}
        done = home.run("build", "--keep-going", "--json", *(project.name for project in PROJECTS))
        assert done.code == 26, done.err + home.farm_log()
        yield home, done.json


def trials(home: Home) -> dict[str, Mapping[str, Any]]:
    """What the provenance of each published wheel says of its trial."""
    manifests = [json.loads(path.read_text()) for path in home.store.glob("manifests/*.json")]
    return {one["wheel"]["name"]: one["provenance"]["trial"] for one in manifests}


def test_wheels_that_cannot_be_used_are_refused_with_the_reason(tried: tuple[Home, Any]) -> None:
    failed = {one["sdist"].partition("==")[0]: one for one in tried[1]["failed"]}
    assert sorted(failed) == ["commandless", "failing", "malformed", "stranded", "unimportable", "unlinked"]
    assert {one["error"] for one in failed.values()} == {"broken-wheel"}
    assert "its module unlinked_c fails to load: unlinked_c" in failed["unlinked"]["message"]
    assert "undefined symbol: left_out" in failed["unlinked"]["message"]
    assert "libkept.so: cannot open shared object file" in failed["stranded"]["message"]
    assert "--package" in failed["stranded"]["hint"]
    assert "No module named 'tested_by_none'" in failed["unimportable"]["message"]
    assert "python -m failing ended with status 3" in failed["failing"]["message"]
    assert "told by the test" in failed["failing"]["log_tail"]
    assert "was built and can't be installed" in failed["malformed"]["message"]
    assert "neither the wheel nor the target has a command commandless" in failed["commandless"]["log_tail"]


def test_what_was_seen_of_a_wheel_stands_in_its_provenance(tried: tuple[Home, Any]) -> None:
    seen = trials(tried[0])
    names = ["caller", "crashes", "excused", "left", "left-alone", "pure", "sound", "tested", "tool", "user", "wants"]
    assert sorted(seen) == names
    nothing = {"loaded": 0, "imported": [], "command": [], "unproven": [], "without": []}
    assert [seen[name] for name in ("left", "left-alone", "pure")] == [None] * 3
    assert seen["sound"] == seen["wants"] == {**nothing, "loaded": 1}
    assert seen["tested"] == {**nothing, "command": ["python", "-m", "tested"]}
    assert (seen["tool"]["command"], seen["caller"]["command"]) == (["tool", "--version"], ["call"])
    assert (seen["user"]["imported"], seen["user"]["without"]) == (["pure"], ["left"])
    assert seen["user"]["unproven"] == [["user", "ModuleNotFoundError: No module named 'left'"]]
    assert (seen["excused"]["loaded"], seen["excused"]["without"]) == (0, ["sound"])
    assert "undefined symbol: elsewhere" in seen["excused"]["unproven"][0][1]
    assert seen["crashes"]["unproven"][0][1].startswith("its process ended with signal")


def test_why_tells_what_was_tried(tried: tuple[Home, Any]) -> None:
    told = tried[0].run("why", "user").out
    assert "tried       pure imported; not shown to load: user; without left" in told, told


def test_wheels_are_tried_without_a_sandbox_too(tried: tuple[Home, Any]) -> None:
    home, _ = tried
    done = home.run("build", "--keep-going", "--json", "--sandbox", "none", "sound", "user", "unlinked", "caller")
    assert (done.code, [one["sdist"] for one in done.json["failed"]]) == (26, ["unlinked==1.0"]), done.err
    assert "undefined symbol: left_out" in done.json["message"]
    built = {wheel["name"] for wheel in done.json["wheels"]}
    assert built - {"left"} == {"caller", "pure", "sound", "tool", "user"}
