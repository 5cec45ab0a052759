"""Build environments, composed rather than installed: one read-only, compiled tree a wheel, laid together by links.

Each tree is made once from its wheel's bytes, in a sandbox of its own in which none of the wheel's code runs. An
environment is then nothing but mounts, empty directories and symbolic links, which the sandbox makes as it starts.
"""

import errno
import logging
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from wheelfarm.digest import digest_of
from wheelfarm.errors import FarmUnavailable
from wheelfarm.target import Target
from wheelfarm.wheel import BuiltWheel
from wheelfarm_workers.cache_bound import use
from wheelfarm_workers.clearing import remove_tree
from wheelfarm_workers.placing import place
from wheelfarm_workers.sandbox import Mount

logger = logging.getLogger(__name__)

ROOT = "/env"
_PARTS = "/w"
_CONFIGURATION = f"{ROOT}/pyvenv.cfg"


@dataclass(frozen=True, kw_only=True, slots=True)
class Tree:
    """A wheel unpacked and compiled, laid out below `folder` as it lies below an environment's root."""

    wheel: BuiltWheel
    folder: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Environment:
    """What the sandbox has to make for an environment to stand at `ROOT`."""

    python: str
    mounts: tuple[Mount, ...]
    directories: tuple[str, ...]
    symlinks: dict[str, str]


def tree_key(wheel: BuiltWheel, target: Target, driver_digest: str) -> str:
    """What decides a tree's bytes: the wheel, the interpreter that compiles it, and how."""
    return digest_of(["tree", wheel.sha256, target.revision, driver_digest])


def compose(trees: Sequence[Tree], target: Target, configuration: Path) -> Environment:
    """Lay trees together into one environment; `configuration` is a file that `write_configuration` made.

    A directory of one tree becomes one link; where several trees share a directory, their entries are merged. A file
    that several have is taken from the first, as an installer would leave one of them.
    """
    skeleton = ["bin", *_ancestors(target.site_packages)]
    owners = [(f"{_PARTS}/{number}", tree.folder) for number, tree in enumerate(trees)]
    directories: list[str] = []
    symlinks = {f"{ROOT}/bin/{name}": target.python for name in ("python", "python3")}
    symlinks[_CONFIGURATION] = ""  # taken: a tree's own would lie where the farm's is mounted
    _lay("", owners, frozenset(skeleton), directories, symlinks)
    del symlinks[_CONFIGURATION]
    mounts = [Mount(source=tree.folder, target=f"{_PARTS}/{number}") for number, tree in enumerate(trees)]
    return Environment(
        python=f"{ROOT}/bin/python",
        mounts=(*mounts, Mount(source=configuration, target=_CONFIGURATION)),
        directories=tuple(dict.fromkeys([ROOT, *(f"{ROOT}/{name}" for name in skeleton), *directories])),
        symlinks=symlinks,
    )


def write_configuration(target: Target, folder: Path) -> Path:
    """The `pyvenv.cfg` that makes the target's interpreter take an environment for its own."""
    home, version = Path(target.python).parent, target.python_version
    text = f"home = {home}\ninclude-system-site-packages = false\nversion = {version}\n"
    path = folder / f"pyvenv-{digest_of(text)[:16]}.cfg"
    if not path.exists():
        partial = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
        partial.write_text(text)
        partial.chmod(0o644)
        place(partial, path)
    return path


class TreeCache:
    """Trees on the machine's disk, which its workers share; a worker makes each once however many builds want it.

    They are made in `work`, which lies on the same file system.
    """

    def __init__(self, folder: Path, work: Path) -> None:
        self._folder = folder
        self._work = work
        self._guard = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def lock(self, key: str) -> threading.Lock:
        """Held while a tree is made."""
        with self._guard:
            return self._locks.setdefault(key, threading.Lock())

    def path(self, key: str) -> Path:
        """Where the tree of that key is, once it is whole."""
        return self._folder / key[:40]

    def has(self, key: str, *, for_s: float) -> bool:
        """Whether the tree of that key is whole; if it is, it stays for that long."""
        return use(self.path(key), for_s=for_s)

    def begin(self, key: str) -> Path:
        """An empty folder to make a tree in."""
        folder = self._work / f"tree-{key[:40]}"
        if folder.exists():  # from a try that failed
            remove_tree(folder)
        folder.mkdir(mode=0o755)
        return folder

    def finish(self, key: str, folder: Path) -> Path:
        """Take a made tree into the cache, unless another worker was faster with the same."""
        try:
            folder.replace(self.path(key))
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise FarmUnavailable(f"The worker can't keep a tree in {self._folder}: {error.strerror}.") from error
            remove_tree(folder)
        return self.path(key)


def _lay(
    relative: str,
    owners: Sequence[tuple[str, Path]],
    forced: frozenset[str],
    directories: list[str],
    symlinks: dict[str, str],
) -> None:
    """Lay one directory of the environment; `forced` are the directories that must be real ones there."""
    entries: dict[str, list[tuple[str, Path, bool]]] = {}
    for mounted, folder in owners:
        for entry in _scan(folder / relative):
            entries.setdefault(entry.name, []).append((mounted, folder, entry.is_dir(follow_symlinks=False)))
    for name, found in sorted(entries.items()):
        path = f"{relative}/{name}" if relative else name
        holders = [(mounted, folder) for mounted, folder, is_directory in found if is_directory]
        if path in forced or len(holders) > 1:
            directories.append(f"{ROOT}/{path}")
            _lay(path, holders, forced, directories, symlinks)
        elif f"{ROOT}/{path}" not in symlinks:
            symlinks[f"{ROOT}/{path}"] = f"{found[0][0]}/{path}"
            if len(found) > 1:
                logger.info("two build requirements have one file", extra={"path": path})


def _scan(folder: Path) -> Iterator[os.DirEntry[str]]:
    if folder.is_dir():
        with os.scandir(folder) as entries:
            yield from entries


def _ancestors(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[: end + 1]) for end in range(len(parts))]
