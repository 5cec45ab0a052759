import logging
from typing import Any, cast

import pytest
from redis import Redis
from redis.exceptions import NoPermissionError

from wheelfarm.errors import FarmUnavailable, InputError
from wheelfarm_services.broker_check import check_broker

SAFE: dict[str, Any] = {
    "redis_version": "7.0.15",
    "maxmemory_policy": "noeviction",
    "maxmemory": 1 << 30,
    "aof_enabled": 1,
}


class FakeRedis:
    """Tells what it is given, or fails with it."""

    def __init__(self, told: "dict[str, Any] | Exception") -> None:
        self.told = told

    def info(self) -> dict[str, Any]:
        if isinstance(self.told, Exception):
            raise self.told
        return self.told


def check(told: "dict[str, Any] | Exception") -> None:
    check_broker(cast(Redis, FakeRedis(told)), reach=lambda: None)


@pytest.mark.parametrize("version", ["6.2.0", "7.0.15", "10.1.0", "", "unstable"])
def test_server_that_keeps_what_it_is_told_is_not_spoken_of(version: str, caplog: pytest.LogCaptureFixture) -> None:
    check({**SAFE, "redis_version": version})
    assert caplog.records == []


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
def test_server_that_drops_keys_is_refused(policy: str) -> None:
    with pytest.raises(InputError, match=policy) as refused:
        check({**SAFE, "maxmemory_policy": policy})
    assert "noeviction" in (refused.value.hint or "")


@pytest.mark.parametrize("version", ["6.0.16", "5.0.14"])
def test_server_that_is_too_old_is_refused(version: str) -> None:
    with pytest.raises(InputError, match=f"{version}.*6[.]2"):
        check({**SAFE, "redis_version": version})


@pytest.mark.parametrize(
    ("told", "warning"),
    [
        ({**SAFE, "maxmemory_policy": "allkeys-lru", "maxmemory": 0}, "would drop jobs"),
        ({**SAFE, "aof_enabled": 0}, "append-only"),
        (NoPermissionError("no rights for INFO"), "could not be checked"),
    ],
)
def test_what_may_lose_jobs_is_warned_of(
    told: "dict[str, Any] | Exception", warning: str, caplog: pytest.LogCaptureFixture
) -> None:
    check(told)
    (record,) = caplog.records
    assert (record.levelno, warning in record.message) == (logging.WARNING, True)


def test_server_that_cannot_be_reached_keeps_nobody_from_starting(caplog: pytest.LogCaptureFixture) -> None:
    def reach() -> None:
        raise FarmUnavailable("Redis is away.")

    check_broker(cast(Redis, FakeRedis(SAFE)), reach=reach)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
