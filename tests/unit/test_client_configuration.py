"""The configurations of installers as files; what the installers make of them is in tests/acceptance."""

import configparser
import tomllib
from pathlib import Path

import pytest

from wheelfarm.client_configuration import Client, configuration_of, configuration_of_export, simple_index
from wheelfarm.errors import InputError

INDEX = simple_index("https://farm.example/", "t1")


def test_index_is_that_of_the_target() -> None:
    assert INDEX == "https://farm.example/simple/t1/"


def test_pip_is_given_one_index_and_every_other_source_is_emptied() -> None:
    parser = configparser.RawConfigParser()
    parser.read_string("\n".join(configuration_of(Client.PIP, INDEX).lines))
    found = dict(parser["global"])
    assert found["index-url"] == INDEX
    assert (found["extra-index-url"], found["find-links"], found["no-index"]) == ("", "", "false")


@pytest.mark.parametrize(
    ("client", "path", "facts"),
    [
        (Client.UV, ["index"], {"url": INDEX, "default": True, "authenticate": "always"}),
        (Client.POETRY, ["tool", "poetry", "source"], {"url": INDEX, "priority": "primary"}),
        (Client.PDM, ["tool", "pdm", "source"], {"url": INDEX, "name": "pypi"}),
    ],
)
def test_toml_names_one_source(client: Client, path: list[str], facts: dict[str, object]) -> None:
    value = tomllib.loads("\n".join(configuration_of(client, INDEX).lines))
    for step in path:
        value = value[step]
    assert len(value) == 1
    assert facts.items() <= value[0].items()  # type: ignore[index]


def test_folder_is_taken_literally(tmp_path: Path) -> None:
    folder = tmp_path / 'a "quoted" folder'
    found = tomllib.loads(configuration_of_export(Client.UV, folder).text)
    assert found["find-links"] == [str(folder)]
    assert found["no-index"] is True


def test_poetry_takes_no_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder"):
        configuration_of_export(Client.POETRY, tmp_path)
