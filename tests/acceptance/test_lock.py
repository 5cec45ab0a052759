"""Locks of the farm's wheels: what stock uv and pip make of them, how they stay, and what they are made of."""

import hashlib
import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import pytest
from uv import find_uv_bin

from tests.acceptance.conftest import Home, held_farm, open_home
from tests.support.projects import Project

FORMATS = ["pylock.toml", "requirements.lock.txt"]
INSTALLERS = ["uv", "pip"]


@contextmanager
def remote(home: Home) -> Iterator[dict[str, str]]:
    """The farm of a home, for clients elsewhere: the settings that lead to it."""
    with held_farm(home) as told:
        yield {"WHEELFARM_URL": told["farm"], "WHEELFARM_TOKEN": told["token"]}


def tool(home: Home, *words: str | Path, **more: str) -> "subprocess.CompletedProcess[str]":
    """A stock tool in a home, without this machine's settings for it."""
    environment = {name: value for name, value in home.environment.items() if not name.startswith("WHEELFARM_")}
    quiet = {"PIP_CONFIG_FILE": "/dev/null", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "UV_PYTHON_DOWNLOADS": "never"}
    command = [str(word) for word in words]
    return subprocess.run(
        command, env={**environment, **quiet, **more}, cwd=home.root, capture_output=True, text=True, check=False
    )


def installed_by(home: Home, installer: str, lock: str, **environment: str) -> Path:
    """The interpreter of a fresh environment that uv or pip has filled from a lock."""
    folder = home.root / f"{installer}-{lock}"
    assert tool(home, find_uv_bin(), "venv", "--clear", "--quiet", "--python", sys.executable, folder).returncode == 0
    python = folder / "bin" / "python"
    if installer == "uv":
        words: Sequence[str | Path] = (find_uv_bin(), "pip", "sync", "--no-config", "--no-cache", "--python", python)
        done = tool(home, *words, "--no-build", "--require-hashes", "--no-index", lock, **environment)
    else:
        words = (sys.executable, "-m", "pip", "--python", python, "install", "--no-cache-dir", "--no-index")
        done = tool(home, *words, "--only-binary", ":all:", "--require-hashes", "-r", lock, **environment)
    assert done.returncode == 0, done.stderr
    return python


def versions(home: Home, python: Path, *modules: str) -> list[str]:
    code = f"import {', '.join(modules)}\nprint({', '.join(f'{module}.VERSION' for module in modules)})"
    return tool(home, python, "-c", code).stdout.split()


def sha256_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def text_of(home: Home, name: str) -> str:
    return (home.root / name).read_text()


def test_stock_tools_install_the_farms_wheels_from_the_store(home: Home) -> None:
    home.upstream.add(Project(name="app", requires_dist=["my-library"]), Project(name="my-library", version="1.5+cc"))
    home.upstream.add_file("app", "app-1.0-py3-none-any.whl", b"prebuilt")

    done = home.run("lock", "-o", FORMATS[0], "-o", FORMATS[1], "app")

    assert done.code == 0, done.err
    assert done.out.split() == FORMATS
    for lock, installer in product(FORMATS, INSTALLERS):
        python = installed_by(home, installer, lock)
        assert versions(home, python, "app", "my_library") == ["1.0", "1.5+cc"]


def test_stock_tools_install_from_a_farms_url_with_credentials_of_their_own(home: Home) -> None:
    home.upstream.add(Project(name="app", requires_dist=["library"]), Project(name="library", version="1.5+cc"))

    with remote(home) as settings, open_home(home.upstream) as client:
        client.settings.update(settings)
        done = client.run("lock", "--format", "pylock", "--format", "requirements", "app")
        assert done.code == 0, done.err
        netrc = client.root / "netrc"
        netrc.write_text(f"machine 127.0.0.1 login reader password {settings['WHEELFARM_TOKEN']}\n")
        netrc.chmod(0o600)
        for lock in FORMATS:
            assert f"{settings['WHEELFARM_URL']}/wheels/" in text_of(client, lock)
            assert "1.5%2Bcc" in text_of(client, lock)
            assert settings["WHEELFARM_TOKEN"] not in text_of(client, lock)
        for lock, installer in product(FORMATS, INSTALLERS):
            python = installed_by(client, installer, lock, NETRC=str(netrc))
            assert versions(client, python, "app", "library") == ["1.0", "1.5+cc"]
            with pytest.raises(AssertionError, match="401"):
                installed_by(client, installer, lock, NETRC="/dev/null")


def test_wheel_with_other_bytes_is_refused_by_stock_tools(home: Home) -> None:
    home.upstream.add(Project(name="app"))
    home.run("lock", "--format", "pylock", "--format", "requirements", "app")
    (wheel,) = home.store.glob("wheels/*/*.whl")
    wheel.chmod(0o644)
    data = bytearray(wheel.read_bytes())
    data[data.index(b"PK\x01\x02") + 14] ^= 1  # a date: the archive stays a wheel
    wheel.write_bytes(data)

    for lock, installer in product(FORMATS, INSTALLERS):
        with pytest.raises(AssertionError, match=r"(?i)hash"):
            installed_by(home, installer, lock)


def test_same_input_gives_the_same_bytes_until_an_upgrade_is_asked_for(home: Home) -> None:
    home.upstream.add(Project(name="app", requires_dist=["library"]), Project(name="library"))
    words = ("lock", "-o", FORMATS[0], "-o", FORMATS[1], "app")
    missing = home.run(*words, "--check")
    assert (missing.code, "does not exist" in missing.err) == (48, True)
    assert not (home.root / FORMATS[0]).exists()
    assert home.run(*words).code == 0
    first = [text_of(home, lock) for lock in FORMATS]
    home.upstream.add(Project(name="library", version="2.0"))

    log = home.farm_log_at_rest()
    warm = home.run(*words)
    assert home.farm_log() == log, "a farm was started"
    for path in home.store.glob("locks/*/pylock.toml"):
        path.unlink()
    cold = home.run(*words)
    current = home.run(*words, "--check")

    assert (warm.code, cold.code, current.code) == (0, 0, 0), warm.err + cold.err + current.err
    assert [text_of(home, lock) for lock in FORMATS] == first
    stale = home.run(*words, "--check", "--upgrade")
    assert (stale.code, "pylock.toml is not what" in stale.err) == (48, True), stale.err
    assert [text_of(home, lock) for lock in FORMATS] == first
    assert home.run(*words, "--upgrade").code == 0
    assert [text.count("2.0") for text in (text_of(home, lock) for lock in FORMATS)] == [3, 2]


def test_version_that_does_no_more_gives_way(home: Home) -> None:
    home.upstream.add(Project(name="app"), Project(name="app", version="2.0"), Project(name="other"))
    home.run("lock", "app<2")

    kept = home.run("lock", "app", "other")
    versions_kept = text_of(home, "pylock.toml")
    moved = home.run("lock", "app>=2")

    assert (kept.code, moved.code) == (0, 0)
    assert 'version = "2.0"' in text_of(home, "pylock.toml")
    assert versions_kept.count('\nversion = "1.0"') == 2


def test_farms_own_lock_is_installed_without_a_farm_unless_it_is_edited_or_of_another_target(home: Home) -> None:
    home.upstream.add(Project(name="app", requires_dist=["library"]), Project(name="library"))
    home.run("lock", "-o", FORMATS[0], "-o", FORMATS[1], "app")
    log, asked = home.farm_log_at_rest(), len(home.upstream.requests)

    for lock in FORMATS:
        done = home.run("install", "--venv", f"env-{lock}", "-r", lock)
        assert done.code == 0, done.err
        assert sorted(done.out.split()) == ["app==1.0", "library==1.0"]
    minor = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert f'requires-python = "=={minor}.*"' in text_of(home, "pylock.toml")
    (home.root / "pylock.other.toml").write_text(text_of(home, "pylock.toml").replace(minor, "3.99"))
    other = home.run("install", "--venv", "env", "-r", "pylock.other.toml")
    assert (other.code, "is not for host-" in other.err) == (2, True), other.err
    for lock in FORMATS:
        (home.root / lock).write_text(text_of(home, lock).replace(".whl", ".zip"))
        edited = home.run("install", "--venv", "env", "-r", lock)
        assert (edited.code, "was edited" in edited.err) == (2, True), edited.err
    assert (home.farm_log(), len(home.upstream.requests)) == (log, asked)


def test_farms_own_lock_is_installed_elsewhere_from_the_farm_that_the_client_names(home: Home) -> None:
    home.upstream.add(Project(name="app"))
    with remote(home) as settings, open_home(home.upstream) as client:
        home.run("lock", "app")
        text = text_of(home, "pylock.toml").replace(str(home.store), "/nowhere")
        (client.root / "pylock.toml").write_text(text)

        lacking = client.run("install", "--venv", "env", "-r", "pylock.toml")
        client.settings.update(settings)
        done = client.run("install", "--venv", "env", "-r", "pylock.toml")

    assert (lacking.code, "not in the store" in lacking.err) == (33, True), lacking.err
    assert done.code == 0, done.err
    assert done.out.split() == ["app==1.0"]


def test_nothing_that_the_farm_did_not_write_is_overwritten(home: Home) -> None:
    home.upstream.add(Project(name="app"))
    (home.root / "pylock.toml").write_text('lock-version = "1.0"\ncreated-by = "uv"\npackages = []\n')
    (home.root / "requirements.txt").write_text("app\n")

    over = [
        home.run("lock", "app"),
        home.run("lock", "-r", "requirements.txt", "-o", "requirements.txt"),
        home.run("lock", "-o", "lock.toml", "app"),
    ]

    assert [done.code for done in over] == [2, 2, 2]
    assert ["did not write it" in over[0].err, "overwritten" in over[1].err, "PEP 751" in over[2].err] == [True] * 3
    assert text_of(home, "requirements.txt") == "app\n"
    assert home.farm_log() == ""


def test_hashed_requirements_are_rewritten_and_their_sdists_proven(held_home: Home) -> None:
    app, library = Project(name="app", requires_dist=["library"]), Project(name="library")
    held_home.upstream.add(app, library, Project(name="library", version="2.0"))
    wheel = "11" * 32
    lines = f"app==1.0 --hash=sha256:{sha256_of(app.sdist())} \\\n    --hash=sha256:{wheel}\n"
    lines += f"library==1.0 --hash=sha512:{'22' * 64} --hash=sha256:{sha256_of(library.sdist())}\n"
    lines += f"absent==3 ; sys_platform == 'win32' --hash=sha256:{wheel}\n"
    (held_home.root / "upstream.txt").write_text(f"--require-hashes\n{lines}")
    (held_home.root / "wheels.txt").write_text(f"app==1.0 --hash=sha256:{wheel}\n")

    done = held_home.run("lock", "-r", "upstream.txt")
    refused = held_home.run("lock", "-r", "wheels.txt", "-o", "pylock.other.toml")

    assert done.code == 0, done.err
    text = text_of(held_home, "pylock.toml")
    assert sha256_of(app.sdist()) not in text
    assert sorted(path.parent.name for path in held_home.store.glob("wheels/*/*.whl")) == sorted(
        line.split('"')[1] for line in text.splitlines() if line.startswith("hashes")
    )
    assert "absent" not in text
    assert (refused.code, "app-1.0.tar.gz" in refused.err) == (14, True)
    assert "hash of a wheel" in refused.err
    assert not (held_home.root / "pylock.other.toml").exists()
    (held_home.root / "pylock.toml").unlink()
    foreign_lock(held_home, app, library)
    assert held_home.run("lock", "-r", "pylock.toml", "-o", "pylock.wheels.toml").code == 0
    assert sha256_of(app.sdist()) not in text_of(held_home, "pylock.wheels.toml")
    installed_by(held_home, "uv", "pylock.wheels.toml")


def foreign_lock(home: Home, *projects: Project) -> None:
    """A pylock.toml of sdists, made by another tool."""
    text = 'lock-version = "1.0"\ncreated-by = "test"\n'
    for one in projects:
        url, sha256 = f"https://x/{one.filename}", sha256_of(one.sdist())
        text += f'[[packages]]\nname = "{one.name}"\nversion = "{one.version}"\n'
        text += f'sdist = {{ url = "{url}", hashes = {{ sha256 = "{sha256}" }} }}\n'
    (home.root / "pylock.toml").write_text(text)


def test_a2_lock_whose_wheels_require_what_it_has_not_is_refused_by_name(held_home: Home) -> None:
    liar = Project(name="liar", requires_dist=["old"], wheel_tells={"requires_dist": ["new", "old>1"]})
    old = Project(name="old")
    held_home.upstream.add(liar, old, Project(name="new"), Project(name="old", version="2.0"))
    foreign_lock(held_home, liar, old)

    for verb in (["install", "--venv", "env"], ["lock", "-o", "pylock.new.toml"], ["install", "--venv", "env"]):
        refused = held_home.run(*verb, "--json", "-r", "pylock.toml")
        assert (refused.code, refused.json["error"]) == (18, "not-closed"), refused.err
        assert "liar==1.0 requires new, and it is not in the set" in refused.err
        assert "liar==1.0 requires old>1, and the set has old==1.0" in refused.err
        assert "wheelfarm lock" in refused.json["hint"]
    assert not (held_home.root / "pylock.new.toml").exists()
    assert not list((held_home.root / "env").glob("lib/*/site-packages/liar"))

    for _ in range(2):
        taken = held_home.run("install", "--venv", "env", "--allow-unclosed", "-r", "pylock.toml")
        assert taken.code == 0, taken.err
        assert "note: liar==1.0 requires new, and it is not in the set" in taken.err
    assert held_home.run("install", "--venv", "env", "-r", "pylock.toml").code == 18, (
        "what is remembered is judged, too"
    )
    assert held_home.run("lock", "liar", "-o", "pylock.new.toml").code == 0
    assert held_home.run("install", "--venv", "env", "-r", "pylock.new.toml").out.split() == ["new==1.0", "old==2.0"]


def uv_lock(home: Home, project: str, files: Mapping[str, str] | None = None) -> None:
    """A project in the home and its uv.lock, made by uv from the upstream index."""
    for name, text in {"pyproject.toml": project, **(files or {})}.items():
        path = home.root / "project" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    words = (find_uv_bin(), "lock", "--no-config", "--no-cache", "--default-index", home.upstream.url)
    done = tool(home, *words, "--python", sys.executable, "--project", "project")
    assert done.returncode == 0, done.stderr


PROJECT = """
[project]
name = "mine"
version = "1"
requires-python = ">=3.10"
dependencies = ["app", "absent; sys_platform == 'win32'"]
[project.optional-dependencies]
web = ["webby"]
[dependency-groups]
dev = ["linter"]
"""


def test_uv_lock_is_taken_as_it_stands_with_extras_and_groups(held_home: Home) -> None:
    held_home.upstream.add(*(Project(name=name) for name in ("app", "absent", "webby", "linter")))
    uv_lock(held_home, PROJECT)
    held_home.upstream.add(Project(name="app", version="2.0"))

    plain = held_home.run("lock", "-r", "project/uv.lock")
    more = held_home.run("install", "--venv", "env", "-r", "project/uv.lock", "--all-extras", "--group", "dev")
    unknown = held_home.run("install", "--venv", "env", "-r", "project/uv.lock", "--extra", "nope")

    assert (plain.code, more.code, unknown.code) == (0, 0, 2), plain.err + more.err + unknown.err
    assert text_of(held_home, "pylock.toml").count("[[packages]]") == 1
    assert sorted(more.out.split()) == ["app==1.0", "linter==1.0", "webby==1.0"]
    assert "nope" in unknown.err


def test_locked_project_is_taken_while_its_lock_is_current(held_home: Home) -> None:
    held_home.upstream.add(*(Project(name=name) for name in ("app", "absent", "webby", "linter", "late")))
    marker = held_home.root / "marker"
    backend = f'[build-system]\nrequires = []\nbuild-backend = "evil"\nbackend-path = ["."]\n{PROJECT}'
    uv_lock(held_home, backend, {"evil.py": f"open({str(marker)!r}, 'w')\n"})
    marker.unlink(missing_ok=True)

    current = held_home.run("install", "--venv", "env", "-r", "project/pyproject.toml", "--locked", "--extra", "web")
    (held_home.root / "project" / "pyproject.toml").write_text(backend.replace('"app"', '"app", "late"'))
    stale = held_home.run("install", "--venv", "env", "-r", "project/pyproject.toml", "--locked")
    dynamic = backend.replace('dependencies = ["app"', 'dynamic = ["dependencies"]\nx = ["app"')
    (held_home.root / "project" / "pyproject.toml").write_text(dynamic)
    untold = held_home.run("install", "--venv", "env", "-r", "project/pyproject.toml", "--locked")
    (held_home.root / "project" / "uv.lock").unlink()
    without = held_home.run("install", "--venv", "env", "-r", "project/pyproject.toml", "--locked")

    assert current.code == 0, current.err
    assert sorted(current.out.split()) == ["app==1.0", "webby==1.0"]
    assert (stale.code, untold.code, without.code) == (48, 48, 2), stale.err + untold.err + without.err
    assert "uv lock" in stale.err
    assert not marker.exists()


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ('{ git = "file://%s/lib" }', "vcs"),
        ('{ path = "../lib" }', "directory"),
        ('{ path = "../lib", editable = true }', "directory"),
        ('{ workspace = true }\n[tool.uv.workspace]\nmembers = ["member"]', "directory"),
    ],
)
def test_what_a_uv_lock_takes_from_elsewhere_is_refused_by_name(home: Home, source: str, told: str) -> None:
    library = '[project]\nname = "lib"\nversion = "1"\nrequires-python = ">=3.10"\n'
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]
    (home.root / "lib").mkdir()
    (home.root / "lib" / "pyproject.toml").write_text(library)
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "lib"]):
        subprocess.run([*git, *words], cwd=home.root / "lib", check=True, capture_output=True)
    source = source.replace("%s", str(home.root))
    project = PROJECT.replace('["app"', '["lib"').replace("absent", "lib")
    uv_lock_project = f"{project}[tool.uv.sources]\nlib = {source}\n".replace("webby", "lib").replace("linter", "lib")
    uv_lock(home, uv_lock_project, {"member/pyproject.toml": library})

    done = home.run("lock", "-r", "project/uv.lock")

    assert done.code == 3, done.err
    assert f"lib is locked to a {told} entry" in done.err
    assert home.farm_log() == ""


def test_local_tree_is_locked_as_its_wheel(home: Home) -> None:
    Project(name="mine", requires_dist=["app"]).tree(home.root / "mine")
    home.upstream.add(Project(name="app"))

    done = home.run("lock", "./mine")

    assert done.code == 0, done.err
    python = installed_by(home, "uv", "pylock.toml")
    assert versions(home, python, "app", "mine") == ["1.0", "1.0"]


def test_credentials_have_no_place_in_a_farms_url(home: Home) -> None:
    done = home.run("lock", "app", environment={"WHEELFARM_URL": "https://user:hunter2@farm.example"})

    assert (done.code, "WHEELFARM_TOKEN" in done.err) == (2, True)
    assert "hunter2" not in done.err


@pytest.mark.parametrize("installer", ["uv", "pip"])
def test_a4_package_installed_from_a_prebuilt_wheel_is_replaced_by_the_farms(home: Home, installer: str) -> None:
    """A4 of the seeds: a wheel of the same version from elsewhere stands in the environment."""
    home.upstream.add(Project(name="app"))
    built = home.run("build", "--json", "app").json["wheels"][0]
    prebuilt = home.root / "app-1.0-py3-none-any.whl"
    with zipfile.ZipFile(built["path"]) as theirs, zipfile.ZipFile(prebuilt, "w") as ours:
        digests = {"app/__init__.py": b"VERSION = 'prebuilt'\n"}
        for name in theirs.namelist():
            data = digests.get(name, theirs.read(name))
            ours.writestr(name, data)
    python = home.root / "env" / "bin" / "python"
    assert tool(home, find_uv_bin(), "venv", "--quiet", "--python", sys.executable, "env").returncode == 0
    how: tuple[str | Path, ...] = (find_uv_bin(), "pip", "install", "--no-config", "--no-cache", "--python", python)
    if installer == "pip":
        how = (sys.executable, "-m", "pip", "--python", str(python), "install", "--no-cache-dir")
    assert tool(home, *how, "--no-index", prebuilt).returncode == 0
    assert versions(home, python, "app") == ["prebuilt"]

    done = home.run("install", "--python", python, "app")
    again = home.run("install", "--python", python, "app")

    assert (done.code, done.out.split()) == (0, ["app==1.0"]), done.err
    assert versions(home, python, "app") == ["1.0"]
    assert again.out == ""
    manifest = json.loads(next(home.store.glob("manifests/*.json")).read_text())
    assert manifest["wheel"]["sha256"] == built["sha256"]
    (info,) = python.parent.parent.glob("lib/*/site-packages/app-1.0.dist-info")
    with zipfile.ZipFile(built["path"]) as wheel:
        assert (info / "WHEEL").read_bytes() == wheel.read("app-1.0.dist-info/WHEEL")
        shipped = {line for line in wheel.read("app-1.0.dist-info/RECORD").decode().split() if "RECORD" not in line}
    assert shipped <= set((info / "RECORD").read_text().split())


def test_warm_resolution_makes_no_request(home: Home) -> None:
    """A farm that runs, asked by a client that has nothing: pages and metadata are the farm's own by then."""
    home.upstream.add(
        Project(name="app", requires_dist=["library"]),
        Project(name="library", static=False, requires_dist=["deep"]),
        Project(name="deep"),
    )
    counted = []
    with remote(home) as settings:
        for _ in range(2):
            with open_home(home.upstream) as client:
                client.settings.update(settings)
                done = client.run("lock", "app")
                assert done.code == 0, done.err
                counted.append(len(home.upstream.requests))

    assert counted == [6, 6]  # a page and an sdist each
