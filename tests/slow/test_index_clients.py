"""Stock Poetry and PDM against the index, told of it by what `wheelfarm config` prints and by nothing else: the other
columns of the table in docs/wheel-index.md."""

import subprocess
import venv
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.support.ceph import Gateway
from tests.support.index_clients import ProjectTool
from tests.support.index_shop import HEADING, NEVER, PAGE, ROWS, Place, shop
from tests.support.s3 import make_bucket
from tests.support.tables import Table, cells_of, tables

pytestmark = [pytest.mark.slow, pytest.mark.index]

PACKAGES = {"poetry": "poetry", "pdm": "pdm[locked]"}
FORMS = {"poetry": ("index",), "pdm": ("index", "folder")}
"""What `wheelfarm config` has a configuration for."""


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with both, from the index that this machine's pip is configured with."""
    folder = tmp_path_factory.mktemp("tools")
    venv.create(folder, with_pip=True)
    subprocess.run([folder / "bin" / "pip", "install", "-q", *PACKAGES.values()], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory, gateway: Gateway) -> Iterator[Mapping[str, Place]]:
    with shop(tmp_path_factory.mktemp("farm"), make_bucket(gateway)) as found:
        yield found


@pytest.fixture(scope="module")
def findings(write_docs: bool) -> Iterator[Table]:
    """The table of the page; written at the end where that is asked for."""
    (table,) = tables(PAGE, [HEADING]).values()
    yield table
    if write_docs:
        table.write(ROWS)


@pytest.mark.parametrize("row", ROWS)
def test_what_works_with_poetry_and_pdm(
    places: Mapping[str, Place], programs: Path, findings: Table, tmp_path: Path, write_docs: bool, row: str
) -> None:
    where, check = ROWS[row]
    place, cells = places[where], []
    for name, forms in FORMS.items():
        home = tmp_path / name
        home.mkdir()
        tool = ProjectTool(name=name, home=home, programs=programs)
        cells.append(check(tool, place) if place.source.form in forms else NEVER)
    findings.add_cells(row, 4, *cells)
    assert write_docs or cells_of(findings.rows()[row])[4:] == cells, "run this test with --write-docs"
