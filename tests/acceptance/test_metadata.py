"""Metadata: stock resolvers run no hook against the farm's source index, and what a build tells is the truth."""

import json
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from uv import find_uv_bin

from tests.acceptance.conftest import PATIENCE_S, Home, held_farm, wait_until
from tests.support.projects import Project
from wheelfarm_services.metadata_comparison import metadata_differences


@dataclass(frozen=True, kw_only=True)
class SourceIndex:
    """The source index of a running farm, with the farm's secret as the password of `__token__`."""

    url: str
    home: Home

    def uv(self, *words: str | Path) -> "subprocess.CompletedProcess[str]":
        """A user's uv."""
        options = ["--no-config", "--default-index", self.url, "--cache-dir", str(self.home.root / "uv-cache")]
        return self._run([find_uv_bin(), *map(str, words), *options])

    def uv_lock(self, *requirements: str) -> "subprocess.CompletedProcess[str]":
        """`uv pip compile` from sdists alone."""
        asked = self.home.root / "requirements.in"
        asked.write_text("\n".join(requirements))
        return self.uv("pip", "compile", "--no-binary", ":all:", "--generate-hashes", "--python", sys.executable, asked)

    def pip(self, *words: str | Path) -> "subprocess.CompletedProcess[str]":
        """A user's pip."""
        return self._run([sys.executable, "-m", "pip", "--isolated", *map(str, words), "--index-url", self.url])

    def pip_report(self, *requirements: str) -> list[str]:
        """What pip would install from sdists alone, by its report."""
        report = self.home.root / "report.json"
        done = self.pip(
            "install", "--dry-run", "--ignore-installed", "--no-binary", ":all:", "--report", report, *requirements
        )
        assert done.returncode == 0, done.stderr
        found = [one["metadata"] for one in json.loads(report.read_text())["install"]]
        return sorted(f"{one['name']}=={one['version']}" for one in found)

    def get(self, path: str) -> httpx.Response:
        """What the farm answers for a path."""
        parts = urlsplit(self.url)
        return httpx.get(parts._replace(path=path).geturl(), timeout=PATIENCE_S).raise_for_status()

    def _run(self, command: list[str]) -> "subprocess.CompletedProcess[str]":
        environment = {**self.home.environment, "PIP_CACHE_DIR": str(self.home.root / "pip-cache")}
        return subprocess.run(
            command,
            env=environment,
            cwd=self.home.root,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_S,
        )


@contextmanager
def source_index(home: Home) -> Iterator[SourceIndex]:
    """The home's farm, kept running."""
    with held_farm(home) as told:
        parts = urlsplit(told["url"])
        yield SourceIndex(url=parts._replace(netloc=f"__token__:{told['token']}@{parts.netloc}").geturl(), home=home)


def hooked(home: Home) -> str:
    """Code that leaves a marker file in the user's home wherever it runs outside a sandbox, and says so in the log."""
    marker = home.root / "marker"
    return f"print('hook ran')\ntry:\n    open({str(marker)!r}, 'a').write('x')\nexcept OSError:\n    pass\n"


def hooks_outside(home: Home) -> bool:
    return (home.root / "marker").exists()


def publish_set(home: Home) -> None:
    """An app with static metadata at every depth, whose hooks leave markers."""
    code = hooked(home)
    home.upstream.add(
        Project(name="app", requires_dist=["library>=1", 'extra-one; extra == "more"'], extras=["more"], code=code),
        Project(name="library", version="1.0", requires_dist=["base"], code=code),
        Project(name="library", version="0.9", code=code),
        Project(name="extra-one", code=code),
        Project(name="base", version="2.0", requires_python=">=3.8", code=code),
    )


RESOLVED = ["app==1.0", "base==2.0", "extra-one==1.0", "library==1.0"]


def test_stock_uv_resolves_with_no_hook_run(home: Home) -> None:
    publish_set(home)
    with source_index(home) as index:
        done = index.uv_lock("app[more]")
    assert done.returncode == 0, done.stderr
    locked = [line.split()[0].rstrip("\\") for line in done.stdout.splitlines() if "==" in line]
    assert sorted(line.replace("[more]", "") for line in locked) == RESOLVED
    assert not hooks_outside(home)
    assert home.build_logs() == []


def test_stock_pip_resolves_with_no_hook_run(home: Home) -> None:
    publish_set(home)
    with source_index(home) as index:
        assert index.pip_report("app[more]") == RESOLVED
        lock = index.pip("lock", "--no-binary", ":all:", "--output", home.root / "pylock.toml", "app[more]")
    assert lock.returncode == 0, lock.stderr
    assert (home.root / "pylock.toml").read_text().count("[packages.sdist]") == len(RESOLVED)
    assert not hooks_outside(home)
    assert home.build_logs() == []


def test_stock_tools_find_pending_metadata_when_they_ask_again(home: Home) -> None:
    home.upstream.add(
        Project(name="app", requires_dist=["dynamic"]),
        Project(name="dynamic", static=False, requires_dist=["deep"], code=hooked(home)),
        Project(name="deep"),
    )
    with source_index(home) as index:
        refused = index.uv_lock("app")
        assert refused.returncode != 0
        assert "425" in refused.stderr
        assert wait_until(lambda: index.uv_lock("app").returncode == 0)
        assert index.pip_report("app") == ["app==1.0", "deep==1.0", "dynamic==1.0"]
        assert json.loads(home.run("status", "--json").out)["requests"] == []
    assert not hooks_outside(home)
    assert "hook ran" in "".join(home.build_logs())


@pytest.mark.parametrize("tool", ["uv", "pip"])
def test_stock_tools_are_refused_without_the_token(home: Home, tool: str) -> None:
    publish_set(home)
    with source_index(home) as index:
        parts: Any = urlsplit(index.url)
        bare = SourceIndex(url=parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl(), home=home)
        words = ["install", "--no-input", "--dry-run", "--no-binary", ":all:", "app"]
        done = bare.uv_lock("app") if tool == "uv" else bare.pip(*words)
    assert done.returncode != 0
    assert home.upstream.requests == []


def install(home: Home, *words: str) -> list[str]:
    """What `wheelfarm install` puts into a new environment; it says on stderr what it found out."""
    done = home.run("install", "--venv", home.root / "env", *words)
    assert done.code == 0, done.err + home.farm_log()
    check = subprocess.run(
        [find_uv_bin(), "pip", "check", "--python", home.root / "env"], capture_output=True, text=True, check=False
    )
    assert check.returncode == 0, check.stderr
    return sorted(done.out.split())


def manifests(home: Home) -> dict[str, dict[str, Any]]:
    """The manifests of all wheels, by project and version."""
    found = [json.loads(path.read_bytes()) for path in home.store.glob("manifests/**/*.json")]
    return {f"{one['wheel']['name']}=={one['wheel']['version']}": one["provenance"] for one in found}


def test_a2_requirements_that_only_the_wheel_tells_are_resolved_and_built(home: Home) -> None:
    home.upstream.add(
        Project(name="app", requires_dist=["liar"]),
        Project(name="liar", requires_dist=["unneeded"], wheel_tells={"requires_dist": ["needed>1", "unneeded<9"]}),
        Project(name="unneeded"),
        Project(name="needed", version="2.0", wheel_tells={"requires_dist": ["deep"]}),
        Project(name="deep"),
    )
    done = home.run("install", "--venv", home.root / "env", "app")
    assert done.code == 0, done.err
    assert sorted(done.out.split()) == ["app==1.0", "deep==1.0", "liar==1.0", "needed==2.0", "unneeded==1.0"]
    assert "liar==1.0 tells other metadata than its sdist" in done.err
    assert "-Requires-Dist: unneeded; +Requires-Dist: needed>1; +Requires-Dist: unneeded<9" in done.err
    assert done.err.count("needed==2.0 tells") == 1
    assert manifests(home)["liar==1.0"]["metadata"] == {
        "revision": 1,
        "differences": ["-Requires-Dist: unneeded", "+Requires-Dist: needed>1", "+Requires-Dist: unneeded<9"],
    }
    why = home.run("why", "liar")
    assert "+Requires-Dist: needed>1" in why.out


def test_a2_requirements_that_the_wheel_does_not_have_are_not_installed(home: Home) -> None:
    home.upstream.add(Project(name="liar", requires_dist=["unneeded"], wheel_tells={"requires_dist": []}))
    home.upstream.add(Project(name="unneeded"))
    assert install(home, "liar") == ["liar==1.0"]
    built = manifests(home)
    home.upstream.requests.clear()
    again = home.run("install", "--venv", home.root / "again", "--upgrade", "liar")
    assert again.out.split() == ["liar==1.0"]
    assert "unneeded-1.0.tar.gz" not in home.upstream.files_asked
    assert manifests(home) == built


def test_a2_wheel_that_excludes_this_python_is_given_up_for_another_version(home: Home) -> None:
    home.upstream.add(
        Project(name="liar", version="2.0", wheel_tells={"requires_python": ">=3.99"}),
        Project(name="liar", version="1.0"),
    )
    assert install(home, "liar") == ["liar==1.0"]


def test_a2_extras_that_only_the_wheel_tells_are_resolved(home: Home) -> None:
    told = {"extras": ["Fast_Path"], "requires_dist": ['quick; extra == "Fast_Path"']}
    home.upstream.add(Project(name="liar", wheel_tells=told), Project(name="quick"))
    assert install(home, "liar[fast-path]") == ["liar==1.0", "quick==1.0"]


def test_a2_metadata_that_says_the_same_in_other_words_is_no_difference(home: Home) -> None:
    stated = ["Base_One (>=1.0,<2)", 'other ; extra == "fast_path" and python_version >= "3.0"']
    told = ["base.one<2,>=1.0.0", "other; python_version >= '3.0' and extra == 'fast-path'"]
    home.upstream.add(
        Project(
            name="app",
            requires_dist=stated,
            extras=["fast_path"],
            wheel_tells={"requires_dist": told, "extras": ["Fast-Path"]},
            wheel_version="1.0.0",
        ),
        Project(name="base-one"),
    )
    assert install(home, "app") == ["app==1.0", "base-one==1.0"]
    assert manifests(home)["app==1.0"]["metadata"] == {"revision": 0, "differences": []}


@pytest.mark.parametrize("told", [{"wheel_name": "other"}, {"wheel_version": "1.1"}])
def test_a2_wheel_of_another_name_or_version_is_refused(home: Home, told: dict[str, str]) -> None:
    home.upstream.add(Project(name="liar", **told))  # type: ignore[arg-type]
    done = home.run("install", "--venv", home.root / "env", "liar")
    assert done.code == 23, done.err
    assert home.wheel_names() == []


def test_a2_metadata_that_never_settles_ends_with_an_error_after_some_rounds(home: Home) -> None:
    versions = [f"{number}.0" for number in range(1, 15)]
    home.upstream.add(
        *(Project(name="liar", version=one, wheel_tells={"requires_dist": ["liar<0"]}) for one in versions)
    )
    done = home.run("install", "--venv", home.root / "env", "liar")
    assert done.code == 16, done.err
    assert "10 times over" in done.err
    assert "liar==5.0" in done.err
    assert len(home.wheel_names()) == 10
    assert not (home.root / "env" / "bin").exists() or not list((home.root / "env").glob("lib/*/site-packages/liar*"))


def test_a2_build_environment_is_planned_by_what_its_wheels_tell(home: Home) -> None:
    code = "import needed"
    home.upstream.add(
        Project(name="app", build_requires=["liar"], build_code=code),
        Project(name="liar", wheel_tells={"requires_dist": ["needed"]}),
        Project(name="needed"),
    )
    assert install(home, "app") == ["app==1.0"]
    used = [one["wheel"]["name"] for one in manifests(home)["app==1.0"]["plan"]["requirements"]]
    assert used == ["liar", "needed"]


def test_a2_remembered_set_is_a_closed_one(home: Home) -> None:
    home.upstream.add(Project(name="liar", wheel_tells={"requires_dist": ["needed"]}), Project(name="needed"))
    assert install(home, "liar") == ["liar==1.0", "needed==1.0"]
    home.upstream.requests.clear()
    warm = home.run("install", "--venv", home.root / "again", "liar")
    assert sorted(warm.out.split()) == ["liar==1.0", "needed==1.0"]
    assert home.upstream.requests == []


@pytest.mark.parametrize("tool", ["uv", "pip"])
def test_a2_stock_tools_resolve_by_what_the_wheel_told(home: Home, tool: str) -> None:
    home.upstream.add(Project(name="liar", wheel_tells={"requires_dist": ["needed"]}), Project(name="needed"))
    with source_index(home) as index:

        def resolved() -> list[str]:
            if tool == "pip":
                return index.pip_report("liar")
            locked = index.uv_lock("liar").stdout.splitlines()
            return sorted(line.split()[0] for line in locked if "==" in line)

        assert resolved() == ["liar==1.0"]
        assert install(home, "liar") == ["liar==1.0", "needed==1.0"]
        assert resolved() == ["liar==1.0", "needed==1.0"]


def test_g1_hooks_run_in_the_sandbox_alone(home: Home) -> None:
    code = hooked(home)
    home.upstream.add(
        Project(name="app", requires_dist=["dynamic"], code=code),
        Project(name="dynamic", static=False, requires_dist=["base"], code=code, build_requires=["helper"]),
        Project(name="helper", static=False, code=code),
        Project(name="base", static=False, code=code),
    )
    assert install(home, "app") == ["app==1.0", "base==1.0", "dynamic==1.0"]
    assert not hooks_outside(home)
    logs = home.build_logs()
    assert sum("hook ran" in log for log in logs) == 4


def test_g2_metadata_that_was_resolved_with_is_the_wheels(home: Home) -> None:
    home.upstream.add(
        Project(name="app", requires_dist=["dynamic", "static"]),
        Project(name="dynamic", static=False, requires_dist=["static"]),
        Project(name="static", extras=["x"], requires_python=">=3.8"),
    )
    with source_index(home) as index:
        install(home, "app")
        path = urlsplit(index.url).path
        for name, told in (("app", 2), ("dynamic", 1), ("static", 0)):
            page = index.get(f"{path}{name}/").json()
            served = index.get(page["files"][0]["url"] + ".metadata").content
            (sidecar,) = home.store.glob(f"wheels/*/{name}-*.metadata")
            assert metadata_differences(served, sidecar.read_bytes()) == ()
            assert served.count(b"Requires-Dist") == told


def test_g3_client_fails_closed_without_the_source_index(home: Home) -> None:
    publish_set(home)
    home.upstream.refuse("library", 503)
    done = home.run("install", "--venv", home.root / "env", "app")
    assert done.code == 13, done.err
    assert home.wheel_names() == []
    gone = home.run("build", "app", environment={"WHEELFARM_URL": "http://127.0.0.1:9", "WHEELFARM_TOKEN": "x"})
    assert gone.code == 30, gone.err
    assert not hooks_outside(home)


PREPARE = """
def prepare_metadata_for_build_wheel(folder, config_settings=None):
    print("prepared apart")
    os.mkdir(os.path.join(folder, "large-1.0.dist-info"))
    with open(os.path.join(folder, "large-1.0.dist-info", "METADATA"), "w") as file:
        file.write("Metadata-Version: 2.1\\nName: {name}\\nVersion: 1.0\\nRequires-Dist: prepared\\n")
    return "large-1.0.dist-info"
"""


def large_project(**fields: Any) -> Project:
    """A project with an sdist of more than 4 MiB, whose metadata only its backend can tell."""
    data = {"large/data.txt": random.Random(0).randbytes(5 << 20).hex()}
    return Project(name="large", static=False, modules={"large/__init__.py": "", **data}, **fields)


def test_metadata_of_a_large_sdist_is_prepared_without_its_build(home: Home) -> None:
    home.upstream.add(large_project(code=PREPARE.format(name="large")), Project(name="prepared"))
    with source_index(home) as index:
        assert wait_until(lambda: index.uv_lock("large").returncode == 0)
    assert home.wheel_names() == []
    assert "prepared apart" in "".join(home.build_logs())


def test_a2_prepared_metadata_is_given_up_for_what_the_wheel_tells(home: Home) -> None:
    home.upstream.add(
        large_project(code=PREPARE.format(name="large"), requires_dist=["built"]),
        Project(name="prepared"),
        Project(name="built"),
    )
    with source_index(home) as index:
        assert wait_until(lambda: index.uv_lock("large").returncode == 0)
    assert install(home, "large") == ["built==1.0", "large==1.0"]
    assert manifests(home)["large==1.0"]["metadata"]["differences"] == [
        "-Requires-Dist: prepared",
        "+Requires-Dist: built",
    ]


@pytest.mark.parametrize(
    "hook", ["", "def prepare_metadata_for_build_wheel(*_): 1 / 0\n", PREPARE.format(name="other")]
)
def test_metadata_of_a_large_sdist_whose_hook_does_not_tell_it_is_its_wheels(home: Home, hook: str) -> None:
    home.upstream.add(large_project(code=hook, requires_dist=["built"]), Project(name="built"))
    with source_index(home) as index:
        assert wait_until(lambda: index.uv_lock("large").returncode == 0)
        assert "built==1.0" in index.uv_lock("large").stdout
    assert manifests(home)["large==1.0"]["metadata"]["revision"] == 0


def test_metadata_of_a_large_sdist_whose_wheel_is_wanted_comes_with_the_wheel(home: Home) -> None:
    home.upstream.add(
        large_project(code=PREPARE.format(name="large"), requires_dist=["built"]),
        Project(name="prepared"),
        Project(name="built"),
    )
    assert install(home, "large") == ["built==1.0", "large==1.0"]
    assert "prepared apart" not in "".join(home.build_logs())
    assert manifests(home)["large==1.0"]["metadata"]["revision"] == 0
