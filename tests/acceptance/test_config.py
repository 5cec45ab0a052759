"""`wheelfarm config`: the stock installers, told to use the farm alone, and what they are seen to ask."""

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pip
import pytest

from tests.acceptance.conftest import Done, Home

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl, to see whole URLs, is not installed")

FARM = "https://farm.example"
INDEX = f"{FARM}/simple/t1/"
NAMED = {"WHEELFARM_URL": FARM}


def configured(home: Home, client: str, file: str, *words: str) -> Path:
    """The client's configuration as the command prints it, in a file."""
    done = home.run("config", client, *words, environment=NAMED)
    assert done.code == 0, done.err
    path = home.root / file
    path.write_text(done.out)
    return path


def check(home: Home, client: str, *words: str, **environment: str) -> Done:
    """`config check` of one client, those that come with the interpreter first on PATH."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return home.run(
        "config", "check", "--json", client, *words, environment={**NAMED, "PATH": path, "NO_COLOR": "1", **environment}
    )


def test_pip_asks_the_farm_alone(home: Home) -> None:
    """Nor do other configuration files matter: a user's is not read, and what a machine's says is overridden."""
    user = home.root / ".config" / "pip" / "pip.conf"
    user.parent.mkdir(parents=True)
    user.write_text("[global]\nextra-index-url = https://other.example/simple/\nfind-links = /nowhere\n")
    before = check(home, "pip", "--target", "t1")
    assert before.code == 45, before.err
    assert {"https://other.example/simple/", "/nowhere"} <= set(before.json["checks"][0]["elsewhere"])

    path = configured(home, "pip", "pip.conf", "--target", "t1")
    done = check(home, "pip", "--target", "t1", PIP_CONFIG_FILE=str(path))

    assert done.code == 0, done.out + done.err
    assert done.json["checks"][0]["asked"] == [INDEX]


def test_pip_of_an_environment_with_a_file_of_its_own_asks_the_farm_alone(home: Home) -> None:
    venv.create(home.root / "env")
    script = home.root / "env" / "bin" / "pip"
    lent = (
        f"import sys; sys.path.append({str(Path(pip.__file__).parents[1])!r}); from pip import main; sys.exit(main())"
    )
    script.write_text(f"#!{script.with_name('python')}\n{lent}\n")
    script.chmod(0o755)
    (home.root / "env" / "pip.conf").write_text("[global]\nextra-index-url = https://other.example/simple/\n")
    path = configured(home, "pip", "pip.conf", "--target", "t1")
    done = check(home, "pip", "--target", "t1", PIP_CONFIG_FILE=str(path), PATH=f"{home.root}/env/bin:/usr/bin:/bin")
    assert done.code == 0, done.out + done.err
    assert done.json["checks"][0]["asked"] == [INDEX]


def test_variables_that_add_an_index_are_told(home: Home) -> None:
    path = configured(home, "pip", "pip.conf", "--target", "t1")
    other = "https://user:secret@other.example/simple/"
    done = check(home, "pip", "--target", "t1", PIP_CONFIG_FILE=str(path), PIP_EXTRA_INDEX_URL=other)
    assert done.code == 45
    assert done.json["checks"][0]["elsewhere"] == ["https://other.example/simple/"]
    assert "secret" not in done.out + done.err


def test_uv_asks_the_farm_alone(home: Home) -> None:
    (home.root / "pyproject.toml").write_text(
        '[project]\nname = "x"\nversion = "1"\n[[tool.uv.index]]\nurl = "https://other.example/simple/"\n'
    )
    before = check(home, "uv", "--target", "t1")
    assert before.code == 45, before.err
    first, default = before.json["checks"][0]["elsewhere"]
    assert (first, default.startswith("https://")) == ("https://other.example/simple/", True)

    path = configured(home, "uv", "uv.toml", "--target", "t1")
    token = {"UV_INDEX_WHEELFARM_USERNAME": "__token__", "UV_INDEX_WHEELFARM_PASSWORD": "secret"}
    done = check(home, "uv", "--target", "t1", UV_CONFIG_FILE=str(path), **token)

    assert done.code == 0, done.out + done.err
    assert done.json["checks"][0]["asked"] == [INDEX]
    assert "secret" not in done.out + done.err


def test_uv_without_a_token_is_told_to_ask_nothing(home: Home) -> None:
    path = configured(home, "uv", "uv.toml", "--target", "t1")
    done = check(home, "uv", "--target", "t1", UV_CONFIG_FILE=str(path))
    assert done.code == 45
    assert "Missing credentials" in done.json["checks"][0]["said"]


@pytest.mark.parametrize(("client", "variable"), [("pip", "PIP_CONFIG_FILE"), ("uv", "UV_CONFIG_FILE")])
def test_configuration_for_an_export_asks_its_folder_alone(home: Home, client: str, variable: str) -> None:
    folder = home.root / "wheels"
    folder.mkdir()
    path = configured(home, client, "file", "--export", str(folder))
    done = check(home, client, "--export", str(folder), **{variable: str(path)})
    assert done.code == 0, done.out + done.err
    assert done.json["checks"][0]["asked"] == [str(folder)]


def test_without_a_farm_the_command_says_what_to_name(home: Home) -> None:
    done = home.run("config", "pip")
    assert done.code == 2
    assert "WHEELFARM_URL" in done.err
    done = home.run("config", "pip", "--url", "https://user:secret@farm.example")
    assert done.code == 2
    assert "secret" not in done.err


@pytest.mark.slow
@pytest.mark.index
@pytest.mark.parametrize(
    ("client", "package", "token"),
    [
        ("poetry", "poetry", "POETRY_HTTP_BASIC_WHEELFARM"),
        ("pdm", "pdm[locked]", "PDM_PYPI"),
    ],
)
def test_project_of_poetry_or_pdm_asks_the_farm_alone(home: Home, client: str, package: str, token: str) -> None:
    venv.create(home.root / "env", with_pip=True)
    subprocess.run([home.root / "env" / "bin" / "pip", "install", "-q", package], check=True, capture_output=True)
    path = f"{home.root}/env/bin:/usr/bin:/bin"
    before = check(home, client, "--target", "t1", PATH=path)
    assert before.code == 45
    assert [one.startswith("https://") for one in before.json["checks"][0]["elsewhere"]] == [True]

    configured(home, client, "pyproject.toml", "--target", "t1")
    variables = {f"{token}_USERNAME": "__token__", f"{token}_PASSWORD": "secret"}
    done = check(home, client, "--target", "t1", PATH=path, **variables)

    assert done.code == 0, done.out + done.err
    assert done.json["checks"][0]["asked"] == [INDEX]
