"""A CPython of one's own: built from Debian's source package, brought in, installed by stock uv, built for."""

import os
import platform
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.acceptance.conftest import Home, open_home
from tests.acceptance.test_python import EXTENSION, TOKEN, digest, uv
from tests.acceptance.test_up import farm_of
from tests.support.interpreter import pack
from tests.support.projects import Project
from tests.support.roots import debian_root
from tests.support.tables import Table, tables
from tests.support.upstream import Upstream
from wheelfarm_workers.root_sources import debian_mirror

pytestmark = pytest.mark.slow

HEADING = "A CPython of one's own"
STEPS = ("built from Debian's source package", "brought in", "installed by stock uv", "a target", "a target on Debian")
BUILD = "20261121"
CONFIGURED = ("--prefix=/install", "--without-ensurepip", "--disable-test-modules")
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
Step = Callable[[str, str], None]


@pytest.fixture(scope="module")
def step(write_docs: bool) -> Iterator[Step]:
    """Notes that a step was done: with what result, in how many seconds since the one before."""
    table: Table = tables("pythons.md", (HEADING,))[HEADING]
    began = [time.monotonic()]

    def note(name: str, result: str) -> None:
        now = time.monotonic()
        table.add(name, result, f"{now - began[0]:.0f}", f"{datetime.now(UTC):%Y-%m-%d}")
        began[0] = now

    yield note
    if write_docs:
        table.write(STEPS)


def run(*words: str | Path, cwd: Path) -> None:
    done = subprocess.run(words, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:]


def debian_source(folder: Path) -> Path:
    """The upstream sources of this Debian's own Python, by apt with lists of its own."""
    if not (shutil.which("apt-get") and _KEYRING.exists() and Path("/usr/bin/python3").exists()):
        pytest.skip("this is no Debian with a Python")
    release = platform.freedesktop_os_release()["VERSION_CODENAME"]
    package = Path("/usr/bin/python3").resolve().name
    for name in ("parts", "lists/partial", "cache/archives/partial", "source"):
        (folder / name).mkdir(parents=True)
    (folder / "parts" / "source.list").write_text(f"deb-src [signed-by={_KEYRING}] {debian_mirror()} {release} main\n")
    places = {"Etc::sourcelist": "/dev/null", "Etc::sourceparts": folder / "parts"}
    places |= {"State::lists": folder / "lists", "Cache": folder / "cache"}
    options = [word for name, value in places.items() for word in ("-o", f"Dir::{name}={value}")]
    run("apt-get", *options, "update", cwd=folder)
    run("apt-get", *options, "source", "--download-only", package, cwd=folder)
    (archive,) = folder.glob("*.orig.tar.*")
    run("tar", "-xf", archive, "-C", folder / "source", "--strip-components=1", cwd=folder)
    return folder / "source"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, step: Step) -> Path:
    """The archive of a CPython that was built here."""
    folder = tmp_path_factory.mktemp("cpython")
    source = debian_source(folder)
    run("./configure", *CONFIGURED, cwd=source)
    run("make", f"-j{os.cpu_count()}", cwd=source)
    run("make", "install", f"DESTDIR={folder}/out", cwd=source)
    version = re.findall(r'PY_VERSION\s+"([0-9.]+)', (source / "Include/patchlevel.h").read_text())[0]
    name = f"cpython-{version}+{BUILD}-{platform.machine()}-unknown-linux-gnu-install_only.tar.gz"
    archive = pack(folder / "out" / "install", folder / name)
    step(STEPS[0], f"CPython {version}, {archive.stat().st_size >> 20} MiB")
    return archive


def test_cpython_of_ones_own_is_brought_in_installed_and_built_for(
    pytestconfig: pytest.Config, made: Path, step: Step, tmp_path: Path
) -> None:
    version = made.name.split("-")[1].split("+")[0]
    with Upstream() as upstream, open_home(upstream) as home:
        upstream.add(Project(name="native", extension=EXTENSION))
        added = home.run("python", "add", made, "--sha256", digest(made), "--json")
        assert (added.code, added.json["pythons"][0]["prefix"]) == (0, "/install"), added.err
        step(STEPS[1], f"`{added.json['pythons'][0]['key']}`")
        with farm_of(home, WHEELFARM_TOKEN=TOKEN) as (_, _said, address):
            downloads = f"http://x:{TOKEN}@{address}/pythons/downloads.json"
            done = uv(home, "a", "python", "install", version, UV_PYTHON_DOWNLOADS_JSON_URL=downloads)
        assert done.returncode == 0, done.stderr
        done = uv(home, "a", "venv", "--managed-python", "--no-python-downloads", "-p", version, "env")
        assert done.returncode == 0, done.stderr
        step(STEPS[2], "`uv python install`, `uv venv --managed-python`")
        build_for(home, "own", f"python:{version}+{BUILD}")
        step(STEPS[3], "on this machine's /usr: C extension built, installed into uv's environment, imported")
        root = debian_root(pytestconfig, tmp_path)
        build_for(home, "own-debian", f"tar:{root}", "--interpreter", f"{version}+{BUILD}")
        step(STEPS[4], "on a root filesystem of debootstrap's: the same")


def build_for(home: Home, name: str, source: str, *words: str) -> None:
    """Make a target, and install what is built for it into the environment of the Python that uv installed."""
    made = home.run("target", "add", name, "--from", source, *words, timeout_s=600)
    assert made.code == 0, made.err
    environment = home.root / "a" / "env"
    installed = home.run("install", "--target", name, "--venv", environment, "native")
    assert installed.code == 0, installed.err + home.farm_log()
    script = "import native_c, sysconfig; print(sysconfig.get_config_var('prefix'))"
    done = subprocess.run([environment / "bin/python", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    uv(home, "a", "pip", "uninstall", "--python", str(environment / "bin/python"), "native")
