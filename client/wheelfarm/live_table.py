"""The live table: totals and the jobs under way, redrawn in place at the lower end of a terminal."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.table import Table
from rich.text import Text

from wheelfarm.board import Board, Row
from wheelfarm.job import JobState
from wheelfarm.reporter import Reporter

_REDRAWN_A_SECOND = 2
_LABELS = {JobState.RUNNING: "building", JobState.QUEUED: "queued", JobState.WAITING: "waiting"}
_STYLES = {JobState.RUNNING: "bold green", JobState.QUEUED: "cyan", JobState.WAITING: "dim"}


class BoardTable:
    """A board as rich draws it: as wide and as high as the terminal is at that moment."""

    def __init__(self, board: Board, *, prefix: str) -> None:
        self._board = board
        self._prefix = prefix
        self._started = time.monotonic()
        self._clock = (board.now, self._started)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        elapsed = time.monotonic() - self._started
        yield self._line(f"{self._board.phase} | {self._board.totals} | {elapsed:.0f} s", "bold", options)
        rows = self._board.rows()
        room = max(0, options.size.height - 3)
        yield self._table(rows[:room], options)
        if len(rows) > room:
            yield self._line(f"and {len(rows) - room} more", "dim", options)

    def _line(self, text: str, style: str, options: ConsoleOptions) -> Text:
        line = Text(self._prefix + text, style=style, no_wrap=True, overflow="ellipsis")
        line.truncate(options.max_width, overflow="ellipsis")
        return line

    def _table(self, rows: list[Row], options: ConsoleOptions) -> Table:
        table = Table.grid(padding=(0, 1))
        for justify in ("left", "left", "right", "left"):
            table.add_column(no_wrap=True, overflow="ellipsis", justify=justify)
        now = self._now()
        for row in rows:
            seconds = f"{max(0.0, now - row.since):.0f} s" if row.since else ""
            label = Text(f"{self._prefix}{_LABELS[row.state]}", style=_STYLES[row.state])
            table.add_row(label, Text(row.sdist), Text(seconds), Text(row.detail, style="dim"))
        return table

    def _now(self) -> float:
        """The farm's clock, which goes on between two states that it told."""
        if self._clock[0] != self._board.now:
            self._clock = (self._board.now, time.monotonic())
        return self._clock[0] + time.monotonic() - self._clock[1]


@contextmanager
def live_table(board: Board, reporter: Reporter) -> Iterator[None]:
    """Show the board while the context lasts, with the reporter's lines above it; then nothing of it is left."""
    console = Console(file=reporter.stream, highlight=False, markup=False, emoji=False)
    live = Live(
        BoardTable(board, prefix=reporter.prefix),
        console=console,
        refresh_per_second=_REDRAWN_A_SECOND,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    with _cleared_on_termination(live), live, reporter.through(lambda line: console.print(Text(line), soft_wrap=True)):
        yield


@contextmanager
def _cleared_on_termination(live: Live) -> Iterator[None]:
    """SIGTERM ends the process as ever, but not before the cursor is back."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        live.stop()
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
