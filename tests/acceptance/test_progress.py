"""What the command shows on a terminal while it works."""

import re
import signal

from tests.acceptance.conftest import Home
from tests.support.projects import Project

SHOW_CURSOR, HIDE_CURSOR = "\x1b[?25h", "\x1b[?25l"
COLOUR = re.compile(r"\x1b\[[0-9;]*3[0-7]m")


def test_table_shows_what_builds_and_waits_and_is_gone_at_the_end(home: Home) -> None:
    home.upstream.add(
        Project(name="app", build_requires=["helper"]),
        Project(name="helper", build_code="import time; time.sleep(1)"),
    )
    with home.on_terminal("install", "--venv", home.root / "env", "app") as terminal:
        with home.builds_held():
            terminal.read_until("building | 1 building, 1 waiting")
        code = terminal.read_to_end()

    assert code == 0, terminal.shown
    assert terminal.out.split() == ["app==1.0"]
    shown = re.sub(r"\x1b\[[0-9;]*m", "", terminal.shown)
    assert "resolving | nothing to build yet" in shown
    assert "building | 1 building, 1 waiting" in shown
    assert re.search(r"building +helper==1\.0 +\d+ s", shown)
    assert re.search(r"waiting +app==1\.0 +for helper==1\.0", shown)
    assert re.search(r"built +helper==1\.0 in", shown)
    assert COLOUR.search(terminal.shown)
    assert terminal.shown.count(HIDE_CURSOR) == terminal.shown.count(SHOW_CURSOR) == 1
    last = shown[shown.rindex(SHOW_CURSOR) :]
    assert "nothing to build" not in last
    assert "building" not in last


def test_interrupted_table_leaves_the_cursor_and_no_rows(home: Home) -> None:
    home.upstream.add(Project(name="app", build_code="import time; time.sleep(3000)"))
    with home.on_terminal("install", "--venv", home.root / "env", "app") as terminal:
        terminal.read_until("1 building")
        terminal.process.send_signal(signal.SIGINT)
        code = terminal.read_to_end()

    assert code == 130
    after = terminal.shown[terminal.shown.rindex(SHOW_CURSOR) :]
    assert "interrupted" in after
    assert "1 building" not in after


def test_terminated_table_gives_the_cursor_back(home: Home) -> None:
    home.upstream.add(Project(name="app", build_code="import time; time.sleep(3000)"))
    with home.on_terminal("install", "--venv", home.root / "env", "app") as terminal:
        terminal.read_until("1 building")
        terminal.process.send_signal(signal.SIGTERM)
        code = terminal.read_to_end()

    assert code == -signal.SIGTERM
    assert terminal.shown.endswith(SHOW_CURSOR) or SHOW_CURSOR in terminal.shown[-200:]


def test_no_color_is_heeded(home: Home) -> None:
    home.upstream.add(Project(name="app"))
    with home.on_terminal("build", "app", environment={"NO_COLOR": "1"}) as terminal:
        code = terminal.read_to_end()

    assert code == 0
    assert HIDE_CURSOR in terminal.shown
    assert not COLOUR.search(terminal.shown)


def test_every_line_says_unsandboxed(home: Home) -> None:
    home.upstream.add(Project(name="app", build_code="import time; time.sleep(1)"))
    with home.on_terminal("build", "--sandbox", "none", "app") as terminal:
        code = terminal.read_to_end()

    assert code == 0, terminal.shown
    lines = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", line) for line in terminal.shown.split("\n")]
    assert {line[:13] for line in lines if line.strip()} == {"[unsandboxed]"}


def test_dumb_terminal_gets_lines(home: Home) -> None:
    home.upstream.add(Project(name="app"))
    with home.on_terminal("build", "app", environment={"TERM": "dumb"}) as terminal:
        code = terminal.read_to_end()

    assert code == 0
    assert "\x1b" not in terminal.shown
    assert "built    app==1.0" in terminal.shown


def test_quiet_shows_no_table(home: Home) -> None:
    home.upstream.add(Project(name="app"))
    with home.on_terminal("build", "-q", "app") as terminal:
        code = terminal.read_to_end()

    assert (code, terminal.shown) == (0, "")


def test_warm_install_shows_no_table(home: Home) -> None:
    home.upstream.add(Project(name="app"))
    assert home.run("install", "--venv", home.root / "env", "app").code == 0
    with home.on_terminal("install", "--venv", home.root / "env", "app") as terminal:
        code = terminal.read_to_end()

    assert code == 0
    assert terminal.shown.splitlines() == ["nothing to do: all 1 packages are installed from the farm"]


def test_error_stands_below_what_the_table_left(home: Home) -> None:
    home.upstream.add(Project(name="app", build_code="raise RuntimeError('broken')"))
    with home.on_terminal("install", "--venv", home.root / "env", "app") as terminal:
        code = terminal.read_to_end()

    assert code == 20
    after = terminal.shown[terminal.shown.rindex(SHOW_CURSOR) :]
    assert "error: The build of app==1.0 failed: RuntimeError: broken" in after
