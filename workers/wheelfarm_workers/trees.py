"""Trees: wheels, and the driver itself, unpacked and compiled once for each target, in a clean sandbox."""

import errno
import json
import os
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from wheelfarm.digest import digest_of
from wheelfarm.errors import FarmUnavailable
from wheelfarm.target import Target
from wheelfarm.wheel import BuiltWheel
from wheelfarm_services.logs import carrier
from wheelfarm_workers.answer import read_answer
from wheelfarm_workers.driver import MOUNTED_AT, Driver
from wheelfarm_workers.environment import Tree, TreeCache, tree_key
from wheelfarm_workers.grounds import Grounds
from wheelfarm_workers.hold import Hold
from wheelfarm_workers.inputs import Inputs
from wheelfarm_workers.sandbox import Limits, Mount


class TreeMaker:
    """Makes the trees that builds need, and keeps them."""

    def __init__(
        self, *, grounds: Grounds, driver: Driver, inputs: Inputs, cache: Path, work: Path, limits: Limits, cores: int
    ) -> None:
        self._grounds = grounds
        self._driver = driver
        self._inputs = inputs
        self._work = work
        self._limits = limits
        self._cores = cores
        self._trees = TreeCache(cache / "trees", work)
        self._prepared: set[str] = set()

    def trees(self, wheels: Sequence[BuiltWheel], target: Target, hold: Hold, *, for_s: float) -> list[Tree]:
        """A tree of each wheel, to be used for that long; those that are not there yet are made in one sandbox."""
        keys = {tree_key(wheel, target, self._driver.digest): wheel for wheel in wheels}
        with ExitStack() as locks:
            for key in sorted(keys):  # an order that all have in common, so that nobody waits in a circle
                locks.enter_context(self._trees.lock(key))
            missing = {key: wheel for key, wheel in keys.items() if not self._trees.has(key, for_s=for_s)}
            if missing:
                self._unpack(missing, target, hold)
                for key in missing:
                    self._trees.has(key, for_s=for_s)
        return [Tree(wheel=wheel, folder=self._trees.path(key)) for key, wheel in keys.items()]

    def prepare(self, target: Target) -> None:
        """Begin to compile the driver for a target's interpreter, beside what comes before its first build. What keeps
        it from that is told by the build."""
        if target.revision in self._prepared:
            return
        self._prepared.add(target.revision)

        def compile_it() -> None:
            with suppress(Exception):
                self.driver(target, threading.Event())

        threading.Thread(target=carrier(), args=(compile_it,), name="driver", daemon=True).start()

    def driver(self, target: Target, cancelled: threading.Event, *, for_s: float = 0.0) -> Driver:
        """The driver, compiled for a target's interpreter, to be used for that long, or as long as a build usually may
        take."""
        for_s = max(for_s, self._limits.wall_s)
        key = digest_of(["driver", target.revision, self._driver.digest])
        with self._trees.lock(key):
            if not self._trees.has(key, for_s=for_s):
                self._make([key], {"do": "driver", "shown_at": MOUNTED_AT}, self._driver, (), target, cancelled)
                self._trees.has(key, for_s=for_s)
        return Driver(folder=self._trees.path(key), digest=self._driver.digest, script=f"{MOUNTED_AT}/inside.pyc")

    def _unpack(self, wheels: Mapping[str, BuiltWheel], target: Target, hold: Hold) -> None:
        driver = self.driver(target, hold.cancelled)
        listed = [{"name": wheel.name, "filename": wheel.filename} for wheel in wheels.values()]
        task = {"do": "trees", "wheels": listed, "site_packages": target.site_packages}
        with TemporaryDirectory(dir=self._work, prefix="wheels-") as work:
            mounts = []
            for wheel in wheels.values():
                path = Path(work) / wheel.filename
                self._inputs.copy_wheel(wheel, path)
                mounts.append(Mount(source=path, target=f"/in/{wheel.filename}"))
            self._make(list(wheels), task, driver, mounts, target, hold.cancelled)

    def _make(
        self,
        keys: Sequence[str],
        task: Mapping[str, object],
        driver: Driver,
        inputs: Sequence[Mount],
        target: Target,
        cancelled: threading.Event,
    ) -> None:
        """Have the driver fill a folder for each of the keys."""
        ground = self._grounds.of(target)
        folders = [self._trees.begin(key) for key in keys]
        run = ground.command(
            (target.python, "-I", "-S", driver.script),
            input=json.dumps({**task, "cores": self._cores}).encode(),
            limits=self._limits,
            mounts=(
                Mount(source=driver.folder, target=MOUNTED_AT),
                *inputs,
                *(
                    Mount(source=folder, target=f"/tree/{number}", writable=True)
                    for number, folder in enumerate(folders)
                ),
            ),
            environment={"PYTHONHASHSEED": "0"},
        )
        what = ", ".join(mount.target.removeprefix("/in/") for mount in inputs) or "the driver"
        said = bytearray()
        result = ground.sandbox.run(run, log=said.extend, cancelled=cancelled)
        answer = read_answer(result, f"unpacking {what}", self._limits)
        answer.body.close()
        if answer.facts.get("outcome") == "full":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._work))
        if answer.facts.get("outcome") != "made":
            raise FarmUnavailable(f"{what} can't be unpacked: {said[-2000:].decode(errors='replace')}")
        for key, folder in zip(keys, folders, strict=True):
            self._trees.finish(key, folder)
