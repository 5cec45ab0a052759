"""Stock uv and pip, told to build from source, before the misbehaving index that wheelfarm is tested with: the other
columns of docs/upstream-behaviour.md."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from uv import find_uv_bin

from tests.acceptance.test_upstreams import CASES, PAGE, SECOND_VERSION
from tests.support.projects import Project
from tests.support.quirks import QUIRKS, Quirk, QuirkyIndex
from tests.support.tables import Table, cells_of, tables
from tests.support.upstream import Upstream

pytestmark = pytest.mark.slow

_LONGEST_S = 90.0


@pytest.fixture(scope="module")
def findings(write_docs: bool) -> Iterator[Mapping[str, Table]]:
    found = tables(PAGE, QUIRKS)
    yield found
    if write_docs:
        for heading, table in found.items():
            table.write([quirk.what for quirk in QUIRKS[heading]])


@pytest.mark.parametrize(("heading", "quirk"), CASES)
def test_what_stock_tools_make_of_it(
    heading: str, quirk: Quirk, findings: Mapping[str, Table], tmp_path: Path, write_docs: bool
) -> None:
    with ThreadPoolExecutor(2) as tools:
        outcomes = list(tools.map(lambda tool: outcome(tool, quirk, tmp_path / tool), ("uv", "pip")))
    table = findings[heading]
    table.add_cells(quirk.what, 2, *outcomes)
    assert write_docs or cells_of(table.rows()[quirk.what])[2:] == outcomes, "run this test with --write-docs"


def outcome(tool: str, quirk: Quirk, folder: Path) -> str:
    """What comes of asking a tool for a quirk's project, in a cell."""
    into = folder / "into"
    with QuirkyIndex() as first, Upstream() as second:
        second.add(Project(name=quirk.name, version=SECOND_VERSION))
        done = run(tool, [first.url, second.url], quirk.name, into)
        fetched = [one for one in first.asked if one.method == "GET" and one.path.endswith(".whl")]
        asked_second = any(f"/{quirk.name}/" in path for path in second.requests)
    versions = [path.name.removesuffix(".dist-info").split("-")[1] for path in into.glob("*.dist-info")]
    if done is None:
        told = "does not end"
    elif done.returncode:
        told = "fails" + (", the next index was asked" if asked_second else "")
    else:
        told = "the next index is asked" if SECOND_VERSION in versions else "built"
    return told + (", a wheel was fetched" if fetched else "")


def run(tool: str, urls: list[str], name: str, into: Path) -> "subprocess.CompletedProcess[bytes] | None":
    """A tool with two indexes, the first of which it is to prefer as far as it can; None if it does not end."""
    uv = f"{find_uv_bin()} pip install --no-config --no-cache --python {sys.executable} --index {urls[0]}"
    pip = f"{sys.executable} -m pip install --no-cache-dir --disable-pip-version-check --no-input --index-url {urls[0]}"
    words = {
        "uv": f"{uv} --default-index {urls[1]}",
        "pip": f"{pip} --extra-index-url {urls[1]} --retries 1 --timeout 1",
    }
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("UV_", "PIP_", "WHEELFARM_"))}
    patience = {"UV_HTTP_TIMEOUT": "1", "UV_HTTP_RETRIES": "1", "UV_PYTHON_DOWNLOADS": "never"}
    command = [*words[tool].split(), "--no-binary", ":all:", "--target", str(into), name]
    try:
        return subprocess.run(
            command,
            env={**clean, **patience, "PIP_CONFIG_FILE": os.devnull, "HOME": str(into.parent)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=_LONGEST_S,
        )
    except subprocess.TimeoutExpired:
        return None
