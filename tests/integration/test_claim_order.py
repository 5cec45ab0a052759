"""In which order jobs are claimed: what most depends on, first."""

from collections.abc import Mapping, Sequence

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
    run_one(ledger, {"top": ["bottom"]}, {"bottom": 9000.0})
    submit(ledger, "urgent", request="r2", priority=4)
    assert run_all(ledger) == ["urgent", "bottom", "top"]


def test_impact_beyond_the_most_that_is_told_apart_keeps_the_order_of_arrival(ledger: Ledger) -> None:
    seconds = {"a": 1e5, "b": 1e6}
    submit(ledger, "a", "b", seconds=seconds)
    assert run_all(ledger) == ["a", "b"]
