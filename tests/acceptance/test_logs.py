"""What a build prints, from another terminal, while it does."""

from tests.acceptance.conftest import PATIENCE_S, Home, wait_until
from tests.support.projects import Project

TALKS = "import time; print('hello from the build', flush=True); time.sleep(3000)"


def test_log_is_followed_from_another_terminal_to_the_end_of_the_job(home: Home) -> None:
    home.upstream.add(Project(name="app", build_code=TALKS))
    building = home.start("build", "app")
    assert wait_until(lambda: "running  app" in home.run("status").out), home.farm_log()
    job = home.run("status", "--json").json["jobs"][0]["job"]["id"]
    following = home.start("logs", "-f", job[:12])
    assert following.stdout is not None
    lines = iter(following.stdout.readline, "")
    assert any("hello from the build" in line for line in lines)
    assert "hello from the build" in home.run("logs", job[:12]).out
    assert home.run("cancel", job[:12]).code == 0
    building.communicate(timeout=PATIENCE_S)
    following.communicate(timeout=PATIENCE_S)
    assert following.returncode == 0
    assert "hello from the build" in home.run("logs", "--raw", job[:12]).out


def test_followed_log_is_no_json_document(home: Home) -> None:
    done = home.run("logs", "-f", "--json", "0123456789ab")
    assert done.code == 5
    assert "--follow" in done.err
