"""Whole sets from the machine's own index, built from source, installed and imported; results in docs/slow-suite.md."""

import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import Done, Home, open_home
from tests.slow.well_known import WELL_KNOWN, WellKnown
from tests.support.tables import Table, cells_of, tables
from tests.support.upstream import PassingThrough
from wheelfarm_services.upstream import default_index_url

pytestmark = [pytest.mark.index, pytest.mark.slow]

PAGE = "slow-suite.md"
SETS = {
    "`jinja2==3.1.4 markupsafe==2.1.5 pyyaml==6.0.2 click==8.1.7`": "jinja2 markupsafe yaml click",
    "`celery redis build packaging httpx boto3 prometheus-client`": (
        "celery redis build packaging httpx boto3 prometheus_client"
    ),
}
"""Requirements, and what to import of them."""
SIXTY = f"{len(WELL_KNOWN)} well-known projects"
NAME = "test_project_is_built_or_fails_by_no_fault_of_the_farm"
_TOGETHER = 2


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    """One home for all, so that what several need is built once."""
    with PassingThrough(default_index_url(os.environ)) as upstream, open_home(upstream) as home:
        yield home
        assert not [path for path in upstream.requests if ".whl" in path]


@pytest.fixture(scope="module")
def found(write_docs: bool) -> Iterator[Mapping[str, Table]]:
    """The tables of the page, written at the end where that is asked for."""
    found = tables(PAGE, ("Sets", "Projects"))
    yield found
    if write_docs:
        found["Sets"].write([*SETS, SIXTY])
        found["Projects"].write([project.name for project in WELL_KNOWN])


@pytest.mark.parametrize("requirements", SETS)
def test_set_is_built_from_source_installed_and_imported(
    home: Home, requirements: str, found: Mapping[str, Table]
) -> None:
    began = time.monotonic()
    environment = home.root / str(len(home.wheel_names()))

    done = home.run("install", "--json", "--venv", environment, *requirements.strip("`").split(), timeout_s=3600)

    assert done.code == 0, done.err + home.farm_log()
    code = "; ".join(f"import {module}" for module in SETS[requirements].split())
    subprocess.run([environment / "bin" / "python", "-c", code], check=True)
    wheels = len(done.json["wheels"])
    found["Sets"].add(requirements, f"{wheels} of {wheels} wheels", _minutes(time.monotonic() - began), _where())


@pytest.fixture(scope="module")
def obtained(
    home: Home, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mapping[str, "Future[Outcome]"]]:
    """The outcomes of all projects that were selected, two of which are under way at a time."""
    folder = tmp_path_factory.mktemp("installed")
    calls = [
        item.callspec
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.originalname == NAME
    ]
    with ThreadPoolExecutor(_TOGETHER) as pool:
        chosen = [project for project in WELL_KNOWN if project.name in {call.id for call in calls}]
        yield {project.name: pool.submit(obtain, home, project, folder / project.name) for project in chosen}


@pytest.mark.parametrize("project", WELL_KNOWN, ids=lambda project: project.name)
def test_project_is_built_or_fails_by_no_fault_of_the_farm(
    project: WellKnown, obtained: Mapping[str, "Future[Outcome]"], found: Mapping[str, Table]
) -> None:
    outcome = obtained[project.name].result()
    found["Projects"].add(*outcome.cells)

    assert outcome.failure_class not in ("infrastructure", "worker_lost", "import"), outcome.told


def test_three_of_four_projects_are_built(found: Mapping[str, Table]) -> None:
    rows = {**found["Projects"].rows(), **found["Projects"].found}
    built = sum(cells_of(row)[3] == "built" for row in rows.values())
    took = _minutes(sum(float(cells_of(row)[4]) for row in rows.values()))
    found["Sets"].add(
        SIXTY, f"{built} of {len(rows)} built, installed and imported", f"{took}, two at a time", _where()
    )

    assert set(rows) == {project.name for project in WELL_KNOWN}
    assert built >= 0.75 * len(rows)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a project; `failure_class` is "" when it was built and works."""

    project: WellKnown
    version: str
    failure_class: str
    told: str
    took_s: float

    @property
    def cells(self) -> tuple[str, ...]:
        result = self.failure_class.replace("_", " ") or "built"
        told = " ".join(self.told.replace("|", "/").split())
        return (self.project.name, self.version, self.project.kind, result, f"{self.took_s:.0f}", told)


def obtain(home: Home, project: WellKnown, folder: Path) -> Outcome:
    began = time.monotonic()
    done = home.run("install", "--json", "--target-dir", folder, project.name, timeout_s=3600)
    failure_class, told = _failure(done) if done.code else _imported(project.module, folder)
    return Outcome(
        project=project,
        version=_version(done, project.name),
        failure_class=failure_class,
        told=told,
        took_s=time.monotonic() - began,
    )


def _failure(done: Done) -> tuple[str, str]:
    """The class of a failure, and what the command said of it."""
    answer = done.json
    classes = [failure["failure_class"] for failure in answer.get("failed", [])]
    own = [name for name in classes if name != "dependency"] or classes or [answer["error"]]
    message = answer["message"].partition("\n")[0].partition(" (It failed on")[0]
    hint = answer.get("hint", "").partition("\n")[0].partition("To build it again")[0]
    return own[0], f"{message} {hint}"


def _imported(module: str, folder: Path) -> tuple[str, str]:
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run([sys.executable, "-c", f"import {module}"], env=environment, capture_output=True, text=True)
    return ("import", done.stderr.strip().splitlines()[-1]) if done.returncode else ("", "")


def _version(done: Done, name: str) -> str:
    """The version that was resolved, as far as the command came to it."""
    answer: dict[str, Any] = done.json
    named = {wheel["name"]: str(wheel["version"]) for wheel in answer.get("wheels", [])}
    named |= dict(failure["sdist"].split("==") for failure in answer.get("failed", []))
    return named.get(name, "")


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} min"


def _where() -> str:
    return f"{datetime.now(UTC):%Y-%m-%d}, CPython {platform.python_version()}, {os.cpu_count()} cores"
