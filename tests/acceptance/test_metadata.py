"""Metadata: stock resolvers run no hook against the farm's source index, and what a build tells is the truth."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from uv import find_uv_bin

from tests.acceptance.conftest import Home, wait_until
from tests.support.projects import Project


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

    def _run(self, command: list[str]) -> "subprocess.CompletedProcess[str]":
        environment = {**self.home.environment, "PIP_CACHE_DIR": str(self.home.root / "pip-cache")}
        return subprocess.run(
            command, env=environment, cwd=self.home.root, capture_output=True, text=True, check=False, timeout=60
        )


@contextmanager
def source_index(home: Home) -> Iterator[SourceIndex]:
    """The home's farm, kept running."""
    holder = subprocess.Popen(
        [sys.executable, "-m", "tests.support.held_farm"],
        env={**home.environment, "PYTHONPATH": os.getcwd()},  # noqa: PTH109
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout and holder.stdin
    try:
        told = json.loads(holder.stdout.readline())
        parts = urlsplit(told["url"])
        url = parts._replace(netloc=f"__token__:{told['token']}@{parts.netloc}").geturl()
        yield SourceIndex(url=url, home=home)
    finally:
        holder.stdin.close()
        assert holder.wait(timeout=30) == 0
        holder.stdout.close()


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
    assert not list(home.store.glob("logs/**/*.log"))


def test_stock_pip_resolves_with_no_hook_run(home: Home) -> None:
    publish_set(home)
    with source_index(home) as index:
        assert index.pip_report("app[more]") == RESOLVED
        lock = index.pip("lock", "--no-binary", ":all:", "--output", home.root / "pylock.toml", "app[more]")
    assert lock.returncode == 0, lock.stderr
    assert (home.root / "pylock.toml").read_text().count("[packages.sdist]") == len(RESOLVED)
    assert not hooks_outside(home)
    assert not list(home.store.glob("logs/**/*.log"))


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
        assert wait_until(lambda: index.uv_lock("app").returncode == 0, 60)
        assert index.pip_report("app") == ["app==1.0", "deep==1.0", "dynamic==1.0"]
        assert json.loads(home.run("status", "--json").out)["requests"] == []
    assert not hooks_outside(home)
    assert "hook ran" in "".join(path.read_text() for path in home.store.glob("logs/**/*.log"))


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
