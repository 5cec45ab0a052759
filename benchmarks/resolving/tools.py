"""The tools that are compared. Each resolves a set with nothing to begin with, and then once more with what it has."""

import os
import subprocess
import sys
import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from time import monotonic
from typing import Protocol, Self

from uv import find_uv_bin

from benchmarks.measure import CommandFailed
from wheelfarm.embedded import attached
from wheelfarm.farm import Farm
from wheelfarm.job import JobKind
from wheelfarm.resolution import MetadataPending, estimate, resolve
from wheelfarm.settings import Settings
from wheelfarm.target import host_target


class Resolver(Protocol):
    """A tool in one round: entered before the clock runs, asked twice, and left."""

    name: str
    command: str
    wheels: bool
    """Whether its index lists wheels, too."""
    peer: str
    """The tool that it is compared with."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def resolve(self, requirements: Sequence[str]) -> float:
        """Resolve; the seconds that it took."""
        ...


class _Command:
    """A tool that is a command, which keeps what it has in one folder."""

    def __init__(self, folder: Path, index: str) -> None:
        self._folder = folder
        self._index = index

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def resolve(self, requirements: Sequence[str]) -> float:
        kept = {name: text for name, text in os.environ.items() if not name.startswith(("UV_", "PIP_", "PYTHON"))}
        command, environment = self._argv(requirements), {**kept, **self._variables()}
        start = monotonic()
        done = subprocess.run(
            command, env=environment, cwd=self._folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
        )
        if done.returncode != 0:
            raise CommandFailed(f"{' '.join(command)} failed:\n{done.stdout.decode(errors='replace')[-3000:]}")
        return monotonic() - start

    def _argv(self, requirements: Sequence[str]) -> list[str]:
        raise NotImplementedError

    def _variables(self) -> dict[str, str]:
        return {}


class Uv(_Command):
    """uv, by the metadata of wheels, of which it takes what the index and ranges give."""

    name = "uv, wheels' metadata"
    command = "uv pip compile"
    wheels = True
    peer = name

    def _argv(self, requirements: Sequence[str]) -> list[str]:
        (self._folder / "set.txt").write_text("\n".join(requirements))
        options = ["--no-config", "--quiet", "--python", sys.executable, "--no-binary", ":all:", "--generate-hashes"]
        options += [
            "--format",
            "pylock.toml",
            "--default-index",
            self._index,
            "--cache-dir",
            str(self._folder / "cache"),
        ]
        return [find_uv_bin(), "pip", "compile", *options, "set.txt"]


class UvOfSdists(Uv):
    """uv where there are no wheels, so that build backends tell what no sdist states, on this machine."""

    name = "uv, sdists alone"
    wheels = False
    peer = name


class Pip(_Command):
    """pip, which has each build backend tell the metadata."""

    name = "pip"
    command = "pip install --dry-run --no-binary :all:"
    wheels = True
    peer = UvOfSdists.name

    def _argv(self, requirements: Sequence[str]) -> list[str]:
        options = ["--dry-run", "--quiet", "--ignore-installed", "--no-binary", ":all:", "--index-url", self._index]
        return [
            sys.executable,
            "-m",
            "pip",
            "--isolated",
            "--disable-pip-version-check",
            "install",
            *options,
            *requirements,
        ]

    def _variables(self) -> dict[str, str]:
        return {"PIP_CACHE_DIR": str(self._folder / "cache"), "PIP_CONFIG_FILE": os.devnull}


class Wheelfarm:
    """The farm, which runs; metadata that no sdist states for good is computed by builds in the sandbox."""

    name = "wheelfarm"
    command = "until all metadata is proven"
    wheels = True
    peer = UvOfSdists.name

    def __init__(self, folder: Path, index: str) -> None:
        environment = {"HOME": str(folder), "WHEELFARM_INDEX": index, "WHEELFARM_STORE": str(folder / "store")}
        self._settings = Settings.from_environment({**environment, "WHEELFARM_CACHE": str(folder / "cache")})
        self._target = host_target(Path(sys.executable), sandbox="bubblewrap", memory=folder / "targets")
        self._exit = ExitStack()

    def __enter__(self) -> Self:
        embedded = self._exit.enter_context(attached(self._settings))
        self._farm = self._exit.enter_context(Farm(embedded.url, embedded.token))
        self._farm.register(self._target)
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    def resolve(self, requirements: Sequence[str]) -> float:
        start = monotonic()
        self._resolve(requirements)
        return monotonic() - start

    def _resolve(self, requirements: Sequence[str]) -> None:
        cache_dir = self._settings.cache / "uv"
        while isinstance(
            found := resolve(requirements, target=self._target, farm=self._farm, cache_dir=cache_dir), MetadataPending
        ):
            request_id = uuid.uuid4().hex
            status = self._farm.submit(JobKind.METADATA, found.sdists, [self._target], request_id=request_id)
            self._farm.wait(status, lambda _: None)


class WheelfarmAsStated(Wheelfarm):
    """The farm, by what sdists state, proven or not, as `wheelfarm plan` asks; nothing is built."""

    name = "wheelfarm, as stated"
    command = "as `wheelfarm plan` asks"
    peer = Uv.name

    def _resolve(self, requirements: Sequence[str]) -> None:
        estimate(requirements, target=self._target, farm=self._farm, cache_dir=self._settings.cache / "uv")


TOOLS: tuple[type[Wheelfarm | Uv | Pip], ...] = (WheelfarmAsStated, Uv, Wheelfarm, UvOfSdists, Pip)
