"""Whole sets from the machine's own index, built from source, installed and imported; results in docs/slow-suite.md."""

import json
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
from typing import Any, cast

import pytest

from tests.acceptance.conftest import Done, Home, open_home
from tests.slow.well_known import OLD, WELL_KNOWN, WellKnown
from tests.support.tables import Table, cells_of, tables
from tests.support.upstream import PassingThrough
from wheelfarm_services.upstreams import default_index_url

pytestmark = [pytest.mark.index, pytest.mark.slow]

PAGE = "slow-suite.md"
SETS = {
    "`jinja2==3.1.4 markupsafe==2.1.5 pyyaml==6.0.2 click==8.1.7`": "jinja2 markupsafe yaml click",
    "`celery redis build packaging httpx boto3 prometheus-client`": (
        "celery redis build packaging httpx boto3 prometheus_client"
    ),
}
"""Requirements, and what to import of them."""
LISTS = {"Projects": WELL_KNOWN, "Old releases": OLD}
"""Single projects, under the headings of their tables."""
SUMMED = {"Projects": f"{len(WELL_KNOWN)} well-known projects", "Old releases": f"{len(OLD)} old releases"}
NAME = "test_project_is_built_or_fails_by_no_fault_of_the_farm"
_TOGETHER = 2
_TOLD = 400


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    """One home for all, so that what several need is built once."""
    with PassingThrough(default_index_url(os.environ)) as upstream, open_home(upstream) as home:
        yield home
        assert not [path for path in upstream.requests if ".whl" in path]


@pytest.fixture(scope="module")
def found(write_docs: bool) -> Iterator[Mapping[str, Table]]:
    """The tables of the page, written at the end where that is asked for."""
    found = tables(PAGE, ("Sets", *LISTS))
    yield found
    if write_docs:
        found["Sets"].write([*SETS, *SUMMED.values()])
        for heading, projects in LISTS.items():
            found[heading].write([project.name for project in projects])


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
        chosen: list[WellKnown] = [cast(WellKnown, call.params["project"]) for call in calls]
        yield {
            project.requirement: pool.submit(obtain, home, project, folder / project.requirement) for project in chosen
        }


@pytest.mark.parametrize(
    ("heading", "project"),
    [
        pytest.param(heading, project, id=project.requirement)
        for heading, projects in LISTS.items()
        for project in projects
    ],
)
def test_project_is_built_or_fails_by_no_fault_of_the_farm(
    heading: str, project: WellKnown, obtained: Mapping[str, "Future[Outcome]"], found: Mapping[str, Table]
) -> None:
    outcome = obtained[project.requirement].result()
    found[heading].add(*outcome.cells)

    assert outcome.failure_class not in ("infrastructure", "worker_lost", "import"), outcome.told


@pytest.mark.parametrize("heading", LISTS)
def test_three_of_four_projects_are_built(heading: str, found: Mapping[str, Table]) -> None:
    rows = {**found[heading].rows(), **found[heading].found}
    built = sum(cells_of(row)[3] == "built" for row in rows.values())
    took = _minutes(sum(float(cells_of(row)[4]) for row in rows.values()))
    found["Sets"].add(SUMMED[heading], f"{built} of {len(rows)} built", f"{took}, two at a time", _where())

    assert set(rows) == {project.name for project in LISTS[heading]}
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
    done = home.run("install", "--json", "--target-dir", folder, project.requirement, timeout_s=3600)
    failure_class, told = _failure(home, done) if done.code else _imported(project.module, folder)
    return Outcome(
        project=project,
        version=_version(done, project.name),
        failure_class=failure_class,
        told=told,
        took_s=time.monotonic() - began,
    )


def _failure(home: Home, done: Done) -> tuple[str, str]:
    """The class of a failure, and what the command said of it. Of a failed dependency it is the class of its own
    failure, as the store remembers that."""
    answer = done.json
    message = answer["message"].partition(" (It failed on")[0]
    remembered = [json.loads(path.read_text())["failure"] for path in home.store.glob("failures/*.json")]
    classes = [failure["failure_class"] for failure in remembered if failure["message"].startswith(message)]
    classes += [failure["failure_class"] for failure in answer.get("failed", [])]
    hint = answer.get("hint", "").partition("\n")[0].partition("To build it again")[0]
    told = f"{message.partition(chr(10))[0]} {hint}".replace(sys.base_prefix, "PYTHON")
    return (classes or [answer["error"]])[0], told if len(told) < _TOLD else f"{told[:_TOLD]}…"


def _imported(module: str, folder: Path) -> tuple[str, str]:
    if not module:
        return "", ""
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
