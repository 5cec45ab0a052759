"""No sandbox at all, for those who typed `--sandbox none`: the same runs with the worker's rights, network and files.

Limits on time, memory, processes, log and result hold all the same. What a sandbox has at /build, /tmp and the places
of the run lies in a temporary folder, which the command is told by WHEELFARM_ROOT.
"""

import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from wheelfarm_workers.clearing import remove_tree
from wheelfarm_workers.sandbox import SandboxResult, SandboxRun
from wheelfarm_workers.sandbox.link import SpawnerLink, cancelled_result
from wheelfarm_workers.sandbox.protocol import Descriptor, Start
from wheelfarm_workers.sandbox.slots import Slots

_WORKING = ("/build", "/tmp")  # noqa: S108 - below the run's folder


class UnconfinedSandbox:
    """The back end `none`, with `slots` runs at once, each in a folder of its own in `work_dir`."""

    name = "none"

    def __init__(self, slots: int, work_dir: Path, *, use_cgroups: bool = True) -> None:
        self._slots = Slots(slots)
        self._work_dir = work_dir
        self._link = SpawnerLink(work_dir, use_cgroups=use_cgroups)

    @property
    def memory_limit(self) -> str:
        """What holds runs to their memory: "cgroup v1", "cgroup v2" or "watchdog"."""
        return self._link.connect().memory_limit

    def run(self, run: SandboxRun, *, log: Callable[[bytes], None], cancelled: threading.Event) -> SandboxResult:
        """See `Sandbox.run`. A process that leaves its session and clears its environment may live on."""
        with self._slots.hold(cancelled) as slot:
            if slot is None:
                return cancelled_result(self._work_dir)
            place = Place(root=Path(tempfile.mkdtemp(prefix="unconfined-", dir=self._work_dir)).resolve(), run=run)
            try:
                place.furnish()
                return self._link.run(place.start(), input=run.input, log=log, cancelled=cancelled)
            finally:
                remove_tree(place.root)

    def probe(self) -> None:
        """See `Sandbox.probe`: there is nothing to be missing but the spawner."""
        self._link.connect()

    def close(self) -> None:
        """See `Sandbox.close`."""
        self._link.close()


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """A run's folder, `root`, which stands for the / that a sandbox would have."""

    root: Path
    run: SandboxRun

    @property
    def marker(self) -> str:
        """The environment variable by which the run's processes are known."""
        return f"WHEELFARM_ROOT={self.root}"

    def outside(self, word: str) -> str:
        """A word of the run as it is outside: with `root` before it if it is a path that the run brings along."""
        run = self.run
        brought = (*_WORKING, *(mount.target for mount in run.mounts), *run.directories, *run.symlinks)
        if _is_below(word, str(run.interpreter_prefix)) or not any(_is_below(word, path) for path in brought):
            return word
        return f"{self.root}{word}"

    def furnish(self) -> None:
        """Make the directories; what would be mounted is linked to."""
        for path in (*_WORKING, *self.run.directories):
            self._enter(path).mkdir(exist_ok=True)
        for mount in self.run.mounts:
            self._enter(mount.target).symlink_to(mount.source.absolute())
        for path, target in self.run.symlinks.items():
            self._enter(path).symlink_to(self.outside(target))

    def start(self) -> Start:
        """The command as the spawner gets it."""
        environment = {
            "PATH": f"{self.root}/env/bin:/usr/local/bin:/usr/bin:/bin",
            "HOME": f"{self.root}/build",
            "TMPDIR": f"{self.root}/tmp",  # noqa: S108 - below the run's folder
            "LANG": "C.UTF-8",
            "TZ": "UTC",
            **{name: self.outside(value) for name, value in self.run.environment.items()},
            "WHEELFARM_ROOT": str(self.root),
        }
        return Start(
            argv=tuple(self.outside(word) for word in self.run.argv),
            environment={**environment, "WHEELFARM_RESULT_FD": Descriptor.RESULT},
            limits=self.run.limits,
            directory=f"{self.root}/build",
            marker=self.marker,
        )

    def _enter(self, path: str) -> Path:
        """The place of an inside path, its parents made. None may lie in a mount, whose source would be changed."""
        place = Path(f"{self.root}{path}")
        if not place.parent.resolve().is_relative_to(self.root):
            raise ValueError(f"{path} lies in a mount of the same run; the back end `none` can't put it there.")
        place.parent.mkdir(parents=True, exist_ok=True)
        return place


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")
