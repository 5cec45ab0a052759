"""The client's patience with a farm."""

from collections.abc import Callable

import httpx
import pytest

from wheelfarm.errors import FarmUnavailable, NotFound, TooManyRequests, WheelfarmError
from wheelfarm.farm import Farm

ANSWER = {"now": 1.0, "jobs": [], "requests": [], "failures": [], "workers": []}


def farm_that(answers: Callable[[int], httpx.Response], monkeypatch: pytest.MonkeyPatch, **options: float) -> Farm:
    """A farm whose n-th answer is given."""
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return answers(len(asked))

    monkeypatch.setattr("time.sleep", lambda _: None)
    said: list[str] = []
    farm = Farm("http://farm.example", "t", tell=said.append, **options)  # type: ignore[arg-type]
    farm._http = httpx.Client(base_url="http://farm.example", transport=httpx.MockTransport(answer))
    farm.said = said  # type: ignore[attr-defined]
    return farm


def refusal(error: WheelfarmError, retry_after: str = "1") -> httpx.Response:
    return httpx.Response(error.status, json=error.to_json(), headers={"Retry-After": retry_after})


@pytest.mark.parametrize("error", [FarmUnavailable("The store is gone."), TooManyRequests("Too often.")])
def test_client_waits_for_a_farm_that_asks_it_to_and_says_so_once(
    error: WheelfarmError, monkeypatch: pytest.MonkeyPatch
) -> None:
    farm = farm_that(
        lambda count: refusal(error) if count < 40 else httpx.Response(200, json=ANSWER), monkeypatch, outage_s=600.0
    )
    assert farm.status().jobs == ()
    (said,) = farm.said  # type: ignore[attr-defined]
    assert said.startswith(error.message)


@pytest.mark.parametrize(("known", "waits"), [(True, True), (False, False)])
def test_client_waits_longer_for_a_farm_that_has_answered_before(
    known: bool, waits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that never did may have another address."""

    def answer(count: int) -> httpx.Response:
        if count == 1 and known:
            return refusal(FarmUnavailable("busy"))
        if count < 40:
            raise httpx.ConnectError("refused")
        return httpx.Response(200, json=ANSWER)

    now = iter(range(10_000))
    monkeypatch.setattr("time.monotonic", lambda: float(next(now)))
    farm = farm_that(answer, monkeypatch, outage_s=600.0)
    if not waits:
        with pytest.raises(FarmUnavailable, match="does not answer"):
            farm.status()
        return
    assert farm.status().jobs == ()
    assert "does not answer: refused. Waiting for it" in farm.said[-1]  # type: ignore[attr-defined]


def test_client_does_not_wait_for_what_will_not_change(monkeypatch: pytest.MonkeyPatch) -> None:
    farm = farm_that(lambda count: refusal(NotFound("no")), monkeypatch, outage_s=600.0)
    with pytest.raises(NotFound):
        farm.status()


def test_client_gives_up_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    farm = farm_that(lambda count: refusal(FarmUnavailable("gone")), monkeypatch, patience_s=-1.0)
    with pytest.raises(FarmUnavailable):
        farm.status()
