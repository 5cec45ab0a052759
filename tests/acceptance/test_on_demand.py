"""Build on demand: stock pip and uv, and nothing else, against a farm that has nothing yet."""

import re
import subprocess
import sys
import venv
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest
from uv import find_uv_bin

from tests.acceptance.conftest import Home, open_home
from tests.support.held_farm import held_farm
from tests.support.projects import Project
from tests.support.upstream import Upstream


@dataclass(frozen=True, kw_only=True)
class Index:
    """A farm that builds on demand, and the index of its own target."""

    home: Home
    url: str
    token: str

    def page(self, project: str, **query: str) -> httpx.Response:
        """A project's page, when it is there or can't be."""
        with httpx.Client(auth=("__token__", self.token), timeout=60, follow_redirects=True) as http:
            while True:
                answer = http.get(f"{self.url}{project}/", params=query)
                if answer.status_code != 503:
                    return answer
                assert int(answer.headers["retry-after"]) >= 1

    def install(self, client: str, *requirements: str) -> "subprocess.CompletedProcess[str]":
        """Install with a stock installer into a folder of its name."""
        url = self.url.replace("://", f"://__token__:{self.token}@")
        pip = [sys.executable, "-m", "pip", "--isolated", "install", "--no-cache-dir", "--index-url", url]
        uv = [find_uv_bin(), "pip", "install", "--no-config", "--no-cache", "--default-index", url]
        command = {"pip": pip, "uv": [*uv, "--python", sys.executable]}[client]
        return subprocess.run(
            [*command, "--target", str(self.home.root / client), *requirements],
            env=self.home.environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def installed(self, client: str) -> set[str]:
        return {path.name.removesuffix(".dist-info") for path in (self.home.root / client).glob("*.dist-info")}


@pytest.fixture(scope="module")
def index() -> Iterator[Index]:
    with Upstream() as upstream, open_home(upstream) as home:
        home.settings["WHEELFARM_ON_DEMAND"] = "host-*"
        with held_farm(home.environment) as told:
            base, target = re.fullmatch(r"(.*)/source/default/([^/]+)/.*", told["url"]).groups()  # type: ignore[union-attr]
            yield Index(home=home, url=f"{base}/simple/{target}/", token=told["token"])


def test_pip_installs_what_nobody_has_built(index: Index) -> None:
    index.home.upstream.add(Project(name="a-app", requires_dist=["a-library<2"], build_requires=["a-tool"]))
    index.home.upstream.add(Project(name="a-library"), Project(name="a-library", version="2.0"), Project(name="a-tool"))
    done = index.install("pip", "a-app")
    assert done.returncode == 0, done.stdout + done.stderr + index.home.farm_log()
    assert index.installed("pip") == {"a_app-1.0", "a_library-1.0"}


def test_uv_installs_what_nobody_has_built(index: Index) -> None:
    index.home.upstream.add(Project(name="b-app", requires_dist=["b-library<2"]))
    index.home.upstream.add(Project(name="b-library"), Project(name="b-library", version="2.0"))
    done = index.install("uv", "b-app")
    assert done.returncode == 0, done.stdout + done.stderr + index.home.farm_log()
    assert index.installed("uv") == {"b_app-1.0", "b_library-1.0"}


def test_version_that_is_wanted_is_built_beside_the_newest(index: Index) -> None:
    index.home.upstream.add(*(Project(name="c-app", version=version) for version in ("1.0", "1.5", "2.0")))
    for query, versions in (({}, ["2.0"]), ({"want": "1.5"}, ["1.5", "2.0"])):
        page = index.page("c-app", format="application/vnd.pypi.simple.v1+json", **query)
        assert (page.status_code, page.json()["versions"]) == (200, versions)
    assert index.page("c-app", want="3.0").status_code == 404
    assert index.page("c-app", want="x y").status_code == 400


def test_what_can_not_be_had_is_told_once_and_for_all(index: Index) -> None:
    index.home.upstream.add(Project(name="d-app", build_code="raise SystemExit('it is broken')"))
    absent = index.page("d-absent")
    assert (absent.status_code, absent.json()["error"]) == (404, "not-found")
    assert "d-absent" in absent.json()["message"]
    for _ in range(2):
        broken = index.page("d-app")
        assert (broken.status_code, broken.json()["error"]) == (422, "build-failed"), broken.text
    builds = [log for log in index.home.build_logs() if "it is broken" in log]
    assert len(builds) == 1
    for client in ("pip", "uv"):
        assert index.install(client, "d-absent").returncode != 0
    assert "failed" in index.install("uv", "d-app").stderr


@pytest.mark.slow
@pytest.mark.parametrize("client", ["pip", "uv"])
def test_installer_waits_for_a_build_that_outlasts_one_request(index: Index, client: str) -> None:
    """45 s: longer than either waits for an answer, so that it is told 503 and comes again."""
    name = f"e-{client}"
    index.home.upstream.add(Project(name=name, build_code="import time; time.sleep(45)"))
    done = index.install(client, name)
    assert done.returncode == 0, done.stdout + done.stderr + index.home.farm_log()
    assert f"e_{client}-1.0" in index.installed(client)


@pytest.mark.slow
@pytest.mark.index
@pytest.mark.parametrize(
    ("client", "package", "variable", "words"),
    [
        ("poetry", "poetry", "POETRY_HTTP_BASIC_WHEELFARM", ["add", "--lock", "--no-interaction", "--no-cache"]),
        ("pdm", "pdm[locked]", "PDM_PYPI", ["add", "--no-self"]),
    ],
)
def test_poetry_and_pdm_lock_what_nobody_has_built(
    index: Index, client: str, package: str, variable: str, words: list[str]
) -> None:
    name = f"f-{client}"
    index.home.upstream.add(Project(name=name, requires_dist=["f-library"]), Project(name="f-library"))
    venv.create(index.home.root / "env", with_pip=True)
    programs = index.home.root / "env" / "bin"
    subprocess.run([programs / "pip", "install", "-q", package], check=True, capture_output=True)
    base, target = index.url.rstrip("/").split("/simple/")
    printed = index.home.run("config", client, "--url", base, "--target", target)
    project = index.home.root / client
    project.mkdir()
    head = '[project]\nname = "x"\nversion = "1"\nrequires-python = ">=3.11,<4"\n'
    (project / "pyproject.toml").write_text(head + printed.out)
    (project / ".pdm-python").write_text(sys.executable)
    settings = {f"{variable}_USERNAME": "__token__", f"{variable}_PASSWORD": index.token, "PDM_USE_VENV": "0"}
    settings |= {"PDM_IGNORE_STORED_INDEX": "1", "POETRY_VIRTUALENVS_CREATE": "false"}

    done = subprocess.run(
        [programs / client, *words, name],
        cwd=project,
        env={**index.home.environment, **settings},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    lock = (project / f"{client}.lock").read_text()
    assert (f"f_{client}-1.0-1-py3-none-any.whl" in lock, "f_library-1.0-1-py3-none-any.whl" in lock) == (True, True)
    assert index.token not in lock + (project / "pyproject.toml").read_text()
