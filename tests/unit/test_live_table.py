import io
import re

import pytest
from rich.console import Console

from tests.support.values import make_sdist
from tests.unit.test_board import make_job, make_status
from wheelfarm.board import Board
from wheelfarm.job import JobState
from wheelfarm.live_table import BoardTable


def draw(board: Board, *, width: int = 80, height: int = 24, prefix: str = "") -> list[str]:
    console = Console(
        file=io.StringIO(), width=width, height=height, force_terminal=True, no_color=True, legacy_windows=False
    )
    with console.capture() as capture:
        console.print(BoardTable(board, prefix=prefix))
    return [line.rstrip() for line in capture.get().splitlines()]


def plain(lines: list[str]) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(lines))


@pytest.fixture
def board() -> Board:
    made = Board()
    made.update(
        make_status(
            make_job("app", JobState.WAITING, waits_for=("tool-wheel",)),
            make_job("tool", JobState.RUNNING, started_at=88.0),
            *(make_job(f"project-{number}") for number in range(30)),
        )
    )
    return made


def test_table_tells_phase_totals_and_jobs_in_words(board: Board) -> None:
    lines = plain(draw(board, height=60)).splitlines()
    assert lines[0] == "building | 1 building, 30 queued, 1 waiting | 0 s"
    assert lines[1].split() == ["building", "tool==1.0", "12", "s"]
    assert lines[2].split() == ["queued", "project-0==1.0"]
    assert lines[-1].split() == ["waiting", "app==1.0", "for", "tool==1.0"]


@pytest.mark.parametrize("height", [5, 10, 24])
def test_table_is_no_higher_than_the_terminal_and_tells_what_it_leaves_out(board: Board, height: int) -> None:
    lines = plain(draw(board, height=height)).splitlines()
    assert len(lines) < height
    assert lines[-1] == f"and {32 - (height - 3)} more"


@pytest.mark.parametrize("width", [12, 30, 80])
def test_lines_are_no_wider_than_the_terminal(board: Board, width: int) -> None:
    lines = plain(draw(board, width=width)).splitlines()
    assert max(map(len, lines)) <= width
    assert len(lines) < 24


def test_every_line_says_unsandboxed_when_builds_are(board: Board) -> None:
    lines = plain(draw(board, prefix="[unsandboxed] ")).splitlines()
    assert all(line.startswith("[unsandboxed] ") for line in lines)


def test_name_with_brackets_is_no_markup() -> None:
    board = Board()
    board.update(make_status(make_job("app", sdist=make_sdist("app", version="[red]1"))))
    assert "app==[red]1" in plain(draw(board))
