"""A farm without builds: a Redis that may die, requests and reconcilers as the services have them, and claimers that do
the jobs of a random graph with nothing but the ledger and a store."""

import json
import random
import shutil
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from redis import Redis
from redis.exceptions import RedisError

from tests.support.values import make_job, make_sdist, make_target
from wheelfarm.job import Job, JobKind, JobState, Sdist
from wheelfarm_services import layout
from wheelfarm_services.ledger import Completion, Ledger, SuspensionOutcome, redis_client
from wheelfarm_services.recipe_book import RecipeBook
from wheelfarm_services.reconciliation import Reconciler
from wheelfarm_services.request import Request, RequestTarget
from wheelfarm_services.requests import Requests
from wheelfarm_services.sdist_metadata import SdistMetadata
from wheelfarm_services.source_index import SourceIndex
from wheelfarm_services.store import DirectoryStore
from wheelfarm_services.submissions import submission_of
from wheelfarm_services.wakeups import celery_queue
from wheelfarm_services.wheel_index import WheelIndex
from wheelfarm_workers.patient_store import PatientStore

QUEUE = make_target().queue
RESULT = "the result of "


class MortalRedis:
    """A private server on a unix socket, to be killed and started again; with `durable`, no write that it has
    answered is lost."""

    def __init__(self, binary: Path, *, durable: bool) -> None:
        # Not pytest's tmp_path: a unix socket's path has less than 108 bytes.
        self._folder = Path(tempfile.mkdtemp(prefix="wf-redis-", dir="/tmp"))
        self.socket = self._folder / "s"
        keeping = ["--appendonly", "yes", "--appendfsync", "always"] if durable else ["--appendonly", "no"]
        words = ["--port", "0", "--unixsocket", str(self.socket), "--dir", str(self._folder), "--save", ""]
        self._command = [str(binary), *words, *keeping]
        self._process = self._started()

    @property
    def url(self) -> str:
        return f"redis+socket://{self.socket}"

    def client(self) -> "Redis":
        return redis_client(self.url)

    def restart(self) -> None:
        """SIGKILL, and start again."""
        self.kill()
        self._process = self._started()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def end(self) -> None:
        self.kill()
        shutil.rmtree(self._folder)

    def _started(self) -> "subprocess.Popen[bytes]":
        process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with self.client() as client:
            while not _answers(client):
                if process.poll() is not None:
                    raise RuntimeError(f"{self._command[0]} ended with {process.returncode}")
                time.sleep(0.01)
        return process


def _answers(client: "Redis") -> bool:
    try:
        return bool(client.ping())
    except RedisError:
        return False


class AnySdist:
    """A source index that lists whatever it is asked for."""

    def mirror(self, sdist: Sdist) -> None:
        del sdist


@dataclass
class Tokens:
    """Wake-ups into a broker's real queues, and how many there were."""

    redis: "Redis"
    published: int = 0

    def __call__(self, queue: str) -> None:
        self.redis.lpush(celery_queue(queue), "token")
        self.published += 1


@dataclass(kw_only=True)
class Replica:
    """What a process of the services has of its own."""

    ledger: Ledger
    requests: Requests
    tokens: Tokens
    reconciler: Reconciler

    @classmethod
    def of(cls, url: str, store: DirectoryStore, *, every_s: float = 0.2, patience_s: float = 20.0) -> "Replica":
        redis = redis_client(url)
        tokens = Tokens(redis)
        ledger = Ledger(url, wake=tokens, patience_s=patience_s)
        sources = cast(SourceIndex, AnySdist())
        requests = Requests(store, ledger, sources, WheelIndex(store), RecipeBook(store))
        reconciler = Reconciler(ledger, redis, requests, tokens, WheelIndex(store).pages, every_s=every_s)
        return cls(ledger=ledger, requests=requests, tokens=tokens, reconciler=reconciler)


@dataclass(frozen=True, kw_only=True)
class Graph:
    """Jobs by the names of their projects, and what each needs of those before it."""

    jobs: Mapping[str, Job]
    needs: Mapping[str, tuple[str, ...]]

    @property
    def wanted(self) -> list[Job]:
        """The jobs that no other needs."""
        needed = {name for names in self.needs.values() for name in names}
        return [job for name, job in self.jobs.items() if name not in needed]

    @classmethod
    def random(cls, size: int, rng: random.Random) -> "Graph":
        names = [f"p{number:03d}" for number in range(size)]
        jobs = {name: make_job(make_sdist(name, data=name.encode()), kind=JobKind.METADATA) for name in names}
        needs = {
            name: tuple(sorted(set(rng.choices(names[max(0, number - 30) : number], k=rng.choice([0, 1, 2, 3])))))
            if number
            else ()
            for number, name in enumerate(names)
        }
        return cls(jobs=jobs, needs=needs)


def request_for(jobs: Sequence[Job], number: int = 1) -> Request:
    return Request(
        id=f"{number:032x}",
        kind=jobs[0].kind,
        targets=(RequestTarget(name=jobs[0].target, revision=jobs[0].target_revision),),
        sdists=tuple(job.sdist for job in jobs),
    )


@dataclass(kw_only=True)
class Claimers:
    """Threads that do jobs as workers do: result into the store first, then told to the ledger."""

    url: str
    store: DirectoryStore
    graph: Graph
    lease_s: float = 1.0
    work_s: float = 0.02
    committed: Counter[str] = field(default_factory=Counter)
    """How often a project's result was new in the store."""
    answered: Counter[tuple[str, Completion]] = field(default_factory=Counter)
    """How often the ledger gave which answer to the completion of a project's job."""
    troubles: list[str] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)
    _guard: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def at_work(self, count: int, seed: int) -> Iterator[None]:
        threads = [threading.Thread(target=self._work, args=(f"w{n}", seed + n)) for n in range(count)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join()

    def told(self, answer: Completion) -> Counter[str]:
        return Counter({name: count for (name, given), count in self.answered.items() if given is answer})

    def _work(self, name: str, seed: int) -> None:
        rng = random.Random(seed)
        ledger = Ledger(self.url, wake=lambda _: None, patience_s=30.0)
        store = PatientStore(self.store, patience_s=30.0, ending=self._over)
        try:
            while not self._over.is_set():
                if not self._do_one(ledger, store, name, rng):
                    time.sleep(0.01)
        except Exception as error:
            self.troubles.append(f"{name}: {error!r}")
        finally:
            ledger.close()

    def _do_one(self, ledger: Ledger, store: PatientStore, worker: str, rng: random.Random) -> bool:
        claim = ledger.claim(QUEUE, worker=worker, lease_s=self.lease_s)
        if claim is None:
            return False
        job = Job.from_json(json.loads(claim.spec))
        project = job.sdist.name
        if SdistMetadata(store).told_first(job.sdist, job.target_revision) is None:
            needs = [submission_of(self.graph.jobs[name]) for name in self.graph.needs[project]]
            if ledger.suspend(claim, needs).outcome is not SuspensionOutcome.READY:
                return True
            time.sleep(rng.uniform(0, self.work_s))
            key = layout.built_metadata(job.sdist.sha256, job.target_revision)
            new = store.put_new(key, (RESULT + project).encode())
            with self._guard:
                self.committed[project] += new
        answer = ledger.complete(claim, RESULT + project)
        with self._guard:
            self.answered[project, answer] += 1
        return True


def ended_by_events(redis: "Redis", graph: Graph) -> Counter[str]:
    """How often each project's job came to its end, by all that Redis remembers."""
    names = {job.id: name for name, job in graph.jobs.items()}
    events = cast("list[tuple[str, dict[str, str]]]", redis.xrange("{wheelfarm}:ev"))
    return Counter(names[event["job"]] for _, event in events if event["state"] == JobState.DONE)
