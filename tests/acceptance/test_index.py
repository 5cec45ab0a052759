"""The real set, from the package index that this machine is configured with."""

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from uv import find_uv_bin

from tests.acceptance.conftest import Home
from tests.acceptance.test_install import run_python
from tests.support.kinds import SDISTS
from tests.support.projects import make_tar_gz, record_hash
from tests.support.upstream import PassingThrough
from wheelfarm_services.upstreams import default_index_url

pytestmark = pytest.mark.index

LEGACY_SETUP = """
import os, pathlib
from setuptools import setup
for place in {places!r}:
    try:
        pathlib.Path(place).write_text("here")
    except OSError:
        pass
setup(name="legacy", version="1.0", py_modules=["legacy"])
"""


@pytest.fixture
def index(home: Home) -> Iterator[PassingThrough]:
    """The home's upstream is the machine's own index, each request to it recorded."""
    with PassingThrough(default_index_url(os.environ)) as upstream:
        home.upstream = upstream
        yield upstream


def test_requests_and_its_build_requirements_are_built_from_source(home: Home, index: PassingThrough) -> None:
    done = home.run("install", "--venv", home.root / "env", "requests==2.32.3", timeout_s=300)

    assert done.code == 0, done.err + home.farm_log()
    assert run_python(home.root / "env", "import requests; print(requests.__version__)") == "2.32.3"
    assert {"requests", "certifi", "idna", "urllib3", "charset-normalizer"} == {
        line.partition("==")[0] for line in done.out.split()
    }
    built = {name.split("-")[0] for name in home.wheel_names()}
    assert {"setuptools", "flit_core", "hatchling", "hatch_vcs", "packaging", "pluggy"} <= built
    assert len(home.wheel_names()) >= 15
    assert not [path for path in index.requests if ".whl" in path]
    assert_records_agree(home)


def assert_records_agree(home: Home) -> None:
    """Every file that is installed is recorded with the hash it has, and is the one that the farm's wheel holds."""
    site = next((home.root / "env").glob("lib/python*/site-packages"))
    shipped: dict[str, str] = {}
    for wheel in home.store.glob("wheels/*/*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            shipped |= {name: record_hash(archive.read(name)) for name in archive.namelist() if "RECORD" not in name}
    compared = 0
    for record in site.glob("*.dist-info/RECORD"):
        for path, digest, _ in csv.reader(io.StringIO(record.read_text())):
            if digest:
                assert record_hash((site / path).read_bytes()) == digest, path
            if path in shipped and digest:
                assert shipped[path] == digest, path
                compared += 1
    assert compared > 50


def test_legacy_setup_leaves_no_marker_outside_its_sandbox(home: Home, index: PassingThrough) -> None:
    places = [
        str(home.root / "marker"),
        "/tmp/wheelfarm-marker",
        str(home.store / "marker"),
        str(Path.home() / "marker"),
    ]
    files = {"setup.py": LEGACY_SETUP.format(places=places).encode(), "legacy.py": b"WORKS = True\n"}
    files["PKG-INFO"] = b"Metadata-Version: 1.0\nName: legacy\nVersion: 1.0\n"
    index.add_file(
        "legacy", "legacy-1.0.tar.gz", make_tar_gz({f"legacy-1.0/{name}": data for name, data in files.items()})
    )

    done = home.run("install", "--venv", home.root / "env", "legacy", timeout_s=300)

    assert done.code == 0, done.err + home.farm_log()
    assert run_python(home.root / "env", "import legacy; print(legacy.WORKS)") == "True"
    assert not [place for place in places if Path(place).exists()]


def test_tree_has_the_version_of_its_tag(home: Home, index: PassingThrough) -> None:
    tree = home.root / "tree"
    shutil.copytree(SDISTS / "scm-bare", tree)
    git = ["git", "-C", str(tree), "-c", "user.name=tests", "-c", "user.email=tests@example.org"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "All"], ["tag", "v2.5"]):
        subprocess.run([*git, *words], check=True)

    done = home.run("build", "--json", tree, timeout_s=300)

    assert done.code == 0, done.err + home.farm_log()
    assert [wheel["version"] for wheel in done.json["wheels"]] == ["2.5"]


def test_stock_pip_and_uv_install_from_out(home: Home, index: PassingThrough) -> None:
    done = home.run("build", "--out", home.root / "out", "idna", timeout_s=300)
    assert done.code == 0, done.err + home.farm_log()
    links = ["--no-index", "--find-links", str(home.root / "out"), "--target"]

    pip = [sys.executable, "-m", "pip", "install", "--isolated", "--no-cache-dir"]
    subprocess.run([*pip, *links, str(home.root / "pip"), "idna"], check=True, capture_output=True)
    uv = [find_uv_bin(), "pip", "install", "--no-config", "--no-cache", "--python", sys.executable]
    subprocess.run([*uv, *links, str(home.root / "uv"), "idna"], check=True, capture_output=True)

    assert (home.root / "pip" / "idna" / "__init__.py").read_bytes() == (
        home.root / "uv" / "idna" / "__init__.py"
    ).read_bytes()


WITHOUT_STATIC_METADATA = {
    "botocore": "1.44.5",
    "jmespath": "1.1.0",
    "python-dateutil": "2.9.0.post0",
    "six": "1.17.0",
}


def add_with_hook_log(index: PassingThrough, name: str, version: str, marker: Path) -> None:
    """Publish a project's sdist with a setup.py that tells of each run, in the build log and, where it can, in a file
    outside."""
    code = f"print('hook ran: {name}')\ntry: open({str(marker)!r}, 'a').write('{name} ')\nexcept OSError: pass\n"
    files = json.loads(index.answer(f"/simple/{name}/")[1])["files"]
    (sdist,) = (one for one in files if re.fullmatch(rf"{name}-{version}\.tar\.gz", one["filename"].replace("_", "-")))
    members: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(index.answer(sdist["url"])[1])) as archive:
        for member in archive:
            if member.isfile() and (file := archive.extractfile(member)) is not None:
                members[member.name] = file.read()
    (setup,) = (path for path in members if path.count("/") == 1 and path.endswith("/setup.py"))
    members[setup] = after_future_imports(members[setup].decode(), code).encode()
    index.add_file(name, sdist["filename"], make_tar_gz(members))


def after_future_imports(text: str, code: str) -> str:
    """A script with code put where it runs first."""
    lines = text.splitlines(keepends=True)
    futures = [number for number, line in enumerate(lines) if line.startswith("from __future__")]
    at = futures[-1] + 1 if futures else 0
    return "".join([*lines[:at], code, *lines[at:]])


def test_sdists_without_static_metadata_run_their_hooks_in_sandboxes_alone(home: Home, index: PassingThrough) -> None:
    marker = home.root / "hook-log"
    for name, version in WITHOUT_STATIC_METADATA.items():
        add_with_hook_log(index, name, version, marker)

    done = home.run("install", "--venv", home.root / "env", "botocore", timeout_s=300)

    assert done.code == 0, done.err + home.farm_log()
    works = "import botocore.session, dateutil.parser, jmespath, six; print('works')"
    assert run_python(home.root / "env", works) == "works"
    assert not marker.exists()
    logs = "".join(home.build_logs())
    assert [name for name in WITHOUT_STATIC_METADATA if f"hook ran: {name}" not in logs] == []
    assert not [path for path in index.requests if ".whl" in path]
    assert {line.partition("==")[0] for line in done.out.split()} == {*WITHOUT_STATIC_METADATA, "urllib3"}
    check = [find_uv_bin(), "pip", "check", "--python", str(home.root / "env")]
    subprocess.run(check, check=True, capture_output=True)
