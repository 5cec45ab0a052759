"""Stock installers as they come, each with a folder of its own for what it keeps, told to use one place alone."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, Protocol
from urllib.parse import urlsplit

from uv import find_uv_bin

from tests.support.index_farm import TARGET

_NOWHERE = "http://127.0.0.1:9"


@dataclass(frozen=True, kw_only=True)
class Source:
    """One place to install from: a target's `index`, that of several (`combined`) or a page of `links` at `base`, the
    address of a farm or of a copy of its pages; or an export, the folder `base`, as it lies (`folder`), by its `page`
    of links or by the index in it (`files`)."""

    base: str
    form: Literal["index", "combined", "links", "folder", "page", "files"] = "index"
    target: str = TARGET
    page: str = ""
    """The name of the page of links, where a server does not find it by itself."""

    @property
    def url(self) -> str:
        """What an installer is told."""
        places = {
            "index": f"{self.base}/simple/{self.target}/",
            "links": f"{self.base}/flat/{self.target}/{self.page}",
            "combined": f"{self.base}/combined/{self.target}/",
            "folder": self.base,
            "page": f"file://{self.base}/index.html",
            "files": f"file://{self.base}/simple/",
        }
        return places[self.form]

    @property
    def options(self) -> Sequence[str]:
        """Of `wheelfarm config`, for which it prints the configuration of a client."""
        if self.form == "folder":
            return ["--export", self.base]
        parts = urlsplit(self.base)
        url = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        return ["--url", url, "--target", self.target]

    @property
    def environment(self) -> Mapping[str, str]:
        """What keeps a client from the network where the place is on disk."""
        on_disk = self.form in ("folder", "page", "files")
        return dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), _NOWHERE) if on_disk else {}


@dataclass(frozen=True, kw_only=True)
class Installed:
    """What a client did: its exit code, what it said, which distributions came of it, each with its build tag, and the
    modules."""

    code: int
    said: str
    wheels: Mapping[str, str]
    files: Mapping[str, str] = field(default_factory=dict)


class Client(Protocol):
    """An installer. `cached`, it keeps what it reads for the next time; what was uploaded after `since` is too new."""

    @property
    def name(self) -> str: ...

    def install(
        self, source: Source, *requirements: str, cached: bool = False, since: str = "", locked: str = ""
    ) -> Installed:
        """Install into an empty environment, or exactly what a lock has that `lock` gave."""

    def lock(self, source: Source, *requirements: str) -> str:
        """What these requirements resolve to, with hashes; "" where they do not."""


@dataclass(frozen=True, kw_only=True)
class Installer:
    """pip or uv. `options` are added to every installation, such as the interpreter to install for."""

    name: str
    home: Path
    options: Sequence[str] = field(default=())

    def install(
        self, source: Source, *requirements: str, cached: bool = False, since: str = "", locked: str = ""
    ) -> Installed:
        given = ["--require-hashes", "-r", str(self._written(locked))] if locked and self.name == "uv" else []
        given = given or (["-r", str(self._written(locked))] if locked else list(requirements))
        cooldown = [_COOLDOWN[self.name], since] if since else []
        kept = ["--cache-dir", str(self.home / "cache")] if cached else [_CACHELESS[self.name]]
        with TemporaryDirectory(dir=self.home) as folder:
            words = [*_INSTALL[self.name], *self.options, *kept, *cooldown, *self._place(source), "--target", folder]
            done = _run([*words, *given], self.home, source.environment)
            return _installed(done, Path(folder))

    def lock(self, source: Source, *requirements: str) -> str:
        """In the form that the client takes back with `-r`: pip's PEP 751, uv's a requirements file."""
        if self.name == "pip":
            words = [*_PIP, "lock", "-q", "--no-cache-dir", "-o", "-", *self._place(source), *requirements]
            return _run(words, self.home, source.environment).stdout
        (self.home / "requirements.in").write_text("\n".join(requirements))
        words = [*_UV, "compile", "-q", "--no-cache", "--generate-hashes", "--python", sys.executable]
        words += [*self._place(source), str(self.home / "requirements.in")]
        return _run(words, self.home, source.environment).stdout

    def _written(self, lock: str) -> Path:
        path = self.home / ("pylock.toml" if self.name == "pip" else "requirements.txt")
        path.write_text(lock)
        return path

    def _place(self, source: Source) -> list[str]:
        """The options that name a place, and no other."""
        if source.form in ("links", "folder", "page"):
            return ["--no-index", "--find-links", source.url]
        return ["--index-url" if self.name == "pip" else "--default-index", source.url]


_PIP = [sys.executable, "-m", "pip", "--isolated", "--disable-pip-version-check", "--no-input", "--timeout", "60"]
_UV = [find_uv_bin(), "--no-config", "pip"]
_INSTALL = {
    "pip": [*_PIP, "--trusted-host", "127.0.0.1", "install", "--only-binary", ":all:"],
    "uv": [*_UV, "install", "--no-build", "--python", sys.executable],
}
_CACHELESS = {"pip": "--no-cache-dir", "uv": "--no-cache"}
_COOLDOWN = {"pip": "--uploaded-prior-to", "uv": "--exclude-newer"}


@dataclass(frozen=True, kw_only=True)
class ProjectTool:
    """Poetry or PDM, of the environment `programs`, each time in a new project that has nothing but what `wheelfarm
    config` prints, with an environment of its own."""

    name: str
    home: Path
    programs: Path

    def install(
        self, source: Source, *requirements: str, cached: bool = False, since: str = "", locked: str = ""
    ) -> Installed:
        with self._project(source, requirements, since) as folder:
            if locked:
                (folder / self._lock_name).write_text(locked)
            done = self._run([*(_SYNC if locked else _ADD)[self.name]], folder, source, cached, since)
            site = next((folder / ".venv").glob("lib/python*/site-packages"))
            return _installed(done, site)

    def lock(self, source: Source, *requirements: str) -> str:
        with self._project(source, requirements, "") as folder:
            self._run([*_LOCK[self.name]], folder, source, False)
            path = folder / self._lock_name
            return path.read_text() if path.exists() else ""

    @property
    def _lock_name(self) -> str:
        return f"{self.name}.lock"

    @contextmanager
    def _project(self, source: Source, requirements: Sequence[str], since: str) -> Iterator[Path]:
        """A project that requires something, beside an environment for it."""
        config = [sys.executable, "-m", "wheelfarm", "config", self.name, *source.options]
        printed = subprocess.run(config, capture_output=True, text=True, check=True).stdout
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        lines = [
            *("[project]", 'name = "x"', 'version = "1"', f'requires-python = "=={version}.*"'),
            f"dependencies = [{', '.join(map(_quoted, requirements))}]",
            *("[tool.poetry]", "package-mode = false", "[tool.pdm]", "distribution = false"),
            *(["[tool.pdm.resolution]", f'exclude-newer = "{since}"'] if since else []),
        ]
        with TemporaryDirectory(dir=self.home) as name:
            folder = Path(name)
            (folder / "pyproject.toml").write_text("\n".join([*lines, printed]))
            subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / ".venv")], check=True)
            (folder / ".pdm-python").write_text(str(folder / ".venv" / "bin" / "python"))
            yield folder

    def _run(
        self, words: Sequence[str], folder: Path, source: Source, cached: bool, since: str = ""
    ) -> "subprocess.CompletedProcess[str]":
        user, _, password = urlsplit(source.base).netloc.rpartition("@")[0].partition(":")
        cache = str((self.home if cached else folder) / "cache")
        settings = {
            "PATH": f"{self.programs / 'bin'}:/usr/bin:/bin",
            "VIRTUAL_ENV": str(folder / ".venv"),
            "POETRY_HTTP_BASIC_WHEELFARM_USERNAME": user,
            "POETRY_HTTP_BASIC_WHEELFARM_PASSWORD": password,
            "POETRY_CACHE_DIR": cache,
            "POETRY_KEYRING_ENABLED": "false",
            "POETRY_SOLVER_MIN_RELEASE_AGE": str(_days_since(since)) if since else "0",
            "PDM_PYPI_USERNAME": user,
            "PDM_PYPI_PASSWORD": password,
            "PDM_CACHE_DIR": cache,
            "PDM_IGNORE_STORED_INDEX": "1",
            "PDM_CHECK_UPDATE": "0",
        }
        return _run([str(self.programs / "bin" / self.name), *words], folder, {**source.environment, **settings})


_ADD = {"poetry": ["install", "--no-interaction"], "pdm": ["install", "--no-self"]}
_LOCK = {"poetry": ["lock", "--no-interaction"], "pdm": ["lock"]}
_SYNC = {"poetry": ["install", "--no-interaction"], "pdm": ["sync", "--no-self"]}


def _installed(done: "subprocess.CompletedProcess[str]", folder: Path) -> Installed:
    found = {}
    for info in folder.glob("*.dist-info"):
        build = re.search(r"^Build: (\S+)", (info / "WHEEL").read_text(), re.MULTILINE)
        found[info.name.removesuffix(".dist-info").lower()] = build[1] if build else ""
    modules = {path.name: path.read_text() for path in folder.glob("*.py")}
    return Installed(code=done.returncode, said=done.stdout + done.stderr, wheels=found, files=modules)


def _run(words: Sequence[str], folder: Path, more: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
    strange = ("PIP_", "UV_", "POETRY_", "PDM_", "NETRC", "VIRTUAL_ENV", "WHEELFARM_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(strange)}
    environment = {**kept, "HOME": str(folder), "UV_HTTP_TIMEOUT": "60", **more}
    return subprocess.run(words, env=environment, cwd=folder, capture_output=True, text=True, check=False)


def _days_since(moment: str) -> int:
    return (datetime.now(UTC) - datetime.fromisoformat(moment)).days


def _quoted(text: str) -> str:
    return f'"{text}"'
