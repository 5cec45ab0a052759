"""How sandboxes' users get at files of the worker: what they may read, where they find it, and what they are lent."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from wheelfarm.errors import SandboxUnavailable
from wheelfarm_workers.sandbox import Mount
from wheelfarm_workers.sandbox.protocol import Bind
from wheelfarm_workers.sandbox.stage import is_reachable, is_readable


def find_sources(wanted: Mapping[Path, bool], folder: str, uid: int | None) -> tuple[dict[Path, str], tuple[Bind, ...]]:
    """Where a sandbox of the user `uid` (None: of the worker's) finds each path, which it may write to or not, and what
    has to be staged in `folder` for that. Raises SandboxUnavailable for what it can't read."""
    sources: dict[Path, str] = {}
    binds: list[Bind] = []
    for path, writable in wanted.items():
        real = Path(os.path.realpath(path))
        if uid is not None and not writable:
            require_readable(real)
        if uid is None or is_reachable(real):
            sources[path] = str(real)
        else:
            binds.append(Bind(source=str(real), name=str(len(binds)), writable=writable))
            sources[path] = f"{folder}/{binds[-1].name}"
    if binds and not folder:
        raise SandboxUnavailable(
            f"{binds[0].source} can't be reached by the sandboxes' users, and this root may not mount it elsewhere.",
            hint="Give the worker CAP_SYS_ADMIN, run it as another user than root, or keep the files elsewhere.",
        )
    return sources, tuple(binds)


@contextmanager
def lend(mounts: tuple[Mount, ...], uid: int | None) -> Iterator[None]:
    """Give the writable directories to the run's user for its time; what it leaves in them stays that user's."""
    lent = [mount.source for mount in mounts if mount.writable and uid is not None]
    for path in lent:
        os.chown(path, uid or 0, uid or 0)
    try:
        yield
    finally:
        for path in lent:
            os.chown(path, os.getuid(), os.getgid())
            path.chmod(0o755)


def require_readable(*paths: Path) -> None:
    """Raise SandboxUnavailable unless every user may read the paths."""
    for path in paths:
        if not is_readable(path):
            raise SandboxUnavailable(f"{path} can't be read by the sandboxes' users.", hint=f"chmod -R o+rX {path}")


def interpreter_parts(prefix: Path) -> list[Path]:
    """What a sandbox needs of an interpreter, as far as it is where interpreters have it."""
    parts = (prefix, prefix / "bin", prefix / "lib", prefix / "bin" / "python3")
    return [path.resolve() for path in parts if path.exists()]
