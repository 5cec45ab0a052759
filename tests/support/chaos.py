"""Chaos: parts of a farm are killed, emptied and cut off at random, by a seed, while it builds; and what came of it."""

import hashlib
import json
import random
import re
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from tests.support.fleet import SeparateFarm
from tests.support.proxy import Proxy
from wheelfarm_services.store import DirectoryStore
from wheelfarm_services.wheel_index import WheelIndex


@dataclass(frozen=True, kw_only=True)
class Harm:
    """Something done to the farm, `at` so many seconds after the beginning."""

    at: float
    what: str

    def __str__(self) -> str:
        return f"{self.at:7.2f} s  {self.what}"


@dataclass(kw_only=True)
class Chaos:
    """A farm of several workers behind a proxy to its broker, and the harm that is done to it.

    What is killed is started again after a moment, as a supervisor would; nothing else is ever done for the farm.
    """

    farm: SeparateFarm
    proxy: Proxy
    workers: Sequence[str]
    seed: int
    every_s: tuple[float, float]
    slots: int = 2
    words: Sequence[str] = ()
    harms: list[Harm] = field(default_factory=list)
    begun: float = field(default_factory=time.monotonic)

    def mount(self, folder: str) -> None:
        """Have the store lie in that folder, at once and for all, as a file system that is mounted or not."""
        link = self.farm.root / "store.new"
        link.symlink_to(self.farm.root / folder)
        link.replace(self.farm.root / "store")

    def start(self) -> None:
        """Start all parts; the services and the workers know the broker by the proxy."""
        (self.farm.root / "store.there").mkdir(mode=0o700)
        self.mount("store.there")
        self.farm.start_broker()
        self.farm.settings["WHEELFARM_BROKER"] = f"redis://127.0.0.1:{self.proxy.port}/0"
        self.farm.start_services()
        for name in self.workers:
            self.start_worker(name)

    def start_worker(self, name: str) -> None:
        self.farm.start_worker(name, "--slots", str(self.slots), *self.words)

    def rage(self, over: Callable[[], bool], *, flush_at: int, calm_at: int) -> None:
        """Do harm at random moments until so many wheels are built that it is time for calm, and keep the parts running
        until it is `over`. Redis is emptied once, after as many as `flush_at`."""
        rng = random.Random(self.seed)
        ways = self.ways(rng)
        due, flushed = time.monotonic() + rng.uniform(*self.every_s), False
        while not over():
            time.sleep(0.05)
            self.restart_ended()
            built = self.built()
            if built >= calm_at:
                continue
            if not flushed and built >= flush_at:
                flushed = True
                self.did("Redis was emptied (FLUSHALL)" if self.flush() else "Redis was to be emptied, but was away")
            elif time.monotonic() > due:
                rng.choice(ways)()
                due = time.monotonic() + rng.uniform(*self.every_s)

    def run_through(self, command: "subprocess.Popen[str]", *, flush_at: int, calm_at: int) -> tuple[str, str]:
        """What a command of a user writes to stdout and stderr until it has ended, harm being done meanwhile."""
        with ThreadPoolExecutor(1) as reader:
            said = reader.submit(command.communicate)
            self.rage(said.done, flush_at=flush_at, calm_at=calm_at)
        return said.result()

    def built(self) -> int:
        """How many wheels are committed; as far as the store can be read."""
        return len(list((self.farm.root / "store" / "manifests").glob("*")))

    def told(self) -> str:
        """The seed, and all that was done."""
        return "\n".join([f"seed {self.seed}", *map(str, self.harms)])

    def ways(self, rng: random.Random) -> list[Callable[[], None]]:
        """The ways of doing harm, the likelier ones more often."""

        def kill_worker() -> None:
            name = rng.choice(self.workers)
            self.farm.parts[name].kill()
            self.did(f"{name} was killed (SIGKILL)")

        def drain_worker() -> None:
            name = rng.choice(self.workers)
            self.farm.parts[name].signal(signal.SIGTERM)
            self.did(f"{name} was told to end (SIGTERM)")

        def kill_redis() -> None:
            self.farm.parts["broker"].kill()
            self.did("Redis was killed (SIGKILL), and was away for half a second")
            time.sleep(0.5)
            self.farm.start_broker()

        def kill_services() -> None:
            self.farm.parts["services"].kill()
            self.did("the services were killed (SIGKILL)")

        def cut() -> None:
            self.did(f"{self.proxy.cut()} connections to Redis were cut, half-open")

        def hide_store() -> None:
            away_s = rng.uniform(0.5, 2.0)
            self.mount("nowhere/at/all")
            self.did(f"the store was away for {away_s:.1f} s")
            time.sleep(away_s)
            self.mount("store.there")

        return [kill_worker] * 4 + [drain_worker, kill_redis, kill_redis, kill_services, cut, hide_store]

    def restart_ended(self) -> None:
        """Start again what has ended, as a supervisor does."""
        for name, part in list(self.farm.parts.items()):
            if part.process.poll() is not None:
                if name in self.workers:
                    self.start_worker(name)
                else:
                    self.farm.start(name, part.command)

    def flush(self) -> bool:
        try:
            with Redis(unix_socket_path=str(self.farm.root / "s")) as redis:
                return bool(redis.flushall())
        except RedisError:
            return False

    def did(self, what: str) -> None:
        self.harms.append(Harm(at=time.monotonic() - self.begun, what=what))


@contextmanager
def chaos(
    farm: SeparateFarm, workers: Sequence[str], *, seed: int, every_s: tuple[float, float], slots: int = 2
) -> Iterator[Chaos]:
    """A farm whose parts are not started yet."""

    def connect() -> socket.socket:
        server = socket.socket(socket.AF_UNIX)
        try:
            server.connect(str(farm.root / "s"))
        except OSError:
            server.close()
            raise
        return server

    with Proxy(connect) as proxy:
        yield Chaos(farm=farm, proxy=proxy, workers=workers, seed=seed, every_s=every_s, slots=slots)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What is in the store afterwards, and what the workers said."""

    manifests: tuple[dict[str, Any], ...]
    """Every build that was committed."""
    wheels: tuple[str, ...]
    """The file names on the index, each as often as it stands there."""
    wrong: tuple[str, ...]
    """Objects of which the bytes are not those that were recorded, or that are missing."""
    published: Counter[str]
    """How often a wheel of a project's version was committed."""
    done: Counter[str]
    """How often a worker said that the job of a project's wheel was done."""
    begun: Counter[str]
    """How often a worker began to build a project."""

    @property
    def built_to_the_end_twice(self) -> list[dict[str, Any]]:
        """The builds of the versions of projects that have more than one."""
        return [build for build in self.manifests if self.published[_project(build["wheel"])] > 1]


def outcome_of(store: Path, logs: Iterable[str]) -> Outcome:
    """Read a directory store and the logs of all workers."""
    text = "\n".join(logs)
    kept = DirectoryStore.create(store)  # whose listings leave out what a killed worker was still writing
    manifests = [json.loads(kept.get(key) or b"") for key in kept.list("manifests/")]
    wheels = [manifest["wheel"] for manifest in manifests]
    WheelIndex(kept).pages.render_stale()
    pages = [page.read_text() for page in store.glob("flat/*/index.html")]
    names = [name for page in pages for name in re.findall(r">([^<>]+\.whl)</a>", page)]
    return Outcome(
        manifests=tuple(manifests),
        wheels=tuple(sorted(names)),
        wrong=tuple(wheel["filename"] for wheel in wheels if not _is_whole(store, wheel)),
        published=Counter(_project(wheel) for wheel in wheels),
        done=Counter(re.findall(r"job done.*sdist='([^'=]+)==.*kind='wheel'", text)),
        begun=Counter(re.findall(r"build begins.*sdist='([^'=]+)==", text)),
    )


def _project(wheel: dict[str, str]) -> str:
    return f"{wheel['name']}=={wheel['version']}"


def _is_whole(store: Path, wheel: dict[str, str]) -> bool:
    path = store / "wheels" / wheel["sha256"] / wheel["filename"]
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == wheel["sha256"]
