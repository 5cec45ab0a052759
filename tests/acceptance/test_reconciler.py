"""Reconcilers as processes of their own, and the broker that they and the services refuse."""

import signal
import sys
import time
from collections.abc import Iterator

import pytest

from tests.acceptance.conftest import PATIENCE_S, Home, wait_until
from tests.support.fleet import SeparateFarm, separate_farm
from wheelfarm.errors import InputError
from wheelfarm_services.ledger import Ledger, Submission, redis_client
from wheelfarm_services.wakeups import celery_queue

RECONCILER = [sys.executable, "-m", "wheelfarm_services.reconciler"]


@pytest.fixture
def farm(home: Home) -> Iterator[SeparateFarm]:
    """A broker alone."""
    folder = home.root / "farm"
    folder.mkdir()
    with separate_farm(folder, home.upstream.url) as made:
        broker = made.start_broker()
        assert wait_until((folder / "s").is_socket), broker.said
        yield made


def test_reconcilers_repair_what_services_leave_to_them(farm: SeparateFarm) -> None:
    farm.start_services("services", "--no-reconciler")
    ledger = Ledger(farm.broker, wake=lambda queue: None)  # as if each wake-up had been lost
    with redis_client(farm.broker) as redis:
        ledger.submit("r1", [Submission(id="a", queue="nobody", spec="{}")])
        time.sleep(2.5)
        assert redis.llen(celery_queue("nobody")) == 0

        first, second = (farm.start(name, RECONCILER) for name in ("first", "second"))
        assert wait_until(lambda: redis.llen(celery_queue("nobody"))), farm.logs()
        time.sleep(2.5)
        assert redis.llen(celery_queue("nobody")) == 1
        first.kill()
        ledger.submit("r2", [Submission(id="b", queue="other", spec="{}")])
        assert wait_until(lambda: redis.llen(celery_queue("other"))), farm.logs()
    ledger.close()
    second.signal(signal.SIGTERM)
    assert second.process.wait(PATIENCE_S) == 0, second.said


def test_services_and_reconciler_refuse_a_broker_that_drops_keys(home: Home, farm: SeparateFarm) -> None:
    with redis_client(farm.broker) as redis:
        redis.config_set("maxmemory", "100mb")
        redis.config_set("maxmemory-policy", "allkeys-lru")
    done = home.run("services", "--listen", "127.0.0.1:0", environment=farm.environment)
    reconciler = farm.start("reconciler", RECONCILER)

    assert reconciler.process.wait(PATIENCE_S) == done.code == InputError.exit_code
    for said in (done.err, reconciler.said):
        assert "maxmemory-policy allkeys-lru" in said
        assert "hint: Set maxmemory-policy to noeviction" in said
