"""Interpreters of one's own: brought into a farm, and installed from there by stock uv."""

import hashlib
import http.server
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import httpx
import pytest
from uv import find_uv_bin

from tests.acceptance.conftest import PATIENCE_S, Home
from tests.acceptance.test_up import farm_of
from tests.support.interpreter import (
    KEY,
    MINOR,
    VERSION,
    archive_name,
    make_installation,
    mark_installation,
    pack,
    unfit,
)
from tests.support.projects import Project

pytestmark = pytest.mark.skipif(bool(unfit()), reason=unfit() or "it is fit")

EXTENSION = """
#include <Python.h>
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "native_c", NULL, -1, NULL};
PyMODINIT_FUNC PyInit_native_c(void) { return PyModule_Create(&module); }
"""
TOKEN = "t" * 43
FIRST, SECOND, THIRD = "20261119", "20261120", "20261121"
LAYOUTS = {(FIRST, "tar.gz"): "python", (SECOND, "tar.zst"): "python/install", (THIRD, "tar.gz"): ""}
"""The folder of the installation in the archive of each build, and how that is compressed."""
STANDALONE = "https://github.com/astral-sh/python-build-standalone/releases/download"
"""What uv lets UV_PYTHON_INSTALL_MIRROR stand for."""


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree of three releases of one version, of every layout, with their digests."""
    root, installation = tmp_path_factory.mktemp("releases"), tmp_path_factory.mktemp("made") / "python"
    make_installation(installation)
    for (build, ending), top in LAYOUTS.items():
        mark_installation(installation, build)
        (root / build).mkdir()
        name = archive_name(build, ending)
        archive = pack(installation, root / build / name, root=top)
        (root / build / "SHA256SUMS").write_text(f"{digest(archive)}  {name}\n")
    return root


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """A web server that gives a folder's files."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def uv(home: Home, place: str, *words: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    """Stock uv, with Pythons and everything else of its own in the folder `place`."""
    folder = home.root / place
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("UV_", "PIP_"))}
    environment |= {"HOME": str(folder), "UV_CACHE_DIR": str(folder / "cache"), "UV_NO_CONFIG": "1"}
    environment |= {"UV_PYTHON_INSTALL_DIR": str(folder / "pythons"), "UV_PYTHON_BIN_DIR": str(folder / "bin")}
    folder.mkdir(exist_ok=True)
    return subprocess.run(
        [find_uv_bin(), *words],
        env={**environment, **settings},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )


def made_by(home: Home, place: str) -> str:
    """What the Python that uv installed says of itself."""
    (python,) = (home.root / place / "pythons").glob("cpython-3.*.*-*/bin/python3")
    script = "import sys, ssl, made_by; print(made_by.MARK, sys.prefix)"
    environment = {"PATH": "/usr/bin:/bin"}
    done = subprocess.run([python, "-I", "-c", script], env=environment, capture_output=True, text=True, check=True)
    mark, prefix = done.stdout.split()
    assert Path(prefix).is_relative_to(home.root / place)
    return mark


def test_stock_uv_installs_what_was_brought_in(home: Home, releases: Path) -> None:
    with farm_of(home, WHEELFARM_TOKEN=TOKEN) as (_, said, address):
        farm = {"WHEELFARM_URL": f"http://{address}", "WHEELFARM_TOKEN": TOKEN}
        told = home.run("python", "add", f"{releases.as_uri()}/{FIRST}/", "--select", "*", environment=farm)
        assert told.code == 0, told.err + said.read_text()
        with served(releases) as mirror:
            archive = f"{mirror}/{SECOND}/{archive_name(SECOND, 'tar.zst').replace('+', '%2B')}"
            added = home.run("python", "add", archive, "--json", environment=farm)
        assert added.code == 0, added.err + said.read_text()
        assert [one["root"] for one in added.json["pythons"]] == ["python/install"]
        own = home.run("python", "add", releases / THIRD / archive_name(THIRD), environment=farm)
        assert own.code == 0, own.err
        listed = home.run("python", "list", environment=farm)
        assert [line.split()[0] for line in listed.out.splitlines()] == [
            f"{VERSION}+{build}" for build in (THIRD, SECOND, FIRST)
        ]
        base = f"http://x:{TOKEN}@{address}/pythons"
        for place, folder, mark in (("a", "", THIRD), ("b", f"/{FIRST}", FIRST), ("c", f"/{SECOND}", SECOND)):
            downloads = {"UV_PYTHON_DOWNLOADS_JSON_URL": f"{base}{folder}/downloads.json"}
            done = uv(home, place, "python", "install", VERSION, **downloads)
            assert done.returncode == 0, done.stderr + said.read_text()
            assert made_by(home, place) == mark

        known = uv(home, "a", "python", "list", "--all-versions", "--output-format", "json", **downloads)
        assert KEY in [one["key"] for one in json.loads(known.stdout)], known.stderr

        # without the token, and with it from netrc
        plain = {"UV_PYTHON_DOWNLOADS_JSON_URL": f"http://{address}/pythons/downloads.json"}
        refused = uv(home, "d", "python", "install", VERSION, **plain)
        assert refused.returncode != 0
        assert "401" in refused.stderr
        netrc = home.root / "netrc"
        netrc.write_text(f"machine 127.0.0.1 login x password {TOKEN}\n")
        done = uv(home, "d", "python", "install", VERSION, **plain, NETRC=str(netrc))
        assert (done.returncode, made_by(home, "d")) == (0, THIRD), done.stderr

        # as a mirror of a list that names other addresses, whose + is not escaped as the farm's is
        entries = dict(httpx.get(f"{base}/{FIRST}/downloads.json", timeout=PATIENCE_S).json())
        url = f"{STANDALONE}/{FIRST}/{archive_name(FIRST)}"
        path = home.root / "other.json"
        path.write_text(json.dumps({key: {**entry, "url": url} for key, entry in entries.items()}))
        mirrored = {"UV_PYTHON_DOWNLOADS_JSON_URL": str(path), "UV_PYTHON_INSTALL_MIRROR": base}
        done = uv(home, "e", "python", "install", VERSION, **mirrored)
        assert (done.returncode, made_by(home, "e")) == (0, FIRST), done.stderr

        removed = home.run("python", "remove", f"{VERSION}+{THIRD}", environment=farm)
        assert removed.code == 0, removed.err
        assert [
            entry["build"] for entry in httpx.get(f"{base}/downloads.json", timeout=PATIENCE_S).json().values()
        ] == [SECOND]


def test_what_is_not_to_be_trusted_is_refused_with_a_reason(home: Home, releases: Path) -> None:
    archive = releases / FIRST / archive_name(FIRST)
    wrong = home.run("python", "add", archive, "--sha256", "0" * 64)
    assert (wrong.code, "not 0000" in wrong.err, "Nothing was brought in" in wrong.err) == (14, True, True)
    alone = home.root / archive.name
    alone.symlink_to(archive)
    missing = home.run("python", "add", alone)
    assert (missing.code, "Nothing tells the sha256" in missing.err) == (2, True)
    kind = home.run("python", "add", "https://mirror.example/python.tar.xz", "--sha256", "0" * 64)
    assert (kind.code, ".tar.gz and .tar.zst are" in kind.err) == (2, True)
    other = KEY.replace(VERSION, "3.99.0")
    version = home.run("python", "add", alone, "--sha256", digest(archive), "--key", other, "--build", "1")
    assert (version.code, f"holds Python {VERSION}" in version.err) == (19, True)
    absent = home.run("python", "show", "3.99.0")
    assert (absent.code, "It has: none" in absent.err) == (33, True)


def test_target_takes_its_interpreter_from_the_farm_and_the_provenance_names_it(home: Home, releases: Path) -> None:
    home.upstream.add(Project(name="native", extension=EXTENSION))
    archives = {build: releases / build / archive_name(build, ending) for build, ending in LAYOUTS}
    told = home.run("python", "add", f"{releases}/", "--select", KEY)
    assert told.code == 0, told.err
    unknown = home.run("target", "add", "own", "--from", f"python:{VERSION}+1")
    assert (unknown.code, f"It has: {VERSION}+{FIRST}, {VERSION}+{SECOND}, " in unknown.err) == (33, True), unknown.err
    made = home.run("target", "add", "own", "--from", f"python:{VERSION}+{SECOND}", "--json")
    assert made.code == 0, made.err
    target = made.json["target"]
    assert target["interpreter"] == f"{VERSION}+{SECOND} sha256:{digest(archives[SECOND])}"
    assert (target["prefix"], target["python"]) == ("/install", "/install/bin/python3")

    built = home.run("build", "native", "--target", "own", "--out", "out")
    assert built.code == 0, built.err + home.farm_log()
    (wheel,) = (home.root / "out").glob("*.whl")
    assert f"-cp{MINOR.replace('.', '')}-linux_" in wheel.name
    manifests = [json.loads(path.read_text()) for path in home.store.glob("manifests/*.json")]
    assert target["interpreter"] in [one["provenance"]["target"]["interpreter"] for one in manifests]
    why = home.run("why", "--target", "own", "native")
    assert target["interpreter"] in why.out, why.out + why.err

    # what a target stands on is not garbage, whoever else may have it no more, and be it that nothing was built for it
    idle = home.run("target", "add", "idle", "--from", f"python:{VERSION}+{FIRST}", "--no-check")
    assert idle.code == 0, idle.err
    for build in (FIRST, SECOND, THIRD):
        assert home.run("python", "remove", f"{VERSION}+{build}").code == 0
    for path in home.store.glob("interpreters/*/*"):
        os.utime(path, (0, 0))
    assert home.run("gc").code == 0
    kept = {path.parent.name for path in home.store.glob("interpreters/*/*")}
    assert kept == {digest(archives[FIRST]), digest(archives[SECOND])}
