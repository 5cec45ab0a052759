"""A farm of separate processes: workers come, drain, die and are replaced; what users see of it."""

import json
import os
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from tests.acceptance.conftest import PATIENCE_S, Home, wait_until
from tests.support.fleet import TOKEN, SeparateFarm, separate_farm
from tests.support.projects import Project
from tests.support.values import make_target
from wheelfarm.errors import BuildFailed, InputError, NotFound, NoWorker
from wheelfarm.farm import Farm

LONG = Project(name="long", build_code="import time; time.sleep(3000)")
BROKEN = Project(name="broken", build_code="raise SystemExit('broken')")
LEASE_S = 8.0
SHORT = Project(name="short", build_code="import time; time.sleep(1)")


@pytest.fixture
def farm(home: Home) -> Iterator[SeparateFarm]:
    """A broker and services that answer; the home's commands use them."""
    folder = home.root / "farm"
    folder.mkdir()
    with separate_farm(folder, home.upstream.url) as made:
        made.start_broker()
        made.start_services()
        home.settings |= made.client
        yield made


def test_worker_serves_its_target_and_is_told_of_and_its_wheels_come_from_the_farm(
    home: Home, farm: SeparateFarm
) -> None:
    home.upstream.add(Project(name="helper"), Project(name="app", build_requires=["helper"]))
    farm.serve("w1", "--slots", "1")

    done = home.run("build", "app")
    (worker,) = home.run("status", "--json").json["workers"]

    assert done.code == 0, done.err + farm.logs()
    assert [Path(line).name for line in done.out.split()] == ["app-1.0-1-py3-none-any.whl"]
    (target,) = worker["record"]["targets"]
    assert (worker["record"]["name"], worker["record"]["slots"]) == ("w1", 1)
    assert f"{target['name']} ({target['revision'][:12]})" in home.run("status").out
    assert target["queue"].startswith(target["name"])


def test_request_that_is_left_to_the_farm_is_taken_up_again(home: Home, farm: SeparateFarm) -> None:
    home.upstream.add(SHORT, BROKEN)
    worker = farm.serve("w1", "--slots", "1", settings={"WHEELFARM_LEASE_S": "300"})
    worker.signal(signal.SIGSTOP)  # so that nothing is over before it was seen

    left = home.run("build", "--detach", "short")
    request = left.out.strip()
    assert (left.code, len(request)) == (0, 32), left.err + farm.logs()
    told = home.run("status", request[:8])
    assert re.search(r"^(queued|waiting|running) +short==1.0 ", told.out, re.MULTILINE), told.out
    worker.signal(signal.SIGCONT)
    done = home.run("wait", request[:8], "--out", home.root / "out")

    assert done.code == 0, done.err + farm.logs()
    assert done.out.strip() == str(home.root / "out" / "short-1.0-1-py3-none-any.whl")
    over = home.run("wait", request)
    assert (over.code, "no open request" in over.err) == (NotFound.exit_code, True), over.err
    failing = home.run("build", "--detach", "--json", "broken", "short").json["request"]
    failed = home.run("wait", "--keep-going", failing)
    assert failed.code == BuildFailed.exit_code, failed.err
    assert Path(failed.out.strip()).name == "short-1.0-1-py3-none-any.whl"
    assert home.run("status", "--json").json["requests"] == []


def test_nothing_is_left_to_a_farm_that_ends_with_its_command(home: Home) -> None:
    refused = home.run("build", "--detach", "app")
    assert refused.code == InputError.exit_code
    assert "wheelfarm up" in refused.err


def test_request_for_what_nobody_serves_says_who_serves_what(home: Home, farm: SeparateFarm) -> None:
    farm.serve("w1", "--sandbox", "none")

    with Farm(farm.url, TOKEN, patience_s=0) as client, pytest.raises(NoWorker) as refused:
        client.register(make_target("debian12-cp311"))

    served = r"No worker serves the target debian12-cp311 in .*Served: host-\S+-unsandboxed \(revision"
    assert re.search(served, refused.value.message)
    assert "wheelfarm status" in refused.value.hint


def test_drained_worker_finishes_in_its_grace_and_ends_with_0(home: Home, farm: SeparateFarm) -> None:
    home.upstream.add(SHORT, LONG)
    worker = farm.start_worker("w1", "--slots", "1", settings={"WHEELFARM_DRAIN_S": "60"})
    command = home.start("build", "short")
    with home.builds_held():
        worker.signal(signal.SIGTERM)
        assert wait_until(lambda: "drains" in home.run("status").out), farm.logs()

    _, err = command.communicate(timeout=PATIENCE_S)

    assert command.returncode == 0, err + farm.logs()
    assert worker.process.wait(PATIENCE_S) == 0
    assert wait_until(lambda: home.run("status", "--json").json["workers"] == [])


@pytest.mark.parametrize("signals", [1, 2])
def test_what_a_drained_worker_cannot_finish_is_handed_back_with_its_sandbox_ended(
    home: Home, farm: SeparateFarm, signals: int
) -> None:
    home.upstream.add(LONG)
    grace = {"WHEELFARM_DRAIN_S": "0.5" if signals == 1 else "3600"}
    worker = farm.start_worker("w1", "--slots", "1", settings=grace)
    command = home.start("build", "long")
    assert home.builds(), farm.logs()
    worker.signal(signal.SIGTERM)
    assert wait_until(lambda: "draining" in worker.said), worker.said
    if signals == 2:
        worker.signal(signal.SIGINT)

    assert worker.process.wait(PATIENCE_S) == 0, farm.logs()

    assert wait_until(lambda: not home.sandboxes())
    assert list((farm.root / "cache" / "worker" / "work").iterdir()) == []
    (job,) = home.run("status", "--json").json["jobs"]
    assert (job["job"]["state"], job["job"]["attempt"]) == ("queued", 0)
    other = farm.start_worker("w2", "--slots", "1", settings={"WHEELFARM_DRAIN_S": "0"})
    assert home.builds(), farm.logs()
    command.send_signal(signal.SIGINT)
    command.communicate(timeout=PATIENCE_S)
    assert wait_until(lambda: not home.sandboxes()), farm.logs()
    other.signal(signal.SIGTERM)
    assert other.process.wait(PATIENCE_S) == 0


def test_killed_worker_leaves_nothing_that_the_next_does_not_clear(home: Home, farm: SeparateFarm) -> None:
    home.upstream.add(LONG)
    worker, living = farm.start_worker("w1", "--slots", "1"), None
    command = home.start("build", "long")
    assert home.builds(), farm.logs()
    work = farm.root / "cache" / "worker" / "work"
    worker.kill()
    assert wait_until(lambda: not home.sandboxes()), "the sandbox outlived its worker"
    assert [path.name for path in work.iterdir()] == ["w1"]

    living = farm.start_worker("w2", "--slots", "1", settings={"WHEELFARM_DRAIN_S": "0"})

    assert wait_until(lambda: [path.name for path in work.iterdir()] == ["w2"]), living.said
    command.send_signal(signal.SIGINT)
    command.communicate(timeout=PATIENCE_S)


def test_worker_that_cannot_serve_says_why(home: Home, farm: SeparateFarm) -> None:
    farm.serve("w1")
    refused = {
        ("--name", "w1"): "A worker named w1 runs already",
        ("--target", "debian12"): "knows no target 'debian12'. Known: host.",
        ("--name", "../w"): "WHEELFARM_WORKER='../w' is not accepted",
    }
    for words, reason in refused.items():
        done = home.run("worker", *words, environment=farm.environment)
        assert (done.code, reason in done.err) == (InputError.exit_code, True), done.err
    done = home.run("worker", "--json", environment={**farm.environment, "WHEELFARM_STORE": ""})
    assert json.loads(done.out)["error"] == InputError.code
    assert "WHEELFARM_STORE is not given" in done.err


def test_services_refuse_what_they_cannot_listen_on(home: Home, farm: SeparateFarm) -> None:
    refused = {
        f"127.0.0.1:{farm.port}": ("t" * 43, "Address already in use"),
        "0.0.0.0:0": ("", "would answer whoever reaches"),
        "nonsense": ("", "is no address"),
    }
    for address, (token, reason) in refused.items():
        environment = {**farm.environment, "WHEELFARM_TOKEN": token}
        done = home.run("services", "--listen", address, environment=environment)
        assert (done.code, reason in done.err) == (InputError.exit_code, True), done.err


def test_services_answer_on_a_unix_socket(home: Home, farm: SeparateFarm) -> None:
    path = farm.root / "api"
    farm.start("more", [*farm.parts["services"].command[:3], "services", "--listen", f"unix:{path}"])
    with socket.socket(socket.AF_UNIX) as client:
        assert wait_until(lambda: client.connect_ex(str(path)) == 0), farm.logs()
    assert os.stat(path).st_mode & 0o007 == 0  # noqa: PTH116


def test_job_of_a_killed_worker_runs_again_within_twice_the_lease(home: Home, farm: SeparateFarm) -> None:
    """By the ledger's own events, whose ids are times in milliseconds; the second worker has a free slot throughout."""
    home.upstream.add(LONG)
    farm.settings["WHEELFARM_LEASE_S"] = str(LEASE_S)
    worker = farm.start_worker("w1", "--slots", "1", settings={"WHEELFARM_DRAIN_S": "0"})
    command = home.start("build", "long")
    assert home.builds(), farm.logs()
    farm.serve("w2", "--slots", "1", settings={"WHEELFARM_DRAIN_S": "0"})

    with Redis(unix_socket_path=str(farm.root / "s"), decode_responses=True) as redis:
        seconds, microseconds = redis.time()
        killed_at_ms = seconds * 1000 + microseconds // 1000
        worker.kill()
        assert wait_until(lambda: len(starts(redis)) == 2), farm.logs()
        again_ms = starts(redis)[1]
    assert 0 < again_ms - killed_at_ms < 2 * LEASE_S * 1000
    command.send_signal(signal.SIGINT)
    command.communicate(timeout=PATIENCE_S)


def starts(redis: Redis) -> list[int]:
    """When jobs began to run, by the ledger's events."""
    events: Any = redis.xrange("{wheelfarm}:ev")
    return [int(event_id.partition("-")[0]) for event_id, event in events if event["state"] == "running"]
