"""Where a command says what it does: lines on stderr."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TextIO

_UNSANDBOXED = "[unsandboxed] "


class Reporter:
    """Writes lines to `stream`; with `unsandboxed` every one says so."""

    def __init__(self, *, unsandboxed: bool, quiet: bool = False, stream: TextIO | None = None) -> None:
        self.prefix = _UNSANDBOXED if unsandboxed else ""
        self.quiet = quiet
        self.stream = stream or sys.stderr
        self._write: Callable[[str], None] = self._print

    def say(self, line: str) -> None:
        """One line that a person may skip."""
        if not self.quiet:
            self.insist(line)

    def insist(self, text: str) -> None:
        """Lines that are told even when quiet."""
        for line in text.splitlines():
            self._write(f"{self.prefix}{printable(line)}")

    @contextmanager
    def through(self, write: Callable[[str], None]) -> Iterator[None]:
        """Have lines written by `write`, which knows what else is on the screen."""
        self._write = write
        try:
            yield
        finally:
            self._write = self._print

    def shows_tables(self, environment: Mapping[str, str]) -> bool:
        """Whether lines can be written over: the stream is a terminal, and somebody looks."""
        return self.stream.isatty() and not self.quiet and environment.get("TERM", "dumb") != "dumb"

    def _print(self, line: str) -> None:
        print(line, file=self.stream, flush=True)


def printable(text: str) -> str:
    """Text as a terminal may show it, whoever wrote it: without characters that steer one."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in "\n\t" else "\N{REPLACEMENT CHARACTER}" for char in text)


def seconds_since(start: float) -> str:
    """The time since `start` (of `time.monotonic`) as people read it."""
    return f"{time.monotonic() - start:.1f} s"
