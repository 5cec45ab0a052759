"""What the installers of this machine would really ask: each is run with the configuration it has here and now, for a
project that nobody has, behind a proxy that answers nobody has it; so each index is seen that it falls through to."""

import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import assert_never
from urllib.parse import urlsplit

from wheelfarm.client_configuration import Client
from wheelfarm.recording_proxy import RecordingProxy

_PATIENCE_S = 120.0
_LOCAL_SETTINGS = ("poetry.toml", "pdm.toml")
_PROJECT = (
    '[project]\nname = "wheelfarm-config-check"\nversion = "1"\nrequires-python = ">=3.11,<4"\ndependencies = []\n'
)
_QUIET = {
    "PIP_RETRIES": "0",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_NO_INPUT": "1",
    "UV_HTTP_RETRIES": "0",
    "UV_OFFLINE": "0",
    "PDM_CHECK_UPDATE": "0",
    "PDM_USE_VENV": "0",
    "POETRY_VIRTUALENVS_CREATE": "false",
    "POETRY_REQUESTS_MAX_RETRIES": "0",
    "NO_COLOR": "1",
    "COLUMNS": "1000",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class ClientCheck:
    """What one client asked: URLs and folders, those of them that are `elsewhere` than the farm, and the last that it
    `said` where it asked nothing."""

    client: Client
    program: str
    asked: tuple[str, ...]
    elsewhere: tuple[str, ...]
    said: str = ""

    @property
    def uses_farm_alone(self) -> bool:
        return bool(self.asked) and not self.elsewhere

    def to_json(self) -> dict[str, object]:
        return {**asdict(self), "uses_farm_alone": self.uses_farm_alone}


def found_clients(names: Sequence[Client], environment: Mapping[str, str]) -> dict[Client, str]:
    """The programs of those clients that are on PATH."""
    found = {name: shutil.which(str(name), path=environment.get("PATH")) for name in names}
    return {name: path for name, path in found.items() if path}


def check_client(
    client: Client, program: str, allowed: Sequence[str], environment: Mapping[str, str], project: Path
) -> ClientCheck:
    """Have a client look for a project, as it would from the folder `project`; what is within one of `allowed`, URLs
    or folders, is the farm's. Nothing leaves this machine, and nothing is installed or written there."""
    missing = f"wheelfarm-check-{secrets.token_hex(4)}"
    with RecordingProxy() as proxy, tempfile.TemporaryDirectory(prefix="wheelfarm-check-") as made:
        folder = Path(made)
        command, directory = _command(client, program, missing, folder, project)
        surroundings = {**environment, **_QUIET, **proxy.environment}
        said = _said(command, directory, surroundings)
        places = [*proxy.asked, *_folders(client, program, said, directory, surroundings)]
    asked = tuple(dict.fromkeys(place.removesuffix(f"{missing}/").removesuffix(missing) for place in places))
    return ClientCheck(
        client=client,
        program=program,
        asked=asked,
        elsewhere=tuple(place for place in asked if not _is_within(place, allowed)),
        said="" if asked else _last_line(said),
    )


def check_lines(check: ClientCheck) -> list[str]:
    """A check as people read it."""
    head = f"{check.client} ({check.program}): "
    if not check.asked:
        return [f"{head}asked nothing: {check.said}"]
    if check.uses_farm_alone:
        return [f"{head}asks the farm alone"]
    return [f"{head}asks more than the farm", *(f"  elsewhere: {place}" for place in check.elsewhere)]


def _command(client: Client, program: str, missing: str, folder: Path, project: Path) -> tuple[list[str], Path]:
    """What to run, and where: Poetry and PDM, which write into their project, in one like it."""
    match client:
        case Client.PIP:
            words = ["download", "--no-deps", "--no-cache-dir", "--dest", str(folder), missing]
            return [program, *words], project
        case Client.UV:
            words = ["pip", "install", "--dry-run", "--no-cache", "--target", str(folder), missing]
            return [program, *words, "--python", sys.executable], project
        case Client.POETRY:
            _write_project(client, project, folder)
            return [program, "add", "--lock", "--no-interaction", "--no-cache", missing], folder
        case Client.PDM:
            _write_project(client, project, folder)
            (folder / ".pdm-python").write_text(sys.executable)
            return [program, "add", "--no-sync", missing], folder
        case _ as never:
            assert_never(never)


def _write_project(client: Client, project: Path, folder: Path) -> None:
    """A project with nothing but another one's sources."""
    try:
        tool = tomllib.loads((project / "pyproject.toml").read_text()).get("tool", {}).get(str(client), {})
    except (OSError, ValueError):
        tool = {}
    text = _PROJECT
    for source in tool.get("source", []):
        text += f"\n[[tool.{client}.source]]\n"
        text += "".join(f"{name} = {json.dumps(value)}\n" for name, value in source.items())
    (folder / "pyproject.toml").write_text(text)
    for name in _LOCAL_SETTINGS:
        if (project / name).is_file():
            shutil.copy(project / name, folder)


def _said(command: Sequence[str], directory: Path, environment: Mapping[str, str]) -> str:
    try:
        done = subprocess.run(
            command,
            cwd=directory,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=_PATIENCE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"It did not end within {_PATIENCE_S:g} s."
    except OSError as error:
        return f"It can't be run: {error.strerror}."
    return done.stdout


def _folders(client: Client, program: str, said: str, directory: Path, environment: Mapping[str, str]) -> Iterator[str]:
    """The folders that a client takes packages from, which no proxy sees."""
    if client is Client.PIP:
        for words in re.findall(r"^Looking in (?:indexes|links): (.*)$", said, re.MULTILINE):
            yield from (_folder(word) for word in re.split(r",? ", words) if not word.startswith("http"))
    if client is Client.UV:
        settings = _said([program, "pip", "install", "--show-settings", "x"], directory, environment)
        found = re.search(r"index_locations: IndexLocations \{(.*?)\n {8}\}", settings, re.DOTALL)
        for path in re.findall(r'scheme: "file",.*?path: ("[^"]*")', found[1] if found else "", re.DOTALL):
            yield str(json.loads(path))


def _folder(word: str) -> str:
    return os.path.abspath(urlsplit(word).path if word.startswith("file:") else word)  # noqa: PTH100  (keeps links)


def _is_within(place: str, allowed: Sequence[str]) -> bool:
    return any(f"{place.rstrip('/')}/".startswith(f"{one.rstrip('/')}/") for one in allowed)


def _last_line(said: str) -> str:
    """The last line, credentials of URLs left out."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return re.sub(r"//[^/@\s]*@", "//…@", lines[-1]) if lines else "nothing"
