"""What a farm has to do, told and ended from another terminal."""

import os
import signal

from tests.acceptance.conftest import PATIENCE_S, Home, held_farm, wait_until
from tests.support.projects import Project

HANGS = "import time; time.sleep(3000)"


def test_status_starts_no_farm(home: Home) -> None:
    done = home.run("status")
    assert done.code == 0
    assert "no farm runs" in done.out
    assert home.run("status", "--json").json == {"running": False}
    assert not home.processes()


def test_cancel_without_a_farm_says_so(home: Home) -> None:
    done = home.run("cancel", "0123456789ab")
    assert done.code == 33
    assert "No farm runs" in done.err


def test_status_tells_what_runs_waits_and_failed(home: Home) -> None:
    home.upstream.add(
        Project(name="app", build_requires=["helper"]),
        Project(name="helper", build_code=HANGS),
        Project(name="broken", build_code="raise RuntimeError('no such header')"),
    )
    process = home.start("build", "--keep-going", "app", "broken")
    assert wait_until(lambda: "failed   broken" in home.run("status").out), home.farm_log()
    assert wait_until(lambda: "running  helper" in home.run("status").out), home.farm_log()

    text = home.run("status").out
    told = home.run("status", "--json").json

    assert "waiting  app==1.0" in text
    assert "for helper==1.0" in text
    assert "no such header" in text
    assert "1 running, 0 queued, 1 waiting, 1 requests open, 1 failures of late" in text
    jobs = {entry["job"]["sdist"]["name"]: entry for entry in told["jobs"]}
    assert told["running"]
    assert jobs["helper"]["job"]["state"] == "running"
    assert jobs["helper"]["worker"] == "embedded"
    assert jobs["app"]["job"]["waits_for"] == [jobs["helper"]["job"]["id"]]
    assert [request["jobs"] for request in told["requests"]] == [2]

    cancelled = home.run("cancel", "--json", jobs["helper"]["job"]["id"][:12])
    assert cancelled.code == 0, cancelled.err
    assert sorted(job["sdist"] for job in cancelled.json["cancelled"]) == ["app==1.0", "helper==1.0"]
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 20, err


def test_cancelled_job_ends_its_command_and_its_sandbox(home: Home) -> None:
    home.upstream.add(Project(name="app", build_code=HANGS))
    process = home.start("install", "--venv", home.root / "env", "app")
    other = home.start("install", "--venv", home.root / "other", "app")
    assert home.builds()
    assert wait_until(lambda: len(home.run("status", "--json").json["requests"]) == 2)
    job = home.run("status", "--json").json["jobs"][0]["job"]["id"]

    cancelled = home.run("cancel", job[:8])

    assert cancelled.code == 0, cancelled.err
    assert cancelled.out.startswith("app==1.0 (wheel, ")
    for command in (process, other):
        _, err = command.communicate(timeout=PATIENCE_S)
        assert command.returncode == 25, err
        assert "The build of app==1.0 was cancelled" in err
    assert home.wheel_names() == []


def test_cancelled_request_ends_its_command_and_leaves_what_another_wants(home: Home) -> None:
    home.upstream.add(
        Project(name="shared"),
        Project(name="app", build_code=HANGS),
    )
    mine = home.start("build", "app", "shared")
    worker = home.pid_of("wheelfarm_workers host")
    os.kill(worker, signal.SIGSTOP)  # so that nothing is over before both have asked for it
    assert wait_until(lambda: len(home.run("status", "--json").json.get("requests", [])) == 1), home.farm_log()
    (request,) = home.run("status", "--json").json["requests"]
    theirs = home.start("build", "shared")
    assert wait_until(lambda: len(home.run("status", "--json").json["requests"]) == 2), home.farm_log()
    os.kill(worker, signal.SIGCONT)

    cancelled = home.run("cancel", request["id"])

    assert cancelled.code == 0, cancelled.err
    assert [line.split()[0] for line in cancelled.out.splitlines()] == ["app==1.0"]
    _, err = mine.communicate(timeout=PATIENCE_S)
    assert mine.returncode == 25, err
    _, err = theirs.communicate(timeout=PATIENCE_S)
    assert theirs.returncode == 0, err


def test_cancel_of_what_is_not_there(home: Home) -> None:
    home.upstream.add(Project(name="app", build_code=HANGS))
    process = home.start("build", "app")
    assert home.builds()

    assert home.run("cancel", "ffffffffffff").code == 33
    assert home.run("cancel", "xyz").code == 2

    process.terminate()
    process.communicate(timeout=PATIENCE_S)


def test_request_of_a_command_that_was_killed_is_not_taken_up_by_the_next_farm(home: Home) -> None:
    home.upstream.add(Project(name="app", build_code=HANGS))
    process = home.start("build", "app")
    assert home.builds()
    process.kill()
    process.communicate(timeout=PATIENCE_S)
    home.come_to_rest()
    assert len(list(home.store.glob("requests/open/*.json"))) == 1

    with held_farm(home):
        assert wait_until(lambda: not list(home.store.glob("requests/open/*.json")))

    assert "build begins" not in home.farm_log_at_rest()
