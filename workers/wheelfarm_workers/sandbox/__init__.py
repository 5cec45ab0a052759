"""What a sandbox is: given read-only inputs, limits and a command, run it and hand back one bounded result.

Back ends: `bubblewrap` (the default) and `unconfined` (`--sandbox none`, for those who typed it). Both take the same
`SandboxRun` and are held to the same contract test.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO, Protocol


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What one run may use; sizes in bytes, times in seconds. `build_bytes` and `tmp_bytes` bound the writable
    /build and /tmp, `file_bytes` any single file, `log_bytes` stdout and stderr together, `result_bytes` the result."""

    wall_s: float = 3600.0
    memory_bytes: int = 8 << 30
    processes: int = 512
    build_bytes: int = 4 << 30
    tmp_bytes: int = 512 << 20
    file_bytes: int = 2 << 30
    log_bytes: int = 64 << 20
    result_bytes: int = 1 << 30


@dataclass(frozen=True, kw_only=True, slots=True)
class Mount:
    """A file or directory of the worker shown in the sandbox at `target`; read-only unless `writable`."""

    source: Path
    target: str
    writable: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Root:
    """A root filesystem: unpacked in `folder`, and as the archive of that sha256 that it was unpacked from."""

    folder: Path
    archive: Path
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SandboxRun:
    """One command for a sandbox.

    `argv` is run with `input` on stdin (a few kB of JSON) and the file descriptor numbered by the environment variable
    `WHEELFARM_RESULT_FD` open for writing its result. Inside there are a writable, empty /build (the working directory
    and HOME) and /tmp, the host's /usr read-only or else all of a `root`, the interpreter's prefix at its own path
    unless it is the root's own (None), `mounts`, empty `directories` and `symlinks` (path -> what it points to), and no
    network. `environment` is all the command sees besides PATH, HOME, LANG, TZ and the result's number.
    """

    argv: tuple[str, ...]
    input: bytes
    interpreter_prefix: Path | None
    limits: Limits
    root: Root | None = None
    mounts: tuple[Mount, ...] = ()
    directories: tuple[str, ...] = ()
    symlinks: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)


class Ending(StrEnum):
    """How a run ended: by itself, or which limit or wish ended it."""

    EXITED = "exited"
    TIMEOUT = "timeout"
    MEMORY = "memory"
    LOG_LIMIT = "log_limit"
    RESULT_LIMIT = "result_limit"
    CANCELLED = "cancelled"
    LOST = "lost"
    """The spawner died: nothing is known of the run but that it is over."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SandboxResult:
    """What is left of a run: how it ended, its return code (negative: the signal), and `result`, an unlinked temporary
    file at position 0 holding the bytes that it wrote to its result descriptor. The caller closes it."""

    ending: Ending
    returncode: int
    result: BinaryIO
    duration_s: float


class Sandbox(Protocol):
    """A back end. `run` may be called from several threads at once; each call holds one slot for its duration."""

    name: str

    def run(self, run: SandboxRun, *, log: Callable[[bytes], None], cancelled: threading.Event) -> SandboxResult:
        """Run one command to its end; `log` gets stdout and stderr as they come, never more than the limit.

        Setting `cancelled` ends it at once, children included. Nothing of it lives on when this returns.
        """
        ...

    def probe(self) -> None:
        """Raise SandboxUnavailable, saying what is missing and what mends it, unless the production line works."""
        ...

    def close(self) -> None:
        """End every run and the spawner."""
        ...
