"""Bad input: each ends with its own exit code and a message that helps; nothing is half published."""

import os
import shutil
import signal
from pathlib import Path

import pytest

from tests.acceptance.conftest import PATIENCE_S, Done, Home, wait_until
from tests.support.projects import Project, make_tar_gz

SLOW = "import time; time.sleep(4)"


def assert_refused(home: Home, done: Done, code: int, *said: str) -> None:
    assert done.code == code, done.err + home.farm_log()
    for text in said:
        assert text in done.err
    ours = [line for line in done.err.splitlines() if not line.startswith("  | ")]
    assert "Traceback" not in "\n".join(ours)
    assert home.wheel_names() == []


def install(home: Home, *words: str | Path, **settings: str) -> Done:
    return home.run("install", "--venv", home.root / "env", *words, environment=settings)


def test_unknown_project(home: Home) -> None:
    assert_refused(home, install(home, "no-such-project"), 11, "no-such-project", "hint:")


def test_project_without_an_sdist_names_the_versions(home: Home) -> None:
    home.upstream.add_file("app", "app-1.0-py3-none-any.whl", b"")
    home.upstream.add_file("app", "app-1.1-py3-none-any.whl", b"")

    assert_refused(home, install(home, "app"), 12, "app", "1.0, 1.1", "sdist")


def test_version_without_an_sdist_is_named_though_others_have_one(home: Home) -> None:
    home.upstream.add(Project(name="app", version="1.0"))
    home.upstream.add_file("app", "app-2.0-py3-none-any.whl", b"")

    assert_refused(home, install(home, "app>=2"), 12, "app", "2.0")


def test_no_solution_keeps_the_resolvers_explanation(home: Home) -> None:
    home.upstream.add(
        Project(name="app", requires_dist=["library<2"]), Project(name="library", version="1.0"),
        Project(name="library", version="2.0"),
    )  # fmt: skip

    assert_refused(home, install(home, "app", "library>=2"), 10, "library<2", "unsatisfiable")


def test_file_with_other_bytes_than_promised(home: Home) -> None:
    project = Project(name="app")
    home.upstream.add_file("app", project.filename, project.sdist(), promised=b"something else")

    assert_refused(home, install(home, "app"), 14, "app-1.0.tar.gz", "sha256", "hint:")


@pytest.mark.parametrize("data", [b"no archive at all", Project(name="app").sdist()[:200]], ids=["garbage", "cut off"])
def test_corrupt_archive(home: Home, data: bytes) -> None:
    home.upstream.add_file("app", "app-1.0.tar.gz", data)

    assert_refused(home, install(home, "app"), 15, "app-1.0.tar.gz")


@pytest.mark.parametrize("path", ["../../../tmp/wheelfarm-escaped", "/tmp/wheelfarm-escaped"])
def test_archive_that_leads_out_of_its_folder(home: Home, path: str) -> None:
    files = {f"app-1.0/{name}": data for name, data in Project(name="app").files().items()}
    home.upstream.add_file("app", "app-1.0.tar.gz", make_tar_gz({**files, path: b"escaped"}))

    assert_refused(home, install(home, "app"), 15, "app-1.0.tar.gz", "leads out")
    assert not Path("/tmp/wheelfarm-escaped").exists()


def test_archive_of_another_project(home: Home) -> None:
    home.upstream.add_file("app", "app-1.0.tar.gz", Project(name="other").sdist())

    assert_refused(home, install(home, "app"), 15, "app-1.0.tar.gz", "other")


def test_backend_that_fails_shows_the_logs_tail_and_where_the_rest_is(home: Home) -> None:
    home.upstream.add(Project(name="app", build_code="print('line of the log'); raise RuntimeError('no such header')"))

    done = install(home, "app")

    assert_refused(home, done, 20, "app==1.0", "RuntimeError: no such header", "  | line of the log")
    job = done.err.partition("wheelfarm logs ")[2].split()[0]
    log = home.run("logs", job)
    assert log.code == 0, log.err
    assert "line of the log" in log.out


def test_failed_build_requirement_is_told_as_the_reason(home: Home) -> None:
    home.upstream.add(
        Project(name="app", build_requires=["helper"]),
        Project(name="helper", build_code="raise RuntimeError('broken')"),
    )

    assert_refused(home, install(home, "app"), 20, "helper==1.0", "RuntimeError: broken")


def test_backend_that_is_not_there(home: Home) -> None:
    home.upstream.add(Project(name="app", backend="missing_backend"))

    assert_refused(home, install(home, "app"), 20, "missing_backend")


def test_backend_that_gives_up_with_a_message_is_quoted(home: Home) -> None:
    home.upstream.add(Project(name="app", build_code="import sys; sys.exit('there is no compiler here')"))

    assert_refused(home, install(home, "app"), 20, "failed: there is no compiler here", "  | there is no compiler here")


def test_backend_that_kills_itself(home: Home) -> None:
    home.upstream.add(Project(name="app", build_code="import os; os.kill(os.getpid(), 9)"))

    assert_refused(home, install(home, "app"), 20, "app==1.0")


def test_backend_that_hangs_is_ended_and_tried_once_more_with_twice_the_time(home: Home) -> None:
    home.upstream.add(Project(name="app", build_code="import time; print('begun', flush=True); time.sleep(3000)"))

    done = install(home, "app", WHEELFARM_BUILD_TIMEOUT_S="2")

    assert_refused(home, done, 21, "app==1.0", "after 4 s", "  | begun", "WHEELFARM_BUILD_TIMEOUT_S")


@pytest.mark.parametrize(
    "trait",
    [Project(name="app", wheel_name="requests"), Project(name="app", wheel_version="9.9")],
    ids=["name", "version"],
)
def test_wheel_of_another_name_or_version_is_not_published(home: Home, trait: Project) -> None:
    home.upstream.add(trait)

    assert_refused(home, install(home, "app"), 23, "app==1.0", trait.wheel_name or trait.wheel_version)
    assert not list(home.store.glob("index/*"))


def test_build_cycle_names_its_members(home: Home) -> None:
    home.upstream.add(
        Project(name="hen", build_requires=["egg"], backend="egg"),
        Project(name="egg", build_requires=["hen"], backend="hen"),
    )

    assert_refused(home, install(home, "hen"), 24, "hen==1.0", "egg==1.0", "->")


def test_cycle_through_dynamic_metadata_is_found(home: Home) -> None:
    home.upstream.add(
        Project(name="hen", build_requires=["egg"], static=False),
        Project(name="egg", build_requires=["hen"], static=False),
    )

    assert_refused(home, install(home, "hen"), 24, "hen==1.0", "egg==1.0")


@pytest.mark.parametrize(
    "requirement",
    ["app @ https://example.invalid/app-1.0-py3-none-any.whl", "./app-1.0-py3-none-any.whl", "/srv/app.whl"],
)
def test_direct_wheel_in_the_requirements_is_refused(home: Home, requirement: str) -> None:
    assert_refused(home, install(home, requirement), 3, "app", "hint:")
    assert home.upstream.requests == []


def test_direct_build_requirement_is_refused(home: Home) -> None:
    home.upstream.add(Project(name="app", build_requires=["helper @ file:///etc/passwd"]))

    assert_refused(home, install(home, "app"), 3, "app==1.0", "helper")


def test_direct_requirement_of_a_hook_is_refused(home: Home) -> None:
    home.upstream.add(Project(name="app", asks=["helper @ file:///etc/passwd"]))

    assert_refused(home, install(home, "app"), 3, "app==1.0", "helper")


@pytest.mark.parametrize("status", [401, 403, 500])
def test_upstream_that_refuses_ends_the_resolution(home: Home, status: int) -> None:
    home.upstream.refuse("app", status)

    assert_refused(home, install(home, "app"), 13, "app", str(status))


def test_no_environment(home: Home) -> None:
    assert_refused(home, home.run("install", "app"), 4, "--venv")


def test_malformed_setting(home: Home) -> None:
    assert_refused(home, install(home, "app", WHEELFARM_SLOTS="many"), 2, "WHEELFARM_SLOTS", "'many'")


def test_unknown_job(home: Home) -> None:
    assert_refused(home, home.run("logs", "0123456789ab"), 33, "0123456789ab")


def test_killed_worker_loses_no_job(home: Home) -> None:
    home.upstream.add(Project(name="app", requires_dist=["library"], build_code=SLOW), Project(name="library"))
    process = home.start("install", "--venv", home.root / "env", "app")
    assert home.builds()

    os.kill(home.pid_of("wheelfarm_workers host"), signal.SIGKILL)
    out, err = process.communicate(timeout=PATIENCE_S)

    assert process.returncode == 0, err
    assert sorted(out.split()) == ["app==1.0", "library==1.0"]


def test_killed_broker_loses_no_request(home: Home) -> None:
    home.upstream.add(Project(name="app", build_code=SLOW))
    process = home.start("install", "--venv", home.root / "env", "app")
    assert home.builds()

    os.kill(home.pid_of("valkey.sock"), signal.SIGKILL)
    out, err = process.communicate(timeout=PATIENCE_S)

    assert process.returncode == 0, err
    assert out.split() == ["app==1.0"]


def test_store_gone_in_mid_build_is_told(home: Home) -> None:
    home.upstream.add(Project(name="app", build_code=SLOW))
    process = home.start("install", "--venv", home.root / "env", "app")
    assert home.builds()

    shutil.rmtree(home.store.rename(home.root / "gone"))  # at once, whatever is written into it just then
    _, err = process.communicate(timeout=PATIENCE_S)

    assert process.returncode == 30, err
    assert f"The store directory {home.store} is gone" in err
    assert not home.store.exists()


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_ended_command_leaves_nothing(home: Home, sent: signal.Signals) -> None:
    home.upstream.add(Project(name="app", build_code="import time; time.sleep(3000)"))
    process = home.start("install", "--venv", home.root / "env", "app")
    assert home.builds()

    process.send_signal(sent)
    process.communicate(timeout=PATIENCE_S)

    home.come_to_rest()
    assert process.returncode == (130 if sent == signal.SIGINT else -sent)


def test_killed_keeper_leaves_nothing(home: Home) -> None:
    home.upstream.add(Project(name="app", build_code="import time; time.sleep(3000)"))
    process = home.start("install", "--venv", home.root / "env", "app")
    assert home.builds()

    os.kill(home.pid_of("wheelfarm.keeper"), signal.SIGKILL)
    _, err = process.communicate(timeout=PATIENCE_S)

    assert process.returncode == 30, err
    assert "ended" in err
    home.come_to_rest()


def test_interrupted_set_goes_on_where_it_stopped(home: Home) -> None:
    home.upstream.add(Project(name="app", build_requires=["helper"], build_code=SLOW), Project(name="helper"))
    process = home.start("install", "--venv", home.root / "env", "app")
    assert wait_until(lambda: home.wheel_names() == ["helper-1.0-1-py3-none-any.whl"]), home.farm_log()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=PATIENCE_S)

    done = home.run("install", "--venv", home.root / "env", "app")

    assert done.code == 0, done.err
    assert "building helper" not in done.err


def test_place_that_cannot_be_written_is_told_before_anything_is_built(home: Home) -> None:
    home.upstream.add(Project(name="app"))
    (home.root / "file").write_text("precious")
    done = home.run("build", "--out", home.root / "file", "app")
    assert (done.code, done.err.count("Traceback")) == (2, 0), done.err
    assert f"{home.root}/file can't be used: File exists." in done.err
    done = home.run("build", "app", environment={"WHEELFARM_CACHE": str(home.root / "file" / "cache")})
    assert (done.code, done.err.count("Traceback")) == (2, 0), done.err
    assert "can't be used: Not a directory." in done.err
    assert home.upstream.requests == []
