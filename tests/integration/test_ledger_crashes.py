"""What is left of jobs and requests when Redis, the network, claimers or the store fail while a graph is worked off.

TEST_SEED repeats a run's graph and moments."""

import multiprocessing
import os
import random
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import cast

import pytest
from redis import Redis

from tests.integration.conftest import find_servers
from tests.support.claimers import (
    QUEUE,
    RESULT,
    Claimers,
    Graph,
    MortalRedis,
    Replica,
    ended_by_events,
    request_for,
)
from tests.support.proxy import Proxy
from tests.support.values import make_target
from tests.support.waiting import PATIENCE_S, wait_until
from wheelfarm.errors import FarmUnavailable
from wheelfarm.job import JobState
from wheelfarm_services.ledger import Completion, Ledger, Submission
from wheelfarm_services.requests import Requests
from wheelfarm_services.sdist_metadata import SdistMetadata
from wheelfarm_services.store import DirectoryStore
from wheelfarm_services.wakeups import celery_queue

JOBS = 200
CLAIMERS = 6
LEASE_S = 4.0


@pytest.fixture
def seed() -> int:
    number = int(os.environ.get("TEST_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"TEST_SEED={number}")
    return number


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore.create(tmp_path / "store")


@pytest.fixture
def redis(request: pytest.FixtureRequest) -> Iterator[MortalRedis]:
    server = MortalRedis(find_servers()[0], durable=getattr(request, "param", False))
    yield server
    server.end()


def work_off(
    url: str,
    store: DirectoryStore,
    graph: Graph,
    *,
    seed: int,
    replicas: list[Replica],
    harms: Sequence[Callable[[], object]],
) -> Claimers:
    """Have two requests for the graph done, the harms spread over the way; what the claimers saw.

    Each request is accepted, followed and closed through any replica. Nothing else is done for them."""
    rng = random.Random(seed)
    claimers = Claimers(url=url, store=store, graph=graph)
    wanted = graph.wanted
    halves = [request_for(wanted[::2], 1), request_for(wanted[1::2], 2)]
    replicas[0].requests.register(make_target())
    with ExitStack() as stack:
        for replica in replicas:
            replica.reconciler.start()
            stack.callback(replica.ledger.close)
            stack.callback(replica.reconciler.stop)
        for half, replica in zip(halves, (replicas[0], replicas[-1]), strict=True):
            replica.requests.accept(half)
        stack.enter_context(claimers.at_work(CLAIMERS, seed))
        for number, harm in enumerate(harms, 1):
            part = len(graph.jobs) * number // (len(harms) + 1)
            assert wait_until(partial(_has_done, claimers, part)), claimers
            harm()
        for half in halves:
            asked = rng.choice(replicas).requests
            assert wait_until(partial(_is_over, asked, half.id)), claimers
            rng.choice(replicas).requests.close(half.id)
        assert list(replicas[0].requests.open_requests()) == []
    answers = {answer.value: sum(claimers.told(answer).values()) for answer in Completion}
    print(f"{len(graph.jobs)} jobs, answers to their completions: {answers}")
    assert claimers.troubles == []
    return claimers


def _has_done(claimers: Claimers, jobs: int) -> bool:
    return len(claimers.committed) >= jobs


def _is_over(requests: Requests, request_id: str) -> bool:
    status = requests.status(request_id)
    states = {job["id"]: job["state"] for job in status["jobs"]}
    return all(states[job] == JobState.DONE for job in status["requested"])


def require_results(claimers: Claimers) -> None:
    metadata = SdistMetadata(claimers.store)
    results = {name: metadata.told_first(job.sdist, job.target_revision) for name, job in claimers.graph.jobs.items()}
    assert results == {name: (RESULT + name).encode() for name in results}


def require_once(claimers: Claimers) -> None:
    """Every job has its result, which was committed once."""
    require_results(claimers)
    assert claimers.committed == Counter(dict.fromkeys(claimers.graph.jobs, 1))


def require_one_end(claimers: Claimers, redis: Redis) -> None:
    """Nothing was lost, so every job ended once, and no more than one claimer was told that it ended it."""
    require_once(claimers)
    assert ended_by_events(redis, claimers.graph) == Counter(dict.fromkeys(claimers.graph.jobs, 1))
    assert claimers.told(Completion.OK).most_common(1)[0][1] == 1
    assert claimers.told(Completion.GONE) == Counter()


def test_emptied_redis_costs_no_job(redis: MortalRedis, store: DirectoryStore, seed: int) -> None:
    graph = Graph.random(JOBS, random.Random(seed))
    with redis.client() as client:
        replica = Replica.of(redis.url, store)
        claimers = work_off(redis.url, store, graph, seed=seed, replicas=[replica], harms=[client.flushall] * 3)
        assert max(ended_by_events(client, graph).values()) == 1
    require_once(claimers)
    assert max(claimers.told(Completion.OK).values()) <= 1 + 3


@pytest.mark.parametrize("redis", [False, True], indirect=True, ids=["forgetful", "durable"])
def test_killed_redis_costs_no_job(
    redis: MortalRedis, store: DirectoryStore, seed: int, request: pytest.FixtureRequest
) -> None:
    graph = Graph.random(JOBS, random.Random(seed))
    replica = Replica.of(redis.url, store)
    claimers = work_off(redis.url, store, graph, seed=seed, replicas=[replica], harms=[redis.restart] * 3)
    require_once(claimers)
    with redis.client() as client:
        if "durable" in request.node.name:
            require_one_end(claimers, client)
        else:
            assert max(ended_by_events(client, graph).values()) == 1
            assert max(claimers.told(Completion.OK).values()) <= 1 + 3


def test_cut_connections_and_lost_answers_cost_no_job(redis: MortalRedis, store: DirectoryStore, seed: int) -> None:
    graph = Graph.random(JOBS, random.Random(seed))

    def connect() -> socket.socket:
        server = socket.socket(socket.AF_UNIX)
        server.connect(str(redis.socket))
        return server

    with Proxy(connect) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}/0"
        cut: list[int] = []
        lose_ends = partial(proxy.lose_answers, RESULT.encode(), 5)
        lose_claims = partial(proxy.lose_answers, b"\r\n1000\r\n", 5)  # by the lease, in ms
        claimers = work_off(
            url,
            store,
            graph,
            seed=seed,
            replicas=[Replica.of(url, store)],
            harms=[lose_ends, lambda: cut.append(proxy.cut()), lose_claims],
        )
        assert proxy.left_to_lose == 0
        assert cut[0] >= CLAIMERS
    with redis.client() as client:
        require_one_end(claimers, client)
    assert sum(claimers.told(Completion.OK).values()) < JOBS
    assert sum(claimers.told(Completion.DUPLICATE).values()) >= 5


def hold_jobs(url: str, count: int, told: "multiprocessing.Queue[list[str]]") -> None:
    """A worker that claims so many jobs, tells which, and never ends one."""
    ledger = Ledger(url, wake=lambda _: None)
    claims = [ledger.claim(QUEUE, worker="doomed", lease_s=LEASE_S) for _ in range(count)]
    held = [claim for claim in claims if claim is not None]
    told.put([claim.job_id for claim in held])
    while True:
        time.sleep(LEASE_S / 10)
        for claim in held:
            ledger.beat(claim, lease_s=LEASE_S)


def test_jobs_of_a_killed_claimer_run_again_within_twice_the_lease(redis: MortalRedis, store: DirectoryStore) -> None:
    replica = Replica.of(redis.url, store, every_s=0.2)
    replica.ledger.submit("r", [Submission(id=f"j{number}", queue=QUEUE, spec="{}") for number in range(3)])
    spawning = multiprocessing.get_context("spawn")
    told = spawning.Queue()
    process = spawning.Process(target=hold_jobs, args=(redis.url, 3, told))
    process.start()
    held = told.get(timeout=PATIENCE_S)
    replica.reconciler.start()
    time.sleep(1.2 * LEASE_S)  # longer than a lease: beats keep them
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    killed_at = replica.ledger.now()
    again: set[str] = set()

    def claim_again() -> bool:
        claim = replica.ledger.claim(QUEUE, worker="heir", lease_s=60)
        again.update([claim.job_id] if claim else [])
        return len(again) == 3

    assert wait_until(claim_again)
    replica.reconciler.stop()
    assert again == set(held)
    with redis.client() as client:
        events = cast("list[tuple[str, dict[str, str]]]", client.xrange("{wheelfarm}:ev"))
    runs = [(event["job"], int(at.split("-")[0]) / 1000) for at, event in events if event["state"] == JobState.RUNNING]
    assert sorted(job for job, _ in runs) == sorted(2 * held)
    later = [at for job, at in runs[3:]]
    assert all(at - killed_at <= 2 * LEASE_S for at in later), (killed_at, runs)
    replica.ledger.close()


def test_two_replicas_work_off_one_graph_together(redis: MortalRedis, store: DirectoryStore, seed: int) -> None:
    graph = Graph.random(JOBS, random.Random(seed))
    replicas = [Replica.of(redis.url, store, every_s=0.1) for _ in range(2)]
    claimers = work_off(redis.url, store, graph, seed=seed, replicas=replicas, harms=[])
    with redis.client() as client:
        require_one_end(claimers, client)


def test_same_request_through_two_replicas_at_once_is_one(redis: MortalRedis, store: DirectoryStore) -> None:
    graph = Graph.random(20, random.Random(1))
    replicas = [Replica.of(redis.url, store) for _ in range(2)]
    replicas[0].requests.register(make_target())
    jobs = list(graph.jobs.values())
    threads = [threading.Thread(target=one.requests.accept, args=(request_for(jobs),)) for one in replicas]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert replicas[0].ledger.queues() == {QUEUE: len(jobs)}
    for replica in replicas:
        assert replica.requests.status(f"{1:032x}")["requested"] == [job.id for job in jobs]
    replicas[1].requests.close(f"{1:032x}")
    assert replicas[0].ledger.queues() == {QUEUE: 0}
    assert list(replicas[0].requests.open_requests()) == []
    for replica in replicas:
        replica.ledger.close()


def test_two_reconcilers_wake_as_often_as_there_are_jobs(redis: MortalRedis, store: DirectoryStore) -> None:
    """Tokens that nobody takes are not published again, and lost ones are, once."""
    replicas = [Replica.of(redis.url, store, every_s=0.5) for _ in range(2)]
    jobs = 50
    replicas[0].ledger.submit("r", [Submission(id=f"j{n}", queue=QUEUE, spec="{}") for n in range(jobs)])

    def published() -> int:
        return sum(replica.tokens.published for replica in replicas)

    assert published() == jobs
    with redis.client() as client:
        for replica in replicas:
            replica.reconciler.start()
        time.sleep(1.2)
        assert published() == jobs
        client.delete(celery_queue(QUEUE))
        assert wait_until(lambda: published() >= 2 * jobs)
        time.sleep(1.2)
        for replica in replicas:
            replica.reconciler.stop()
        assert published() <= 3 * jobs
        assert client.llen(celery_queue(QUEUE)) == published() - jobs
    for replica in replicas:
        replica.ledger.close()


def test_store_that_is_away_for_a_while_costs_no_job(
    redis: MortalRedis, store: DirectoryStore, tmp_path: Path, seed: int
) -> None:
    """It is away while Redis is emptied, too: the requests, which only the store knows then, come back with it."""
    graph = Graph.random(JOBS, random.Random(seed))
    replica = Replica.of(redis.url, store)

    def hide() -> None:
        away = store.root.rename(tmp_path / "away")
        with redis.client() as client:
            client.flushall()
        with pytest.raises(FarmUnavailable):
            replica.requests.resubmit()
        time.sleep(0.5)
        away.rename(store.root)

    claimers = work_off(redis.url, store, graph, seed=seed, replicas=[replica], harms=[hide, hide])
    require_results(claimers)
    assert max(claimers.committed.values()) == 1
