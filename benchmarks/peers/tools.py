"""The tools that are compared. Each builds a set from source into empty caches, and then installs it once more."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from uv import find_uv_bin

from benchmarks.measure import Measured, measure

_UV_BUILD = re.compile(r"Calling `[^`]*\.build_wheel\(")


@dataclass(frozen=True, kw_only=True, slots=True)
class Bench:
    """Where one round of one tool works: a folder of its own, empty at first."""

    folder: Path

    def run(self, *argv: str | Path, **variables: str) -> Measured:
        """Measure a command, with nothing of this machine's settings for the tools but where the index is."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("WHEELFARM_", "PYTHON"))}
        return measure([str(word) for word in argv], {**kept, **variables}, cwd=str(self.folder))

    def environment(self, name: str) -> Path:
        """A new environment, whose making is not measured; its interpreter."""
        folder = self.folder / name
        subprocess.run([find_uv_bin(), "venv", "--quiet", "--python", sys.executable, folder], check=True)
        return folder / "bin" / "python"


@dataclass(frozen=True, kw_only=True, slots=True)
class Built:
    """What a cold build took, and how many wheels it built; None where the tool does not tell."""

    measured: Measured
    wheels: int | None


class Wheelfarm:
    """The farm, with an empty store: its start-up is in the figures, and so is its end in those of the processor."""

    name = "wheelfarm"
    command = "wheelfarm install"

    def cold(self, bench: Bench, requirements: Sequence[str]) -> Built:
        measured = self._install(bench, "cold", requirements)
        return Built(measured=measured, wheels=len(list(self.wheels(bench))))

    def warm(self, bench: Bench, requirements: Sequence[str], number: int) -> Measured:
        return self._install(bench, f"warm-{number}", requirements)

    def wheels(self, bench: Bench) -> Iterator[Path]:
        """The wheels in the store."""
        return bench.folder.glob("store/wheels/*/*.whl")

    def _install(self, bench: Bench, name: str, requirements: Sequence[str]) -> Measured:
        python = str(bench.environment(name))
        return bench.run(
            Path(sys.executable).with_name("wheelfarm"),
            *("install", "--quiet", "--python", python, *requirements),
            WHEELFARM_STORE=str(bench.folder / "store"),
            WHEELFARM_CACHE=str(bench.folder / "cache"),
        )


class Uv:
    """uv, cold with no cache, warm from a folder of the wheels that the farm built. Its verbose output tells builds."""

    name = "uv"
    command = "uv pip install --no-binary :all: --no-cache"

    def cold(self, bench: Bench, requirements: Sequence[str]) -> Built:
        python = str(bench.environment("cold"))
        options = ("--python", python, "--no-binary", ":all:", "--no-cache", "--verbose")
        measured = bench.run(find_uv_bin(), "pip", "install", *options, *requirements)
        return Built(measured=measured, wheels=len(_UV_BUILD.findall(measured.output)) or None)

    def warm(self, bench: Bench, requirements: Sequence[str], number: int) -> Measured:
        python = bench.environment(f"warm-{number}")
        options = ("--python", python, "--cache-dir", bench.folder / "cache", "--no-index", "--find-links")
        return bench.run(find_uv_bin(), "pip", "install", *options, bench.folder / "wheels", *requirements)


class Pip:
    """pip, with an empty cache of its own: `--no-cache-dir` does not reach its nested installs."""

    name = "pip"
    command = "pip install --no-binary :all:, empty PIP_CACHE_DIR"

    def cold(self, bench: Bench, requirements: Sequence[str]) -> Built:
        measured = self._install(bench, "cold", "--no-binary", ":all:", *requirements)
        return Built(measured=measured, wheels=len(list(bench.folder.glob("cache/**/*.whl"))))

    def warm(self, bench: Bench, requirements: Sequence[str], number: int) -> Measured:
        return self._install(
            bench, f"warm-{number}", "--no-index", "--find-links", bench.folder / "wheels", *requirements
        )

    def _install(self, bench: Bench, name: str, *words: str | Path) -> Measured:
        folder = bench.folder / name
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        _install_tool(folder, "pip")
        options = ("--disable-pip-version-check", "--quiet")
        return bench.run(folder / "bin" / "pip", "install", *options, *words, PIP_CACHE_DIR=str(bench.folder / "cache"))


class Fromager:
    """fromager, in an environment of its own. It installs nothing; it has no warm figure to compare."""

    name = "fromager"
    command = "fromager bootstrap"

    def cold(self, bench: Bench, requirements: Sequence[str]) -> Built:
        subprocess.run([sys.executable, "-m", "venv", bench.folder / "tool"], check=True)
        _install_tool(bench.folder / "tool", "fromager")
        work = bench.folder / "work"
        work.mkdir()
        path = f"{bench.folder / 'tool' / 'bin'}{os.pathsep}{os.environ['PATH']}"
        fromager = bench.folder / "tool" / "bin" / "fromager"
        measured = bench.run(fromager, "--no-network-isolation", "bootstrap", *requirements, PATH=path)
        return Built(measured=measured, wheels=len(list(bench.folder.glob("wheels-repo/downloads/*.whl"))))

    def warm(self, bench: Bench, requirements: Sequence[str], number: int) -> None:
        return None


Tool = Wheelfarm | Uv | Pip | Fromager
TOOLS: tuple[Tool, ...] = (Wheelfarm(), Uv(), Pip(), Fromager())


def _install_tool(folder: Path, requirement: str) -> None:
    command = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*command, "--upgrade", requirement], check=True, stderr=subprocess.DEVNULL)
