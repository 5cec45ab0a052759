"""What two replicas of the API share through one Redis."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

from tests.support.values import make_sdist, make_target
from tests.support.waiting import wait_until
from wheelfarm.token_file import Scope
from wheelfarm_services.access import Principal
from wheelfarm_services.accounts import Accounts
from wheelfarm_services.fleet import Fleet
from wheelfarm_services.ledger import Ledger, Submission, redis_client
from wheelfarm_services.on_demand import OnDemand, State
from wheelfarm_services.rate_limits import RateLimits
from wheelfarm_services.store import DirectoryStore
from wheelfarm_services.targets import define


def test_rate_of_a_token_is_counted_by_all_replicas_together(redis_url: str) -> None:
    replicas = [RateLimits(redis_client(redis_url)) for _ in range(2)]
    began, let_in = time.monotonic(), 0
    while (wait_s := replicas[let_in % 2].wait_s("ci", 60)) == 0:
        let_in += 1
    assert 60 <= let_in <= 61 + time.monotonic() - began  # one more may come each second
    assert 0 < wait_s <= 2
    assert replicas[0].wait_s("other", 60) == 0


def test_rates_are_not_counted_while_redis_is_away() -> None:
    assert RateLimits(redis_client("redis+socket:///nowhere")).wait_s("ci", 1) == 0


def test_account_that_one_replica_writes_is_read_by_the_other(redis_url: str) -> None:
    one, other = (Accounts(redis_client(redis_url)) for _ in range(2))
    sdist = make_sdist()
    one.pending("ab" * 16, sdist)
    one.see_local("ab" * 16, [sdist])
    assert other.local("ab" * 16, sdist.name) == sdist
    pending = cast(list[Any], other.read("ab" * 16, cast(Any, None))["pending"])
    assert [entry["sha256"] for entry in pending] == [sdist.sha256]


def test_follower_of_a_request_comes_back_to_another_replica(redis_url: str) -> None:
    one, other = (Ledger(redis_url, wake=lambda _: None) for _ in range(2))
    one.submit("r", [Submission(id="a", queue="q", spec="{}")])
    event = one.last_event()
    assert other.changed_since(event) == set()
    one.submit("r", [Submission(id="b", queue="q", spec="{}")])
    assert other.changed_since(event) == {"b"}
    assert other.changed_since("1-1") is None
    one.close()
    other.close()


def test_what_many_ask_two_replicas_for_is_built_on_demand_once(redis_url: str, tmp_path: Path) -> None:
    store, target = DirectoryStore.create(tmp_path / "store"), make_target()
    define(store, target)
    begun: list[str] = []
    go = threading.Event()

    def build(requirement: str, *_: object) -> None:
        begun.append(requirement)
        assert go.wait(60)

    def replica() -> OnDemand:
        redis = redis_client(redis_url)
        return OnDemand(["host-*"], redis=redis, store=store, fleet=Fleet(redis), limits=RateLimits(redis), build=build)

    replicas = [replica(), replica()]
    asker = Principal(token="ci", scope=Scope.BUILD)  # noqa: S106  (its name)

    def state(number: int) -> State:
        return replicas[number % 2].wanted(asker, "secret", target.name, "app").state

    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(state, range(64))) == {State.BUILDING}
    assert wait_until(lambda: begun)
    go.set()
    assert wait_until(lambda: state(0) is State.BUILT)
    assert state(1) is State.BUILT, "whichever replica is asked"
    assert begun == ["app"]
