"""`wheelfarm up`: a farm for a team in one command, used, damaged and ended as a team and a night do it."""

import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.acceptance.conftest import PATIENCE_S, Home, wait_until
from tests.support.fleet import free_port
from tests.support.projects import Project
from wheelfarm.errors import InputError

LONG = Project(name="long", build_code="import time; time.sleep(3000)")


@contextmanager
def farm_of(home: Home, *words: str, **settings: str) -> Iterator[tuple["subprocess.Popen[str]", Path, str]]:
    """The running command, what it says, and its address."""
    address = f"127.0.0.1:{free_port()}"
    said = home.root / "up.log"
    with said.open("w") as log:
        process = subprocess.Popen(
            [*home.start_words, "up", "--listen", address, "--slots", "1", *words],
            env={**home.environment, "XDG_STATE_HOME": str(home.root / "state"), **settings},
            cwd=home.root,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            process_group=0,
            text=True,
        )
    try:
        assert wait_until(lambda: "WHEELFARM_TOKEN" in said.read_text() or process.poll() is not None)
        yield process, said, address
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE_S)


def is_replaced(home: Home, part: str, old: int) -> bool:
    found = {pid for pid, words in home.processes().items() if part in words}
    return bool(found) and found != {old}


def test_colleague_builds_with_the_two_lines_that_it_prints(home: Home) -> None:
    home.upstream.add(Project(name="helper"), Project(name="app", build_requires=["helper"]))
    with farm_of(home) as (process, said, address):
        url, command = (re.findall(rf"export WHEELFARM_{name}=(.*)", said.read_text())[0] for name in ("URL", "TOKEN"))
        token_file = Path(re.findall(r"cat (\S+)\)", command)[0])
        token = token_file.read_text().strip()
        colleague = {"WHEELFARM_URL": url, "WHEELFARM_TOKEN": token, "XDG_CACHE_HOME": str(home.root / "other")}
        refused = home.run("build", "app", environment={**colleague, "WHEELFARM_TOKEN": "x" * 43})
        done = home.run("build", "app", environment=colleague)
        # a command of this machine that uses the store needs no lines
        own = home.run("build", "app")
    assert url == f"http://{address}"
    assert token_file.stat().st_mode & 0o777 == 0o600
    assert token not in said.read_text()
    assert refused.code != 0
    assert done.code == 0, done.err + said.read_text()
    assert Path(done.out.strip()).name == "app-1.0-1-py3-none-any.whl"
    assert (own.code, home.wheel_names()) == (0, ["app-1.0-1-py3-none-any.whl", "helper-1.0-1-py3-none-any.whl"])
    assert process.returncode == 0
    home.come_to_rest()


def unfinished(home: Home) -> list[str]:
    jobs = home.run("status", "--json").json["jobs"]
    return sorted(job["job"]["sdist"]["name"] for job in jobs)


def test_what_dies_is_started_again_and_what_it_knew_is_known(home: Home) -> None:
    home.upstream.add(LONG, Project(name="after", build_requires=["long"]))
    with farm_of(home, WHEELFARM_DRAIN_S="0") as (_, said, _address):
        command = home.start("build", "after")
        assert home.builds(), said.read_text()
        for part in ("valkey.sock", "wheelfarm_services", "wheelfarm_workers"):
            old = home.pid_of(part)
            os.kill(old, signal.SIGKILL)
            assert wait_until(partial(is_replaced, home, part, old)), said.read_text()
        assert home.builds(), said.read_text()
        assert wait_until(lambda: unfinished(home) == ["after", "long"]), said.read_text()
        command.send_signal(signal.SIGINT)
        command.communicate(timeout=PATIENCE_S)
    assert said.read_text().count("is started again") == 3


def test_open_requests_outlive_the_farm(home: Home) -> None:
    home.upstream.add(LONG)
    with farm_of(home, WHEELFARM_DRAIN_S="0") as (_, said, _address):
        command = home.start("build", "long")
        assert home.builds(), said.read_text()
        command.kill()  # without taking leave
        command.communicate()
    with farm_of(home, WHEELFARM_DRAIN_S="0") as (_, said, _address):
        assert home.builds(), said.read_text()
        (request,) = home.run("status", "--json").json["requests"]
        assert home.run("cancel", request["id"]).code == 0


def test_second_farm_is_refused_with_what_is_in_its_way(home: Home) -> None:
    with farm_of(home) as (_, said, address):
        environment = {"XDG_STATE_HOME": str(home.root / "state")}
        same = home.run("up", environment=environment)
        store = home.run("up", "--folder", "other", "--listen", "127.0.0.1:0", environment=environment)
        other = {**environment, "WHEELFARM_STORE": str(home.root / "second")}
        port = home.run("up", "--listen", address, environment=other)
    refused = ((same, "Another farm runs in"), (store, "A farm runs for the store"), (port, "Address already in use"))
    for done, reason in refused:
        assert (done.code, reason in done.err) == (InputError.exit_code, True), done.err
    assert "Address already in use" not in said.read_text()


@pytest.mark.parametrize(
    ("words", "settings", "reason"),
    [
        (["--target", "debian12"], {}, "knows no target 'debian12'"),
        (["--listen", "nonsense"], {}, "is no address to listen on"),
        ([], {"WHEELFARM_BROKER": "amqp://x"}, "WHEELFARM_BROKER"),
    ],
)
def test_what_keeps_it_from_running_is_told(
    home: Home, words: list[str], settings: dict[str, str], reason: str
) -> None:
    listen = [] if "--listen" in words else ["--listen", "127.0.0.1:0"]
    done = home.run("up", *listen, *words, environment={"XDG_STATE_HOME": str(home.root / "state"), **settings})
    assert (done.code, reason in done.err) == (InputError.exit_code, True), done.err


def test_token_that_others_can_read_is_refused(home: Home) -> None:
    folder = home.root / "folder"
    folder.mkdir()
    (folder / "token").write_text("t" * 43)
    (folder / "token").chmod(0o644)
    done = home.run("up", "--folder", folder, "--listen", "127.0.0.1:0")
    assert done.code == InputError.exit_code
    assert "not yours alone to read" in done.err


def test_logs_are_kept_in_a_folder_when_one_is_given(home: Home) -> None:
    with farm_of(home, WHEELFARM_LOGS=str(home.root / "logs")) as (_, said, address):
        name = f"worker-{socket.gethostname()[:60]}-{address.rpartition(':')[2]}-1.log"
        log = home.root / "logs" / name
        found = wait_until(lambda: log.exists() and "worker serves" in log.read_text())
    assert found
    assert "worker serves" not in said.read_text()
