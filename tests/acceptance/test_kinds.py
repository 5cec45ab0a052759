"""Every kind of sdist, built through the command; what is found is what docs/sdists.md says."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.acceptance.conftest import Done, Home, open_home
from tests.support.kinds import HELPER, KINDS, Kind
from tests.support.tables import Table, tables
from tests.support.upstream import PassingThrough, Upstream
from wheelfarm_services.upstreams import default_index_url

PAGE = "sdists.md"


@pytest.fixture(scope="module")
def findings(write_docs: bool) -> Iterator[Mapping[str, Table]]:
    """The tables of the page, by their headings; written at the end where that is asked for."""
    found = tables(PAGE, KINDS)
    yield found
    if write_docs:
        for heading, table in found.items():
            table.write([kind.what for kind in KINDS[heading]])


ONLY = {"platformdirs": "<4.14.6"}
"""Later ones are built with projects that not every mirror has."""


@pytest.fixture(scope="module")
def offline() -> Iterator[Home]:
    """One home for all kinds that need nothing of the world."""
    with Upstream() as upstream, open_home(upstream) as home:
        upstream.add(HELPER)
        yield home


@pytest.fixture(scope="module")
def indexed() -> Iterator[Home]:
    """One home for all kinds that are built with real backends, so that each of these is built once."""
    with PassingThrough(default_index_url(os.environ), only=ONLY) as upstream, open_home(upstream) as home:
        upstream.add(HELPER)
        yield home


def _cases() -> Iterator[object]:
    for heading, kinds in KINDS.items():
        for kind in kinds:
            marks = [pytest.mark.index] * kind.index + [pytest.mark.slow] * kind.slow
            yield pytest.param(heading, kind, id=kind.name, marks=marks)


@pytest.mark.parametrize(("heading", "kind"), list(_cases()))
def test_kind_of_sdist(
    heading: str,
    kind: Kind,
    findings: Mapping[str, Table],
    write_docs: bool,
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:
    if not kind.is_shown_here():
        pytest.skip(f"another result where the system has, or lacks, {kind.within or kind.without}")
    home: Home = request.getfixturevalue("indexed" if kind.index else "offline")
    home.upstream.add_file(kind.name, kind.sdist_name, kind.sdist())
    python = interpreter(kind)

    done = home.run(
        "install", f"{kind.name}=={kind.version}", "--json", "--python", python, "--target-dir", tmp_path, timeout_s=900
    )

    if isinstance(home.upstream, PassingThrough) and done.code == 11 != kind.code:
        for name in home.upstream.absent:
            if f"no project named {name} " in done.err:
                pytest.skip(f"the index lacks {name}")
    assert done.code == kind.code, done.err + home.farm_log()
    if kind.code == 0:
        assert run(python, tmp_path, f"import {kind.module}; print({kind.module}.answer())") == "42"
    else:
        assert kind.said in done.err, done.err
        assert not list(home.store.glob(f"wheels/*/{kind.module}-*.whl"))
    table = findings[heading]
    table.add(kind.what, result_of(done), kind.note)
    assert write_docs or table.rows()[kind.what] == table.found[kind.what], "run this test with --write-docs"


def test_page_has_a_row_for_every_kind_and_no_other(write_docs: bool) -> None:
    for heading, table in tables(PAGE, KINDS).items():
        assert write_docs or list(table.rows()) == [kind.what for kind in KINDS[heading]], heading


def interpreter(kind: Kind) -> str:
    """The interpreter to build a kind for; a test for one that is not there is skipped."""
    if not kind.python:
        return sys.executable
    siblings = Path(sys.base_prefix).parent.glob(f"*/bin/{kind.python}")  # as pyenv and uv install them
    for found in filter(None, [shutil.which(kind.python), *map(str, siblings)]):
        told = subprocess.run([found, "-c", "import sys; print(sys.executable)"], capture_output=True, text=True)
        if told.returncode == 0:
            return told.stdout.strip()
    pytest.skip(f"there is no {kind.python}")


def run(python: str, folder: Path, code: str) -> str:
    done = subprocess.run(
        [python, "-c", code], env={**os.environ, "PYTHONPATH": str(folder)}, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def result_of(done: Done) -> str:
    return f"exit {done.code}, `{done.json['error']}`" if done.code else "built"
