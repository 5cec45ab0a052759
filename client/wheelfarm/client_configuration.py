"""Configurations by which pip, uv, poetry and pdm take packages from the farm and from nowhere else.

What each of them does with its settings was seen of pip 26.3, uv 0.13, Poetry 2.5 and PDM 2.29 (docs/clients.md). No
configuration holds a secret: each client is told where it reads the farm's token.
"""

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import assert_never
from urllib.parse import urlsplit

from wheelfarm.errors import InputError

TOKEN_USER = "__token__"  # noqa: S105  (the name that goes with any token)


class Client(StrEnum):
    """The installers that can use a farm without a client of its own."""

    PIP = "pip"
    UV = "uv"
    POETRY = "poetry"
    PDM = "pdm"


@dataclass(frozen=True, kw_only=True, slots=True)
class Configuration:
    """A client's configuration: the `text` that belongs into `file`, and how the client gets to know of it and of the
    farm's token: `notes`, one line each."""

    client: Client
    file: str
    text: str
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        return asdict(self)

    @property
    def lines(self) -> list[str]:
        """The file with the notes as comments above, which all of these formats write alike."""
        return [*(f"# {note}" for note in self.notes), *self.text.rstrip("\n").split("\n")]


def simple_index(farm: str, target: str) -> str:
    """The address of a target's index."""
    return f"{farm.rstrip('/')}/simple/{target}/"


def configuration_of(client: Client, index: str) -> Configuration:
    """What makes a client ask an index, by its URL, and nothing else."""
    host = urlsplit(index).hostname or ""
    match client:
        case Client.PIP:
            return _pip(
                f"index-url = {index}\nextra-index-url =\nfind-links =\nno-index = false",
                f"The token, in ~/.netrc: machine {host} login {TOKEN_USER} password …",
            )
        case Client.UV:
            return _uv(
                f'[[index]]\nname = "wheelfarm"\nurl = {_quoted(index)}\ndefault = true\nauthenticate = "always"\n',
                f'The token: export UV_INDEX_WHEELFARM_USERNAME={TOKEN_USER} UV_INDEX_WHEELFARM_PASSWORD="…"',
            )
        case Client.POETRY:
            return Configuration(
                client=client,
                file="pyproject.toml",
                text=f'[[tool.poetry.source]]\nname = "wheelfarm"\nurl = {_quoted(index)}\npriority = "primary"\n',
                notes=(
                    "A part of pyproject.toml; with a primary source Poetry asks PyPI no more.",
                    f"The token: export POETRY_HTTP_BASIC_WHEELFARM_USERNAME={TOKEN_USER} "
                    'POETRY_HTTP_BASIC_WHEELFARM_PASSWORD="…"',
                ),
            )
        case Client.PDM:
            return _pdm(
                f"url = {_quoted(index)}\nverify_ssl = true",
                f'The token: export PDM_PYPI_USERNAME={TOKEN_USER} PDM_PYPI_PASSWORD="…"',
            )
        case _ as never:
            assert_never(never)


def configuration_of_export(client: Client, folder: Path) -> Configuration:
    """What makes a client take an export on disk and nothing else. Raises InputError for one that can't."""
    place = folder.absolute()
    match client:
        case Client.PIP:
            return _pip(f"no-index = true\nextra-index-url =\nfind-links = {place}")
        case Client.UV:
            return _uv(f"no-index = true\nfind-links = [{_quoted(str(place))}]\n")
        case Client.PDM:
            return _pdm(f'type = "find_links"\nurl = {_quoted(place.as_uri() + "/index.html")}\nverify_ssl = true')
        case Client.POETRY:
            raise InputError(
                "Poetry takes packages from no folder.",
                hint=f"Serve it, for instance by python3 -m http.server -d {folder}, and name "
                "http://localhost:8000/simple/ as the source.",
            )
        case _ as never:
            assert_never(never)


def _pip(sources: str, *notes: str) -> Configuration:
    return Configuration(
        client=Client.PIP,
        file="pip.conf",
        text=f"[global]\n{sources}\nonly-binary = :all:\ndisable-pip-version-check = true\n",
        notes=(
            "Have pip read this file alone, and last: export PIP_CONFIG_FILE=/path/to/pip.conf",
            "Variables beat it: unset PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_FIND_LINKS",
            *notes,
        ),
    )


def _uv(sources: str, *notes: str) -> Configuration:
    return Configuration(
        client=Client.UV,
        file="uv.toml",
        text=f'python-downloads = "never"\n{sources}',
        notes=(
            "Have uv read this file instead of every other: export UV_CONFIG_FILE=/path/to/uv.toml",
            "Variables add to it: unset UV_INDEX UV_DEFAULT_INDEX UV_INDEX_URL UV_EXTRA_INDEX_URL UV_FIND_LINKS",
            *notes,
        ),
    )


def _pdm(source: str, *notes: str) -> Configuration:
    return Configuration(
        client=Client.PDM,
        file="pyproject.toml",
        text=f'[[tool.pdm.source]]\nname = "pypi"\n{source}\n',
        notes=(
            "A part of pyproject.toml; a source of the name pypi stands in the place of PyPI.",
            "Sources of your own configuration are asked, too, unless: export PDM_IGNORE_STORED_INDEX=1",
            *notes,
        ),
    )


def _quoted(text: str) -> str:
    """A TOML basic string, whose escapes JSON's are among."""
    return json.dumps(text, ensure_ascii=False)
