"""Projects that need a system library, on a Debian without it: refused, then built on one that was derived for
their recipes; results in docs/slow-suite.md."""

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.acceptance.conftest import Home, open_home
from tests.support.containers import why_podman_does_not_run
from tests.support.roots import debian_root
from tests.support.tables import Table, tables
from tests.support.upstream import PassingThrough
from wheelfarm_services.upstreams import default_index_url

pytestmark = [pytest.mark.index, pytest.mark.slow]

HEADING = "System packages"
PACKAGES = {"cffi": "libffi-dev", "psycopg2": "libpq-dev"}
LIBRARIES = {"cffi": "libffi8", "psycopg2": "libpq5"}
"""The packages that have what the wheels then load."""


@pytest.fixture(scope="module")
def home(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A home with a target of Debian on each back end."""
    archive = debian_root(pytestconfig, tmp_path_factory.mktemp("root"))
    with PassingThrough(default_index_url(os.environ)) as upstream, open_home(upstream) as home:
        for back_end in ("bubblewrap", *([] if why_podman_does_not_run() else ["podman"])):
            added = home.run("target", "add", back_end, "--from", f"tar:{archive}", "--sandbox", back_end)
            assert added.code == 0, added.err
        yield home


@pytest.fixture(scope="module")
def recipes(home: Home) -> Path:
    """A folder of recipes by which the projects ask for what they need."""
    folder = home.root / "recipes"
    folder.mkdir()
    for project, package in PACKAGES.items():
        entry = f'[[recipe]]\nreason = "It links the library."\nsystem-packages = ["{package}"]\n'
        (folder / f"{project}.toml").write_text(f'project = "{project}"\n{entry}')
    return folder


@pytest.fixture(scope="module")
def table(write_docs: bool) -> Iterator[Table]:
    """The table of the page, written at the end where that is asked for."""
    table = tables("slow-suite.md", (HEADING,))[HEADING]
    yield table
    if write_docs:
        table.write(PACKAGES)


def test_projects_are_built_once_their_packages_were_derived(home: Home, recipes: Path, table: Table) -> None:
    without = {}
    for project, package in PACKAGES.items():
        refused = home.run("build", project, "--target", "bubblewrap", "--json", timeout_s=1800)
        assert refused.code == 20, refused.err
        assert f'system-packages = ["{package}"]' in refused.json["hint"]
        without[project] = refused.json["hint"].partition(". ")[0]

    settings = {"WHEELFARM_RECIPES": str(recipes)}
    derived = {}
    for project, package in PACKAGES.items():
        began = time.monotonic()
        made = home.run("target", "derive", "bubblewrap", "--package", package, timeout_s=1800)
        assert made.code == 0, made.err
        derived[project] = time.monotonic() - began
    everything = home.run("target", "derive", "bubblewrap", environment=settings, timeout_s=1800)
    assert everything.code == 0, everything.err
    assert len(list((home.root / "data/wheelfarm-targets/roots").iterdir())) == 1 + len(PACKAGES)  # none made anew

    for project, package in PACKAGES.items():
        took = []
        for target in home.run("target", "list", "--json").json["targets"]:
            began = time.monotonic()
            built = home.run("build", project, "--target", target["name"], environment=settings, timeout_s=1800)
            assert built.code == 0, built.err + home.farm_log()
            took.append(f"{target['name']} {time.monotonic() - began:.0f} s")
            why = home.run("why", project, "--target", target["name"], environment=settings).out
            assert "derived for the recipe's packages" in why, why
            assert LIBRARIES[project] in why, why
            assert " loaded" in why, why
        when = f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores"
        table.add(project, package, without[project], f"{derived[project]:.0f} s", ", ".join(took), when)
