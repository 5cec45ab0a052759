"""Resolving for a target on a machine that has no such interpreter and is no such platform."""

import json
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from dataclasses import replace

import pytest
from packaging.markers import Marker
from uv import find_uv_bin

from tests.acceptance.conftest import Home
from tests.support.projects import Project
from tests.support.values import make_target
from wheelfarm.target_markers import marker_environment

ELSEWHERE = replace(
    make_target("arm-cp313"),
    python="/nowhere/bin/python",
    python_version="3.13.2",
    abi="cp313",
    platform="linux-aarch64",
)
RESOLVE = """
import json, os, sys
from wheelfarm.embedded import attached
from wheelfarm.farm import Farm
from wheelfarm.resolution import resolve
from wheelfarm.settings import Settings
from wheelfarm.target import Target

asked = json.loads(sys.argv[1])
target, settings = Target.from_json(asked["target"]), Settings.from_environment(os.environ)
with attached(settings) as embedded, Farm(embedded.url, embedded.token) as farm:
    farm.register(target)
    found = resolve(asked["requirements"], target=target, farm=farm, cache_dir=settings.cache / "uv")
print(json.dumps([str(sdist) for sdist in found.sdists]))
"""
MARKERS = {
    "python_full_version == '3.13.2'": True,
    "python_full_version < '3.13.2'": False,
    "implementation_version == '3.13.2'": True,
    "implementation_name == 'cpython' and platform_python_implementation == 'CPython'": True,
    "platform_machine == 'aarch64' and platform_system == 'Linux'": True,
    "platform_machine == 'x86_64'": False,
    "platform_release == ''": True,
    "platform_release >= '1'": False,
    "platform_version == ''": True,
    "sys_platform == 'win32' or os_name == 'nt'": False,
}


def names(home: Home, *requirements: str) -> list[str]:
    """What the requirements resolve to for a target elsewhere; no verb takes such a target yet."""
    asked = json.dumps({"target": ELSEWHERE.to_json(), "requirements": requirements})
    done = subprocess.run(
        [sys.executable, "-c", RESOLVE, asked], env=home.environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return sorted(json.loads(done.stdout))


def test_markers_everywhere_are_the_targets(home: Home) -> None:
    marked = {f"marked-{number}": marker for number, marker in enumerate(MARKERS)}
    asked = {f"asked-{number}": marker for number, marker in enumerate(MARKERS)}
    home.upstream.add(
        Project(name="app", requires_dist=[f"{name}; {marker}" for name, marker in marked.items()]),
        *(Project(name=name) for name in (*marked, *asked)),
    )

    found = names(home, "app", *(f"{name}; {marker}" for name, marker in asked.items()))

    expected = (f"{name}==1.0" for name, marker in {**marked, **asked}.items() if MARKERS[marker])
    assert found == sorted(["app==1.0", *expected])


def test_python_requirement_of_an_sdist_is_the_targets_full_version(home: Home) -> None:
    home.upstream.add(Project(name="app"), Project(name="app", version="2.0", requires_python=">=3.13.2"))
    home.upstream.add(Project(name="app", version="3.0", requires_python=">=3.13.3"))

    assert names(home, "app") == ["app==2.0"]


def test_markers_of_resolver_and_of_the_farm_agree() -> None:
    environment = {**marker_environment(ELSEWHERE)}
    assert {marker: Marker(marker).evaluate(environment) for marker in MARKERS} == MARKERS


@pytest.mark.parametrize("sandbox", ["bubblewrap", "none"])
def test_what_a_compiled_wheel_needs_is_noted_on_the_host_too(home: Home, sandbox: str) -> None:
    source = """
#include <Python.h>
#include <math.h>
double grown(double x) { return exp(x); }
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "native_c", NULL, -1, NULL};
PyMODINIT_FUNC PyInit_native_c(void) { return PyModule_Create(&module); }
"""
    home.upstream.add(Project(name="native", extension=source, extension_flags=["-lm"]))
    built = home.run("build", "native", "--python", sys.executable, "--sandbox", sandbox)
    assert built.code == 0, built.err
    (fit,) = [
        origin["fit"]
        for origin in home.run("why", "native", "-p", sys.executable, "--sandbox", sandbox, "--json")
        .json["origins"]
        .values()
    ]
    assert (fit["elf_files"], fit["portable"], "libm.so.6" in fit["needs"]) == (1, False, True)


MODULE = """
#include <Python.h>
%s
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "%s_c", NULL, -1, NULL};
PyMODINIT_FUNC PyInit_%s_c(void) { %s return PyModule_Create(&module); }
"""


@pytest.mark.skipif(shutil.which("patchelf") is None, reason="patchelf is not installed")
def test_portable_wheel_leaves_to_the_machine_what_it_may_and_keeps_the_promise_of_its_abi(held_home: Home) -> None:
    home = held_home
    kept = """
import subprocess
with open("kept.c", "w") as file:
    file.write("int kept(void) { return 1; }")
subprocess.check_call(["gcc", "-shared", "-fPIC", "kept.c", "-o", "libkept.so.1", "-Wl,-soname,libkept.so.1"])
"""
    external = Project(
        name="external",
        extension=MODULE % ("extern int kept(void);", "external", "external", "kept();"),
        extension_flags=["-L.", "-l:libkept.so.1"],
        build_code=kept,
    )
    limited = Project(name="limited", abi3=True, extension=MODULE % ("", "limited", "limited", ""))
    beyond = Project(
        name="beyond",
        abi3=True,
        extension=MODULE % ("", "beyond", "beyond", 'PyCode_NewEmpty("file", "name", 1);'),
    )
    home.upstream.add(external, limited, beyond)
    words = ["--tag-policy", "portable", "--external-library", "libkept.so.1", "--no-check"]
    made = home.run("target", "add", "portable", "--from", f"host:{sys.executable}", *words)
    assert made.code == 0, made.err

    done = home.run("build", "external", "limited", "beyond", "--keep-going", "--target", "portable", "--out", "out")

    assert done.code == 23, done.err
    assert "is tagged abi3 and uses what is not of that limited API: PyCode_NewEmpty." in done.err
    wheels = {path.name.partition("-")[0]: path for path in (home.root / "out").iterdir()}
    assert sorted(wheels) == ["external", "limited"]
    assert all("-manylinux" in path.name for path in wheels.values())
    assert "-abi3-" in wheels["limited"].name
    with zipfile.ZipFile(wheels["external"]) as wheel:
        assert [name for name in wheel.namelist() if "kept" in name] == []
    (told,) = home.run("why", wheels["external"], "--json").json["origins"].values()
    assert "libkept.so.1" in told["fit"]["needs"]
    assert "libkept.so.1: cannot open" in told["trial"]["unproven"][0][1]  # no machine of the farm's has it
    leave_manylinux_out(home)


def leave_manylinux_out(home: Home) -> None:
    """no-manylinux comes into an environment that stock uv has asked for its tags already, and remembers (uv#10832)."""
    environment, cache = home.root / "env", home.root / "uv-cache"
    uv = {**home.environment, "UV_CACHE_DIR": str(cache), "UV_NO_CONFIG": "1"}
    by_uv = [find_uv_bin(), "pip", "install", "--no-index", "--python", str(environment), "--dry-run"]
    subprocess.run([find_uv_bin(), "venv", "--no-project", "-p", sys.executable, environment], env=uv, check=True)
    subprocess.run([*by_uv, "--find-links", home.root / "out", "limited"], env=uv, check=True, capture_output=True)
    assert list(cache.glob("interpreter-*/*/*"))
    (packages,) = environment.glob("lib/python*/site-packages")
    (packages / "_manylinux.py").write_text("def manylinux_compatible(*_, **__):\n    return False\n")

    warm = {"UV_CACHE_DIR": str(cache)}
    portable = home.run("install", "limited", "--target", "portable", "--venv", environment, environment=warm)
    native = home.run("install", "limited", "--venv", environment, environment=warm)

    assert (portable.code, "does not take what was built for portable" in portable.err) == (47, True), portable.err
    assert native.code == 0, native.err
    (info,) = packages.glob("limited-*.dist-info")
    assert f"-abi3-{sysconfig.get_platform().replace('-', '_')}\n" in (info / "WHEEL").read_text()


def test_changed_target_is_a_new_revision_and_why_says_so(held_home: Home) -> None:
    held_home.upstream.add(Project(name="plain", extension=MODULE % ("", "plain", "plain", "")))

    def define(*words: str) -> str:
        added = held_home.run("target", "add", "own", "--from", "host", "--no-check", "--json", *words)
        assert added.code == 0, added.err
        return str(added.json["target"]["revision"])[:12]

    def why() -> str:
        return held_home.run("why", "plain", "--target", "own").out

    first = define()
    assert held_home.run("build", "plain", "--target", "own").code == 0
    assert f"revision {first}" in why()
    assert "since then changed" not in why()
    second = define("--replace", "--env", "CFLAGS=-O1")
    assert f"now the target is in revision {second}; since then changed: its environment" in why()
    assert held_home.run("build", "plain", "--target", "own").code == 0
    assert f"built before in revision {first}; since then changed: its environment" in why()
    assert f"now the target is in revision {second}" not in why()
    words = ("target", "add", "own", "--from", "host", "--no-check", "--replace", "--variant", "other")
    refused = held_home.run(*words)
    assert (refused.code, "variant other (not none)" in refused.err) == (2, True), refused.err


def test_host_is_what_is_built_for_without_a_target(held_home: Home) -> None:
    held_home.upstream.add(Project(name="pure"))
    plain = held_home.run("build", "pure", "--json").json["wheels"]
    assert held_home.run("build", "pure", "--target", "host", "--json").json["wheels"] == plain
