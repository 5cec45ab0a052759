"""What `wheelfarm doctor` finds on machines that have, or lack, what a farm needs."""

import shutil
import sys
from pathlib import Path

from tests.acceptance.conftest import Home
from tests.support.projects import Project


def states(checks: list[dict[str, str]]) -> dict[str, str]:
    return {check["name"]: check["state"] for check in checks}


def test_machine_that_runs_these_tests_is_fit(home: Home) -> None:
    home.upstream.add(Project(name="setuptools"))

    done = home.run("doctor", "--python", sys.executable, "--json")

    assert done.code == 0, done.out + done.err
    assert done.json["fit"]
    found = states(done.json["checks"])
    wanted = [
        "interpreter",
        "uv",
        "cache",
        "store",
        "Valkey or Redis",
        "upstream index",
        "bubblewrap",
        "seccomp",
        "sandbox",
    ]
    assert {found[name] for name in wanted} == {"ok"}
    assert {"C compiler", "cargo", "patch", "Python headers", "memory"} <= set(found)
    (index,) = [check for check in done.json["checks"] if check["name"] == "upstream index"]
    assert "1 sdists of setuptools" in index["detail"]
    assert not home.store.exists()


def test_machine_without_bubblewrap_is_unfit_and_told_what_to_install(home: Home) -> None:
    tools = home.root / "tools"
    tools.mkdir()
    for name in ("python3", "sh", "redis-server", "valkey-server", "dpkg-query"):
        if path := shutil.which(name):
            (tools / name).symlink_to(Path(path).resolve())

    done = home.run("doctor", "-p", sys.executable, environment={"PATH": str(tools)})

    assert done.code == 35, done.out + done.err
    lines = [line for line in done.out.splitlines() if line.startswith("missing")]
    assert [line.split()[1] for line in lines] == ["bubblewrap"]
    assert "-> apt-get install bubblewrap" in lines[0]


def test_index_that_cannot_be_reached_is_told_without_its_credentials(home: Home) -> None:
    done = home.run(
        "doctor", "-p", sys.executable, environment={"WHEELFARM_INDEX": "http://user:s3cret@127.0.0.1:9/simple"}
    )

    assert done.code == 35, done.out + done.err
    assert "missing   upstream index" in done.out
    assert "s3cret" not in done.out + done.err


def test_interpreter_that_is_not_there_and_folder_that_cannot_be_written(home: Home) -> None:
    (home.root / "file").write_text("")

    done = home.run(
        "doctor", "-p", "/nowhere/python", "--json", environment={"WHEELFARM_STORE": str(home.root / "file" / "store")}
    )

    assert done.code == 35, done.out + done.err
    found = states(done.json["checks"])
    assert (found["interpreter"], found["store"]) == ("missing", "missing")


def test_distributed_farm_is_asked_instead_of_this_machine(home: Home) -> None:
    url = {"WHEELFARM_URL": "http://127.0.0.1:9", "WHEELFARM_TOKEN": "s3cret"}

    done = home.run("doctor", "-p", sys.executable, "--json", environment=url)

    assert done.code == 35, done.out + done.err
    found = states(done.json["checks"])
    assert found["farm"] == "missing"
    assert "sandbox" not in found


def test_unsandboxed_is_said(home: Home) -> None:
    done = home.run("doctor", "-p", sys.executable, "--sandbox", "none", "--json")

    assert done.code == 0, done.out + done.err
    assert states(done.json["checks"])["sandbox"] == "optional"
