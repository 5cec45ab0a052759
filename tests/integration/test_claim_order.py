"""In which order jobs are claimed: what most depends on, first."""

from collections.abc import Mapping, Sequence

import pytest
from redis import Redis
from redis.exceptions import ResponseError

from wheelfarm_services.ledger import Claim, Ledger, Submission, SuspensionOutcome

QUEUE = "host"
Needs = Mapping[str, Sequence[str]]


def submit(
    ledger: Ledger, *names: str, request: str = "r1", priority: int = 5, seconds: Mapping[str, float] | None = None
) -> None:
    ledger.submit(request, [_submission(name, seconds or {}) for name in names], priority=priority)


def _submission(name: str, seconds: Mapping[str, float]) -> Submission:
    return Submission(id=name, queue=QUEUE, spec="", seconds=seconds.get(name, 0.0))


def run_one(ledger: Ledger, needs: Needs, seconds: Mapping[str, float] | None = None) -> str | None:
    """Claim a job; end it if it has all it needs, else suspend it. Told as its name, with a `?` when suspended."""
    claim = ledger.claim(QUEUE, worker="w1", lease_s=30.0)
    if claim is None:
        return None
    wanted = [_submission(name, seconds or {}) for name in needs.get(claim.job_id, ())]
    if ledger.suspend(claim, wanted).outcome is SuspensionOutcome.WAITING:
        return claim.job_id + "?"
    ledger.complete(claim, "")
    return claim.job_id


def run_all(ledger: Ledger, needs: Needs | None = None, seconds: Mapping[str, float] | None = None) -> list[str]:
    """The turns of one slot until nothing is left to claim."""
    turns = []
    while turn := run_one(ledger, needs or {}, seconds):
        turns.append(turn)
    return turns


def test_jobs_that_nobody_waits_for_are_claimed_as_they_came(ledger: Ledger) -> None:
    submit(ledger, "c", "a", "b")
    assert run_all(ledger) == ["c", "a", "b"]


def test_what_is_waited_for_is_claimed_before_what_came_earlier(ledger: Ledger) -> None:
    submit(ledger, "urllib3", "idna", "certifi")
    needs = {"urllib3": ["hatch-vcs"], "hatch-vcs": ["hatchling"], "hatchling": ["tomlkit"]}
    assert run_all(ledger, needs) == [
        *("urllib3?", "hatch-vcs?", "hatchling?"),
        *("tomlkit", "hatchling", "hatch-vcs"),
        *("idna", "certifi", "urllib3"),
    ]


def suspend_all(ledger: Ledger, needs: Needs, seconds: Mapping[str, float] | None = None) -> None:
    """Claim as many jobs as need something before any of them says so, then suspend them in this order."""
    claims: dict[str, Claim] = {}
    while len(claims) < len(needs):
        claim = ledger.claim(QUEUE, worker="w1", lease_s=30.0)
        assert claim is not None
        claims[claim.job_id] = claim
    for name, wanted in needs.items():
        ledger.suspend(claims[name], [_submission(one, seconds or {}) for one in wanted])


def test_start_of_the_longer_chain_is_claimed_first(ledger: Ledger) -> None:
    submit(ledger, "top", "middle", "other")
    suspend_all(ledger, {"other": ["short"], "middle": ["bottom"], "top": ["middle"]})
    assert run_all(ledger) == ["bottom", "short", "middle", "other", "top"]


def test_new_dependant_raises_what_its_dependency_waits_for(ledger: Ledger) -> None:
    submit(ledger, "a", "b")
    suspend_all(ledger, {"a": ["x1"], "b": ["y1"]})
    submit(ledger, "c", request="r2", priority=4)
    assert run_one(ledger, {"c": ["b"]}) == "c?"
    assert run_all(ledger) == ["y1", "b", "c", "x1", "a"]


def test_job_of_many_waiting_ones_is_claimed_before_that_of_one(ledger: Ledger) -> None:
    submit(ledger, "a", "b", "c")
    suspend_all(ledger, {"a": ["rare"], "b": ["common"], "c": ["common"]})
    assert run_all(ledger)[:2] == ["common", "rare"]


def test_one_long_build_outweighs_a_chain_of_short_ones(ledger: Ledger) -> None:
    seconds = {"chain1": 2.0, "chain2": 2.0, "numpy": 300.0}
    submit(ledger, "top", "a", "numpy", "b", seconds=seconds)
    suspend_all(ledger, {"top": ["chain2"], "b": ["setuptools"], "a": ["numpy"], "numpy": ["cython"]}, seconds)
    turns = run_all(ledger, {"chain2": ["chain1"]}, seconds)
    assert turns == ["cython", "numpy", "setuptools", "chain2?", "chain1", "chain2", "a", "b", "top"]


def test_urgent_job_is_claimed_before_one_that_much_depends_on(ledger: Ledger) -> None:
    submit(ledger, "top", priority=5)
    run_one(ledger, {"top": ["bottom"]}, {"bottom": 86000.0})
    submit(ledger, "urgent", request="r2", priority=4)
    assert run_all(ledger) == ["urgent", "bottom", "top"]


def test_impact_beyond_the_most_that_is_told_apart_keeps_the_order_of_arrival(ledger: Ledger) -> None:
    submit(ledger, "a", "b", seconds={"a": 1e5, "b": 1e6})
    assert run_all(ledger) == ["a", "b"]


def test_job_weighs_as_long_as_the_last_of_its_subject_took(ledger: Ledger) -> None:
    def job(name: str) -> Submission:
        return Submission(id=name, queue=QUEUE, spec="", subject=name.rstrip("0123456789"))

    ledger.submit("r1", [job("numpy1")])
    claim = ledger.claim(QUEUE, worker="w1", lease_s=30.0)
    assert claim is not None
    ledger.complete(claim, "", seconds=300.0)
    ledger.remember_seconds({"numpy": 1.0, "cython": 90.0})
    ledger.submit("r1", [job("six2"), job("cython2"), job("numpy2")])
    assert run_all(ledger) == ["numpy2", "cython2", "six2"]


def test_guess_counts_only_for_what_nobody_has_seen(ledger: Ledger) -> None:
    ledger.remember_seconds({"known-long": 90.0, "known-short": 1.0})
    guesses = {"unknown": 50.0, "known-short": 70.0, "known-long": 1.0, "other": 0.0}
    submissions = [
        Submission(id=name, queue=QUEUE, spec="", subject=name, seconds=guess) for name, guess in guesses.items()
    ]
    ledger.submit("r1", submissions)
    assert run_all(ledger) == ["known-long", "unknown", "other", "known-short"]


# Between requests.


def claimed(ledger: Ledger, count: int) -> str:
    """Of the next claims the first letter of each job."""
    claims = [ledger.claim(QUEUE, worker="w1", lease_s=30.0) for _ in range(count)]
    return "".join(claim.job_id[0] for claim in claims if claim is not None)


def many(letter: str, count: int, share: str = "", ledger: Ledger | None = None) -> list[Submission]:
    jobs = [_submission(f"{letter}{number}", {}) for number in range(count)]
    if ledger is not None:
        ledger.submit(letter, jobs, share=share)
    return jobs


def test_small_request_takes_turns_with_a_large_one_that_came_before(ledger: Ledger) -> None:
    many("L", 1000, ledger=ledger)
    assert claimed(ledger, 50) == "L" * 50
    many("s", 3, ledger=ledger)
    assert claimed(ledger, 8) == "LsLsLsLL"


def test_many_small_requests_do_not_keep_a_large_one_waiting(ledger: Ledger) -> None:
    many("L", 20, ledger=ledger)
    turns = ""
    for number in range(12):
        ledger.submit(f"small{number}", [_submission(f"s{number}", {})])
        turns += claimed(ledger, 1)
    assert 4 <= turns.count("L") <= 8


def test_request_that_was_away_has_saved_up_no_turns(ledger: Ledger) -> None:
    many("a", 2, ledger=ledger)
    many("b", 100, ledger=ledger)
    assert claimed(ledger, 52).count("b") == 50
    ledger.submit("a", [_submission(f"a-again{number}", {}) for number in range(10)])
    assert claimed(ledger, 8).count("b") == 4


def test_tenants_take_equal_turns_whatever_number_of_requests_they_have(ledger: Ledger) -> None:
    for letter in "abcd":
        many(letter, 50, "one", ledger)
    many("z", 50, "two", ledger)
    turns = claimed(ledger, 40)
    assert 18 <= turns.count("z") <= 22
    assert all(4 <= turns.count(letter) <= 6 for letter in "abcd")


def test_job_of_two_requests_is_claimed_in_the_turn_that_comes_first(ledger: Ledger) -> None:
    many("L", 50, ledger=ledger)
    ledger.submit("small", [_submission("L49", {}), _submission("own", {})])
    claims = [ledger.claim(QUEUE, worker="w1", lease_s=30.0) for _ in range(52)]
    names = [claim.job_id for claim in claims if claim is not None]
    assert names[:4] == ["L0", "L49", "L1", "own"]
    assert len(names) == len(set(names)) == 51


def test_dependencies_are_claimed_in_the_turns_of_all_who_want_them(ledger: Ledger) -> None:
    ledger.submit("top", [_submission("top", {})])
    assert run_one(ledger, {"top": ["middle"]}) == "top?"
    assert run_one(ledger, {"middle": ["bottom"]}) == "middle?"
    ledger.submit("top", [_submission(f"x{number}", {f"x{number}": 9000.0}) for number in range(20)])
    ledger.submit("late", [_submission("middle", {})])
    assert claimed(ledger, 3).count("b") == 1


def test_share_of_other_characters_is_refused(ledger: Ledger) -> None:
    with pytest.raises(ResponseError, match="share must be"):
        ledger.submit("r1", [], share="a b")


def test_emptied_queue_leaves_no_line_behind(ledger: Ledger, server: Redis) -> None:
    for letter in "abc":
        many(letter, 5, ledger=ledger)
    ledger.cancel("b")
    claimed(ledger, 20)
    kinds = {str(key).split(":")[1] for key in server.scan_iter("*")}
    assert kinds.isdisjoint({"s", "l", "c", "q"})
