"""What sandboxes of every back end show and say alike: of the system, of the user, of the environment."""

import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from wheelfarm_workers.sandbox import Limits, Sandbox, SandboxRun

SHM_BYTES = 64 << 20
PASSWD = b"builder:x:1000:1000::/build:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n"
GROUP = b"builder:x:1000:\nnogroup:x:65534:\n"
ETC = ("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives")
ENVIRONMENT = {
    "PATH": "/env/bin:/usr/local/bin:/usr/bin:/bin",
    "HOME": "/build",
    "LANG": "C.UTF-8",
    "TZ": "UTC",
    "WHEELFARM_ROOT": "",
}
_OF_SYSTEMS = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32")
_NOT_OF_ROOTS = frozenset(
    (
        *("dev", "proc", "sys", "tmp", "run", "root", "home", "boot", "mnt", "media", "srv", "lost+found"),
        *("build", "driver", "env", "in", "tree", "w"),
    )
)
_PROBE = "import os; os.write(int(os.environ['WHEELFARM_RESULT_FD']), b'it works')"
_WORKS = b"it works"

Entry = tuple[str, str]
"""A name at a system's top level, and where it links to: "" for a folder."""


def host_entries(root: Path) -> Iterator[Entry]:
    """What is shown of the host's top level: /usr, and what links to it or belongs to it."""
    for name in _OF_SYSTEMS:
        path = root / name
        if path.is_symlink():
            yield name, str(path.readlink())
        elif path.is_dir():
            yield name, ""


def root_entries(folder: Path) -> Iterator[Entry]:
    """What is shown of a root filesystem's top level: all but what the sandbox has of its own and what holds nothing
    of a system's."""
    for path in sorted(folder.iterdir()):
        if path.is_symlink():
            yield path.name, str(path.readlink())
        elif path.is_dir() and path.name not in _NOT_OF_ROOTS:
            yield path.name, ""


def own_prefix(run: SandboxRun) -> Path | None:
    """The interpreter's prefix where what the sandbox shows of a system does not hold it."""
    prefix = run.interpreter_prefix
    return None if prefix is None or (run.root is None and prefix.is_relative_to("/usr")) else prefix


def failed_probe(sandbox: Sandbox) -> str | None:
    """Run this interpreter on a back end's production line; None if that works, else what was said."""
    run = SandboxRun(
        argv=(os.path.realpath(sys.executable), "-I", "-S", "-c", _PROBE),
        input=b"",
        interpreter_prefix=Path(sys.base_prefix),
        limits=Limits(wall_s=30, memory_bytes=1 << 30),
    )
    log: list[bytes] = []
    ended = sandbox.run(run, log=log.append, cancelled=threading.Event())
    with ended.result as file:
        return None if file.read() == _WORKS else b"".join(log).decode(errors="replace")


def own_returncode(returncode: int) -> int:
    """bwrap and shells pass on a death by signal as 128 + signal; here that is -signal."""
    return 128 - returncode if 128 < returncode <= 192 else returncode
