"""Targets of a Debian root filesystem, which this machine need not be: defined, built for, installed from."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.conftest import Done, Home, open_home
from tests.support.containers import require_podman_runs
from tests.support.fleet import separate_farm
from tests.support.projects import Project
from tests.support.roots import PYTHON, debian_root
from tests.support.upstream import Upstream
from wheelfarm.derived_root import DerivedRoot

SOURCE = """
#include <Python.h>
#include <math.h>
#include <gnu/libc-version.h>
#ifndef FLAVOUR
#define FLAVOUR "plain"
#endif
static PyObject *tell(PyObject *self, PyObject *x) {
    return Py_BuildValue("sd", FLAVOUR, exp(PyFloat_AsDouble(x)));
}
static PyMethodDef methods[] = {{"tell", tell, METH_O, NULL}, {NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "native_c", NULL, -1, methods};
PyMODINIT_FUNC PyInit_native_c(void) { return PyModule_Create(&module); }
"""
NATIVE = Project(name="native", extension=SOURCE, extension_flags=["-lm"])
GMP = Project(
    name="gmp",
    extension="""
#include <Python.h>
extern const char *const __gmp_version;
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "gmp_c", NULL, -1, NULL};
PyMODINIT_FUNC PyInit_gmp_c(void) {
    PyObject *made = PyModule_Create(&module);
    PyModule_AddStringConstant(made, "VERSION", __gmp_version);
    return made;
}
""",
    extension_flags=["-l:libgmp.so.10"],
)
HOLLOW = Project(name="hollow", platform_tag=True)
"""Its extension is left out, as many do where a header is missing, and yet its wheel is for one platform."""
YAML = Project(
    name="wants-yaml",
    extension="""
#include <Python.h>
#include <yaml.h>
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "wants_yaml_c", NULL, -1, NULL};
PyMODINIT_FUNC PyInit_wants_yaml_c(void) {
    PyObject *made = PyModule_Create(&module);
    PyModule_AddStringConstant(made, "VERSION", yaml_get_version_string());
    return made;
}
""",
    extension_flags=["-lyaml"],
)
"""Its header and library are not in the root filesystem."""
NAMES = ("debian12", "flavoured")


@pytest.fixture(scope="module")
def farm(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A home with two targets of one root filesystem, and what they share of it unpacked once."""
    archive = debian_root(pytestconfig, tmp_path_factory.mktemp("root"))
    with Upstream() as upstream, open_home(upstream) as home:
        upstream.add(
            NATIVE, GMP, HOLLOW, Project(name="pure", requires_dist=["native; python_full_version == '3.11.2'"])
        )
        add(home, "debian12", archive)
        add(home, "flavoured", archive, "--env", 'CFLAGS=-O1 -DFLAVOUR="\\"red\\""', "--variant", "red")
        yield home


def add(home: Home, name: str, archive: Path, *words: str) -> Done:
    done = home.run("target", "add", name, "--from", f"tar:{archive}", *words)
    assert done.code == 0, done.err
    return done


def definitions(home: Home) -> Path:
    return home.root / "data" / "wheelfarm-targets"


def test_targets_are_listed_shown_and_checked(farm: Home) -> None:
    listed = farm.run("target", "list", "--json").json["targets"]
    assert {target["name"]: target["abi"] for target in listed} == dict.fromkeys(NAMES, PYTHON)
    assert len({target["root"] for target in listed}) == 1
    assert len({target["revision"] for target in listed}) == len(listed)
    shown = farm.run("target", "show", "flavoured")
    assert 'variant = "red"' in shown.out
    checked = farm.run("target", "check", "flavoured")
    assert (checked.code, "builds and loads C extensions" in checked.out) == (0, True), checked.err


def test_what_a_target_needs_is_resolved_by_its_python_built_on_its_root_and_installed(farm: Home) -> None:
    done = farm.run("install", "pure", "--target", "debian12", "--target-dir", "site", "--json")
    assert done.code == 0, done.err
    names = sorted(wheel["filename"] for wheel in done.json["installed"])
    machine = os.uname().machine
    assert names == [f"native-1.0-1-{PYTHON}-{PYTHON}-linux_{machine}.whl", "pure-1.0-1-py3-none-any.whl"]
    (origin,) = farm.run("why", "native", "--target", "debian12", "--json").json["origins"].values()
    root = farm.run("target", "list", "--json").json["targets"][0]["root"]
    assert (origin["target"]["root"], origin["sandbox"]) == (root, "bubblewrap")


def test_environment_of_a_target_reaches_its_builds_alone(farm: Home) -> None:
    flavours = {}
    for name in NAMES:
        done = farm.run("build", "native", "--target", name, "--out", name)
        assert done.code == 0, done.err
        (wheel,) = (farm.root / name).glob("*.whl")
        flavours[name] = b"red" in unpacked(wheel)
    assert flavours == {"debian12": False, "flavoured": True}


def unpacked(wheel: Path) -> bytes:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".so")]
        return archive.read(name)


def test_unknown_target_is_refused_with_the_names_that_are_near(farm: Home) -> None:
    done = farm.run("build", "native", "--target", "debian13")
    assert (done.code, "no target 'debian13'. Near: debian12." in done.err) == (2, True), done.err


def test_missing_compiler_and_missing_python_are_told_with_what_to_install(farm: Home, tmp_path: Path) -> None:
    target = farm.run("target", "list", "--json").json["targets"][0]
    tree = farm.root / "cache" / "wheelfarm" / "roots" / target["root"][:40]
    bare = tmp_path / "bare.tar"
    unneeded = ("usr/bin/*gcc*", "usr/bin/cc", "usr/lib/gcc", "usr/lib/*/*.a", "usr/share", "var", "usr/sbin")
    without = [word for name in unneeded for word in ("--exclude", f"./{name}")]
    subprocess.run(["tar", "-C", str(tree), *without, "-cf", str(bare), "."], check=True)
    lacking = farm.run("target", "add", "bare", "--from", f"tar:{bare}")
    assert (lacking.code, "can't build a C extension: there is no" in lacking.err) == (31, True), lacking.err
    assert "hint: Install gcc in it, or make it anew with --package gcc." in lacking.err
    nowhere = farm.run("target", "add", "bare", "--from", f"tar:{bare}", "--python", "/opt/python/bin/python3")
    assert (nowhere.code, "no Python that runs at /opt/python/bin/python3" in nowhere.err) == (7, True), nowhere.err
    assert sorted(path.stem for path in definitions(farm).glob("*.toml")) == sorted(NAMES)
    assert len(list((definitions(farm) / "roots").iterdir())) == 1  # what was brought in vain is gone


def test_worker_serves_defined_targets_and_clients_name_them(farm: Home) -> None:
    (farm.root / "fleet").mkdir()
    with separate_farm(farm.root / "fleet", farm.upstream.url) as fleet:
        fleet.start_broker()
        fleet.start_services()
        settings = {"WHEELFARM_TARGETS": str(definitions(farm)), "WHEELFARM_CACHE": str(farm.root / "cache/wheelfarm")}
        fleet.serve("w1", "--target", "debian12", settings=settings)
        client = {**fleet.client, "WHEELFARM_TARGETS": str(farm.root / "none")}
        done = farm.run("build", "native", "--target", "debian12", "--out", "far", environment=client)
        unserved = farm.run("build", "native", "--target", "flavoured", environment=client)
    assert done.code == 0, done.err
    assert [path.name for path in (farm.root / "far").iterdir()] != []
    assert (unserved.code, "serves a target 'flavoured'. Served: debian12." in unserved.err) == (39, True), unserved.err


def test_root_filesystem_that_is_gone_is_told_with_the_remedy(farm: Home) -> None:
    archive = next((definitions(farm) / "roots").glob("*.tar"))
    aside = archive.rename(archive.with_suffix(".aside"))
    try:
        done = farm.run("target", "check", "debian12", environment={"WHEELFARM_CACHE": str(farm.root / "fresh")})
    finally:
        aside.rename(archive)
    assert (done.code, f"sha256:{archive.stem} is gone" in done.err) == (2, True), done.err
    assert "wheelfarm target add" in done.err


def test_portable_target_repairs_what_it_builds_and_grafts_its_libraries(farm: Home) -> None:
    archive = next((definitions(farm) / "roots").glob("*.tar"))
    add(farm, "portable", archive, "--tag-policy", "portable", "--no-check")
    try:
        done = farm.run("build", "native", "gmp", "--target", "portable", "--out", "portable")
        assert done.code == 0, done.err
        wheels = {path.name.partition("-")[0]: path for path in (farm.root / "portable").glob("*.whl")}
        platforms = {part for path in wheels.values() for part in path.stem.split("-")[-1].split(".")}
        assert all(part.startswith("manylinux") for part in platforms)
        assert sorted(wheels) == ["gmp", "native"]
        with zipfile.ZipFile(wheels["gmp"]) as wheel:
            names = wheel.namelist()
            grafted = [name for name in names if "libgmp" in name]
            (sbom,) = [name for name in names if name.endswith(".dist-info/sboms/auditwheel.cdx.json")]
            told = json.loads(wheel.read(sbom))
        assert len(grafted) == 1
        assert any(str(one.get("purl", "")).startswith("pkg:deb/debian/libgmp10") for one in told["components"])
        leave_manylinux_out(farm)
        refused = farm.run("build", "hollow", "--target", "portable")
        assert (refused.code, "is for one platform and has nothing of it" in refused.err) == (23, True), refused.err
    finally:
        farm.run("target", "remove", "portable")


def leave_manylinux_out(farm: Home) -> None:
    """no-manylinux comes into an environment whose interpreter uv has asked already (uv#10832)."""
    if f"cp{sys.version_info.major}{sys.version_info.minor}" != PYTHON:
        return
    into = ("--venv", "strict", "--python", sys.executable)
    first = farm.run("install", "gmp", "--target", "portable", *into)
    assert first.code == 0, first.err
    (packages,) = (farm.root / "strict").glob("lib/python*/site-packages")
    (packages / "_manylinux.py").write_text("def manylinux_compatible(*_):\n    return False\n")
    portable = farm.run("install", "native", "--target", "portable", *into)
    assert (portable.code, "does not take what was built for portable" in portable.err) == (47, True), portable.err
    assert f"debian12 ({PYTHON}" in portable.err
    assert not list(packages.glob("native*"))
    native = farm.run("install", "native", "--target", "debian12", *into)
    assert native.code == 0, native.err
    (info,) = packages.glob("native-*.dist-info")
    assert f"-linux_{os.uname().machine}" in (info / "WHEEL").read_text()


def test_what_compiled_wheels_need_is_told_with_the_line_that_installs_it(farm: Home) -> None:
    done = farm.run("build", "gmp", "hollow", "--target", "debian12")
    assert done.code == 0, done.err
    told = farm.run("why", "gmp", "--target", "debian12").out
    assert "libgmp.so.10" in told
    assert "apt-get install" in told
    assert "libgmp10" in told
    assert "an optional extension was not built" in farm.run("why", "hollow", "--target", "debian12").out


def test_podmans_containers_make_the_wheel_that_bubblewrap_makes(farm: Home) -> None:
    require_podman_runs()
    add(farm, "contained", next((definitions(farm) / "roots").glob("*.tar")), "--sandbox", "podman")
    try:
        made = {}
        for name in ("contained", "debian12"):
            done = farm.run("build", "native", "--target", name, "--out", f"out-{name}")
            assert done.code == 0, done.err
            (wheel,) = (farm.root / f"out-{name}").iterdir()
            assert wheel.name == f"native-1.0-1-{PYTHON}-{PYTHON}-linux_{os.uname().machine}.whl"
            made[name] = wheel.read_bytes()
        assert made["contained"] == made["debian12"]
        (origin,) = farm.run("why", "native", "--target", "contained", "--json").json["origins"].values()
        assert origin["sandbox"] == "podman"
        examined = {check["name"]: check for check in farm.run("doctor", "--json").json["checks"]}
        assert (examined["podman"]["state"], "docker" in examined) == ("ok", False), examined["podman"]
    finally:
        farm.run("target", "remove", "contained")


def test_engine_that_is_not_installed_is_named_with_the_target_that_waits_for_it(farm: Home, tmp_path: Path) -> None:
    definition = definitions(farm) / "contained.toml"
    definition.write_text((definitions(farm) / "debian12.toml").read_text().replace("bubblewrap", "podman"))
    for name in ("bwrap", "dpkg-query", "valkey-server", "redis-server", "tar", "sh"):
        if found := shutil.which(name):
            (tmp_path / name).symlink_to(Path(found).resolve())
    try:
        done = farm.run("target", "check", "contained", environment={"PATH": str(tmp_path)})
        assert (done.code, "podman is not installed" in done.err) == (31, True), done.err
        assert "apt-get install --no-install-recommends podman runc uidmap" in done.err
        examined = farm.run("doctor", "--json", environment={"PATH": str(tmp_path)}).json["checks"]
        (engine,) = [check for check in examined if check["name"] == "podman"]
        assert (engine["state"], "contained" in engine["detail"]) == ("optional", True)
    finally:
        definition.unlink()


def test_docker_is_refused_without_a_root_filesystem(farm: Home) -> None:
    done = farm.run("target", "add", "docked", "--from", "host", "--sandbox", "docker")
    assert (done.code, "docker runs root filesystems alone" in done.err) == (2, True), done.err


def asking_for(farm: Home, project: str, package: str) -> dict[str, str]:
    """Settings with a recipe by which a project asks for a system package."""
    folder = farm.root / "recipes"
    folder.mkdir(exist_ok=True)
    entry = f'[[recipe]]\nreason = "It links the library."\nsystem-packages = ["{package}"]\n'
    (folder / f"{project}.toml").write_text(f'project = "{project}"\n{entry}')
    return {"WHEELFARM_RECIPES": str(folder)}


def test_packages_that_the_root_filesystem_has_need_nothing_made(farm: Home) -> None:
    farm.upstream.add(Project(name="content"))
    none = farm.run("target", "derive", "debian12")
    assert (none.code, none.out) == (0, "No recipe of the farm asks for system packages.\n"), none.err
    settings = asking_for(farm, "content", "libc6-dev")
    try:
        made = farm.run("target", "derive", "debian12", environment=settings)
        assert (made.code, "its root filesystem has them already" in made.out) == (0, True), made.err
        done = farm.run("build", "content", "--target", "debian12", "--out", "content", environment=settings)
        assert done.code == 0, done.err
    finally:
        shutil.rmtree(farm.root / "recipes")


def test_build_whose_system_packages_nobody_has_made_ahead_fails_with_the_command_that_does(farm: Home) -> None:
    farm.upstream.add(Project(name="asking"))
    settings = asking_for(farm, "asking", "libyaml-dev")
    refused = farm.run("build", "asking", "--target", "debian12", environment=settings)
    assert (refused.code, "asks for libyaml-dev, which the system of debian12" in refused.err) == (27, True), (
        refused.err
    )
    assert "wheelfarm target derive debian12 --package libyaml-dev" in refused.err
    plain = next((definitions(farm) / "roots").glob("*.tar")).stem
    note = DerivedRoot(base=plain, packages=("libyaml-dev",), root=plain).write(definitions(farm))
    try:
        done = farm.run("build", "asking", "--target", "debian12", "--retry", "--out", "given", environment=settings)
        assert done.code == 0, done.err
        why = farm.run("why", "asking", "--target", "debian12", environment=settings).out
        assert f"derived for the recipe's packages, sha256 {plain}" in why
    finally:
        note.unlink()
        shutil.rmtree(farm.root / "recipes")


@pytest.mark.slow
@pytest.mark.parametrize("sandbox", ["bubblewrap", "podman"])
def test_package_that_a_recipe_asks_for_is_installed_once_beside_the_targets_own(farm: Home, sandbox: str) -> None:
    if sandbox == "podman":
        require_podman_runs()
    farm.upstream.add(YAML)
    settings = asking_for(farm, "wants-yaml", "libyaml-dev")
    base = next((definitions(farm) / "roots").glob("*.tar"))
    name = f"given-{sandbox}"
    add(farm, name, base, "--sandbox", sandbox)
    made = farm.run("target", "derive", name, environment=settings)
    assert (made.code, "libyaml-dev: sha256:" in made.out) == (0, True), made.err
    roots = sorted((definitions(farm) / "roots").iterdir())
    again = farm.run("target", "derive", name, "--package", "libyaml-dev")
    assert (again.out, sorted((definitions(farm) / "roots").iterdir())) == (made.out, roots)
    done = farm.run("build", "wants-yaml", "--target", name, "--out", name, environment=settings)
    assert done.code == 0, done.err
    why = farm.run("why", "wants-yaml", "--target", name, environment=settings).out
    assert "libyaml-0-2" in why
    assert "derived for the recipe's packages" in why
    absent = farm.run("target", "derive", name, "--package", "no-such-package-anywhere")
    assert (absent.code, "can't be installed" in absent.err) == (2, True), absent.err
    assert sorted((definitions(farm) / "roots").iterdir()) == roots
