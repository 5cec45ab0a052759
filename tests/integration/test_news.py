"""News of jobs against real servers. Waits are so long that only an event can end them in time."""

import asyncio
from collections.abc import Iterator

import pytest

from wheelfarm_services.ledger import Ledger, Submission
from wheelfarm_services.ledger.news import news

FOR_EVER_S = 10_000.0
IN_TIME_S = 180.0


@pytest.fixture
def ledger(redis_url: str) -> Iterator[Ledger]:
    ledger = Ledger(redis_url, wake=lambda queue: None, patience_s=5)
    yield ledger
    ledger.close()


def submit(ledger: Ledger, name: str) -> None:
    ledger.submit(f"request of {name}", [Submission(id=name, queue="host", spec="{}")])


def finish(ledger: Ledger) -> None:
    claim = ledger.claim("host", worker="w", lease_s=30)
    assert claim is not None
    ledger.complete(claim, "{}")


async def hear(
    redis_url: str, after: str, *awaited: str, wait_s: float = FOR_EVER_S, gather_s: float = FOR_EVER_S
) -> None:
    url = redis_url.replace("redis+socket", "unix")
    told = news(url, "{wheelfarm}:ev", after, awaited, wait_s=wait_s, gather_s=gather_s)
    await asyncio.wait_for(told, IN_TIME_S)


def test_end_of_an_awaited_job_is_told_at_once(redis_url: str, ledger: Ledger) -> None:
    async def scene() -> None:
        submit(ledger, "a")
        waiting = asyncio.create_task(hear(redis_url, ledger.last_event(), "a"))
        await asyncio.sleep(0.05)
        finish(ledger)
        await waiting

    asyncio.run(scene())


def test_what_happened_since_the_event_is_not_missed(redis_url: str, ledger: Ledger) -> None:
    before = ledger.last_event()
    assert before == "0-0"
    submit(ledger, "a")
    finish(ledger)
    asyncio.run(hear(redis_url, before, "a"))


def test_other_events_are_told_when_they_have_gathered(redis_url: str, ledger: Ledger) -> None:
    submit(ledger, "a")
    before = ledger.last_event()
    submit(ledger, "b")
    asyncio.run(hear(redis_url, before, "a", gather_s=0.01))
    with pytest.raises(TimeoutError):
        asyncio.run(asyncio.wait_for(hear(redis_url, before, "a"), 0.1))


def test_nothing_is_told_in_the_end_too(redis_url: str, ledger: Ledger) -> None:
    asyncio.run(hear(redis_url, ledger.last_event(), "a", wait_s=0.01))


def test_server_that_is_gone_is_left_to_whoever_asks_next() -> None:
    asyncio.run(hear("redis+socket:///gone/s", "0-0", "a", gather_s=0.01))
