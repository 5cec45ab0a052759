"""What the worker and its spawner say to each other.

The worker sends one packet a run on the control socket, with descriptors: the memory file holding the `Start`, then
those of `Descriptor` in order. The run's own channel, a socket pair, carries the rest: `KILL` towards
the spawner, one `Report` back. EOF of a channel kills its run, EOF of the control socket all of them.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import IntEnum
from typing import Any

from wheelfarm_workers.sandbox import Ending, Limits

KILL = b"kill"
NO_CGROUPS = "--no-cgroups"
STATUS = "STATUS"
UNSTARTED = "unstarted"
"""What an epilogue prints where nothing was started at all."""
OUT_OF_MEMORY = 213
"""With what the client of an engine ends where the kernel has killed for want of memory and the command failed."""
REPORT_BYTES = 64 << 10


class Descriptor(IntEnum):
    """The descriptors of a start message by their place; those from RESULT on are passed to the command. INFO is the
    spawner's own, for bwrap to say there which process is init of its pid namespace."""

    CHANNEL = 0
    INPUT = 1
    LOG = 2
    RESULT = 3
    SECCOMP = 4
    PASSWD = 5
    GROUP = 6
    INFO = 7


Word = str | Descriptor
"""A word of a command line; a descriptor stands for the number that it has in the command."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bind:
    """A file or directory to be shown at `name` in the run's folder of the stage."""

    source: str
    name: str
    writable: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Furniture:
    """A `folder` to be made with empty directories, of which some are `open` to everybody, empty files and symbolic
    links, all told as paths below it."""

    folder: str
    directories: tuple[str, ...] = ()
    open: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    symlinks: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """One command as the spawner starts it: as `uid` if that is given, with `binds` laid out in the folder `stage`
    before, and the `furniture` made. Processes that have `marker` in their environment belong to it and are killed
    when it ends.

    Where it is the client of an engine, `container` names what that runs for it. Such a command keeps the worker's
    rights and is held to no limit but time: what it has the engine do is. Once it has ended, however, the `epilogue`
    is run, with the return code as `STATUS` in its environment. It removes the container, and processes that have its
    name among their words are killed after that.
    """

    argv: tuple[Word, ...]
    environment: Mapping[str, Word]
    limits: Limits
    directory: str = "/"
    uid: int | None = None
    stage: str = ""
    binds: tuple[Bind, ...] = ()
    marker: str = ""
    furniture: Furniture | None = None
    container: str = ""
    epilogue: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """How a run ended; `trouble` says why it could not be started at all."""

    ending: Ending = Ending.EXITED
    returncode: int = 0
    duration_s: float = 0.0
    trouble: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Hello:
    """A spawner's first packet: how it limits memory, and its stage's folder if it has one."""

    memory_limit: str
    stage: str


def encode(message: Start | Report | Hello) -> bytes:
    """The message as JSON; bytes of file names that are not UTF-8 survive."""
    return json.dumps(asdict(message)).encode()


def decode_start(data: bytes) -> Start:
    """The `Start` of `encode`."""
    fields = _fields(data)
    fields["argv"] = tuple(_word(word) for word in fields["argv"])
    fields["environment"] = {name: _word(word) for name, word in fields["environment"].items()}
    fields["limits"] = Limits(**fields["limits"])
    fields["binds"] = tuple(Bind(**bind) for bind in fields["binds"])
    fields["furniture"] = Furniture(**fields["furniture"]) if fields["furniture"] else None
    fields["epilogue"] = tuple(fields["epilogue"])
    return Start(**fields)


def decode_report(data: bytes) -> Report:
    """The `Report` of `encode`."""
    fields = _fields(data)
    return Report(**{**fields, "ending": Ending(fields["ending"])})


def decode_hello(data: bytes) -> Hello:
    """The `Hello` of `encode`."""
    return Hello(**_fields(data))


def _fields(data: bytes) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(data)
    return fields


def _word(value: str | int) -> Word:
    return value if isinstance(value, str) else Descriptor(value)
