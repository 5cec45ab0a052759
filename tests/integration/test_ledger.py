"""The ledger against real servers: what becomes of jobs when workers, requests and Redis come and go."""

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256

import pytest
from redis import Redis
from redis.exceptions import ResponseError

from tests.support.waiting import wait_until
from wheelfarm.errors import FarmUnavailable, InputError
from wheelfarm.job import FailureClass, JobState
from wheelfarm_services.ledger import (
    Beat,
    Claim,
    Completion,
    FailureOutcome,
    JobRecord,
    Ledger,
    Submission,
    Suspension,
    SuspensionOutcome,
)

QUEUE = "host"
LEASE_S = 30.0
LAPSED_S = 0.0


def submission(name: str, queue: str = QUEUE) -> Submission:
    return Submission(id=name, queue=queue, spec=f"spec of {name}")


def submit(ledger: Ledger, *names: str, request: str = "r1", priority: int = 5, force: bool = False) -> None:
    ledger.submit(request, [submission(name) for name in names], priority=priority, force=force)


def claim(ledger: Ledger, *, worker: str = "w1", lease_s: float = LEASE_S) -> Claim:
    claimed = ledger.claim(QUEUE, worker=worker, lease_s=lease_s)
    assert claimed is not None
    return claimed


def suspend(ledger: Ledger, claimed: Claim, *names: str) -> Suspension:
    return ledger.suspend(claimed, [submission(name) for name in names])


def job(ledger: Ledger, name: str) -> JobRecord:
    record = ledger.job(name)
    assert record is not None
    return record


def state(ledger: Ledger, name: str) -> JobState:
    return job(ledger, name).state


def fail(ledger: Ledger, claimed: Claim, *, retry: bool = False, remember_s: float = 3600.0) -> FailureOutcome:
    return ledger.fail(claimed, "broken", retry=retry, remember_s=remember_s)


def claimed_names(ledger: Ledger) -> list[str]:
    found = []
    while claimed := ledger.claim(QUEUE, worker="w1", lease_s=LEASE_S):
        found.append(claimed.job_id)
    return found


def make_chain(ledger: Ledger, *names: str) -> None:
    """Each name waits for the next; the last one is queued."""
    submit(ledger, names[0])
    for dependency in names[1:]:
        assert suspend(ledger, claim(ledger), dependency).outcome is SuspensionOutcome.WAITING


# The way of one job.


def test_submitted_job_is_queued_and_wakes_its_queue(ledger: Ledger, woken: list[str]) -> None:
    states = ledger.submit("r1", [submission("a"), submission("b", "other")])
    assert states == {"a": JobState.QUEUED, "b": JobState.QUEUED}
    assert woken == [QUEUE, "other"]
    assert ledger.queues() == {QUEUE: 1, "other": 1}


def test_claimed_job_tells_its_spec_and_first_attempt(ledger: Ledger) -> None:
    submit(ledger, "a")
    claimed = claim(ledger)
    assert (claimed.job_id, claimed.spec, claimed.attempt, claimed.queue) == ("a", "spec of a", 1, QUEUE)
    record = job(ledger, "a")
    assert (record.state, record.worker, record.cancel) == (JobState.RUNNING, "w1", False)
    assert record.finished_at == 0 < record.queued_at <= record.started_at


def test_job_keeps_the_trace_of_who_first_wanted_it(ledger: Ledger) -> None:
    ledger.submit("r1", [submission("a")], trace="first")
    ledger.submit("r2", [submission("a"), submission("b")], trace="second")
    first = claim(ledger)
    assert (first.job_id, first.trace) == ("a", "first")
    ledger.suspend(first, [submission("b"), submission("c")], trace="third")
    assert {one.job_id: one.trace for one in (claim(ledger), claim(ledger))} == {"b": "second", "c": "third"}


def test_job_that_begins_anew_forgets_its_trace(ledger: Ledger) -> None:
    ledger.submit("r1", [submission("a")], trace="first")
    fail(ledger, claim(ledger))
    submit(ledger, "a", request="r2", force=True)
    assert claim(ledger).trace == ""


def test_trace_too_long_is_refused(ledger: Ledger) -> None:
    with pytest.raises(ResponseError, match="trace"):
        ledger.submit("r1", [submission("a")], trace="x" * 257)


def test_empty_queue_gives_no_claim(ledger: Ledger) -> None:
    assert ledger.claim(QUEUE, worker="w1", lease_s=LEASE_S) is None


def test_completed_job_keeps_its_result(ledger: Ledger) -> None:
    submit(ledger, "a")
    assert ledger.complete(claim(ledger), "wheel") is Completion.OK
    record = job(ledger, "a")
    assert (record.state, record.result) == (JobState.DONE, "wheel")
    assert record.finished_at >= record.started_at


def test_completing_twice_is_a_duplicate(ledger: Ledger) -> None:
    submit(ledger, "a")
    claimed = claim(ledger)
    ledger.complete(claimed, "first")
    assert ledger.complete(claimed, "second") is Completion.DUPLICATE
    assert job(ledger, "a").result == "first"


def test_unknown_job_is_none(ledger: Ledger) -> None:
    assert ledger.job("nobody") is None


def test_final_states_expire_and_others_do_not(ledger: Ledger, server: Redis) -> None:
    submit(ledger, "a", "b")
    ledger.complete(claim(ledger), "wheel")
    assert 6 * 86400 < server.ttl("{wheelfarm}:j:a") <= 7 * 86400
    assert server.ttl("{wheelfarm}:j:b") == -1


# Single flight.


def test_job_of_two_requests_is_claimed_once(ledger: Ledger) -> None:
    submit(ledger, "a", request="r1")
    submit(ledger, "a", request="r2")
    assert claimed_names(ledger) == ["a"]


def test_done_job_is_not_begun_again(ledger: Ledger) -> None:
    submit(ledger, "a")
    ledger.complete(claim(ledger), "wheel")
    assert ledger.submit("r2", [submission("a")], force=True) == {"a": JobState.DONE}
    assert claimed_names(ledger) == []


def test_remembered_failure_answers_a_new_request(ledger: Ledger) -> None:
    submit(ledger, "a")
    assert fail(ledger, claim(ledger)) is FailureOutcome.FAILED
    assert ledger.submit("r2", [submission("a")]) == {"a": JobState.FAILED}
    assert job(ledger, "a").failure == "broken"


def test_force_begins_a_failed_job_anew(ledger: Ledger) -> None:
    submit(ledger, "a")
    fail(ledger, claim(ledger))
    assert ledger.submit("r1", [submission("a")], force=True) == {"a": JobState.QUEUED}
    record = job(ledger, "a")
    assert (record.failure, record.attempt, record.finished_at) == ("", 0, 0)


def test_forgotten_failure_stays_for_its_request_and_not_for_others(ledger: Ledger) -> None:
    submit(ledger, "a", request="r1")
    fail(ledger, claim(ledger), remember_s=0)
    assert ledger.submit("r1", [submission("a")]) == {"a": JobState.FAILED}
    assert ledger.submit("r2", [submission("a")]) == {"a": JobState.QUEUED}


def test_force_reaches_dependencies_that_failed_before_it(ledger: Ledger) -> None:
    make_chain(ledger, "a", "b")
    fail(ledger, claim(ledger))
    time.sleep(0.002)  # the ledger tells failures before the force from those after it by the millisecond
    submit(ledger, "a", request="r2", force=True)
    assert suspend(ledger, claim(ledger), "b").outcome is SuspensionOutcome.WAITING
    assert claimed_names(ledger) == ["b"]


def test_failure_after_the_force_is_not_tried_again(ledger: Ledger) -> None:
    submit(ledger, "a", "c", force=True)
    claims = [claim(ledger), claim(ledger)]
    suspend(ledger, claims[0], "b")
    time.sleep(0.002)
    fail(ledger, claim(ledger))
    assert suspend(ledger, claims[1], "b").outcome is SuspensionOutcome.DEPENDENCY_FAILED


# Priority.


def test_lower_priority_number_is_claimed_sooner_and_equals_by_arrival(ledger: Ledger) -> None:
    submit(ledger, "late", "later", priority=9)
    submit(ledger, "first", "second", priority=0)
    assert claimed_names(ledger) == ["first", "second", "late", "later"]


def test_joining_with_a_higher_urgency_moves_a_queued_job_up(ledger: Ledger) -> None:
    submit(ledger, "a", "b", priority=5)
    submit(ledger, "b", request="r2", priority=1)
    submit(ledger, "b", request="r3", priority=9)
    assert claimed_names(ledger) == ["b", "a"]


def test_urgency_reaches_what_a_waiting_job_waits_for(ledger: Ledger) -> None:
    make_chain(ledger, "a", "b", "c")
    submit(ledger, "x", request="r2", priority=3)
    submit(ledger, "a", request="r3", priority=1)
    assert claim(ledger).job_id == "c"
    assert [job(ledger, name).priority for name in "abc"] == [1, 1, 1]


def test_new_dependency_has_the_priority_of_its_parent(ledger: Ledger) -> None:
    submit(ledger, "a", priority=2)
    suspend(ledger, claim(ledger), "b")
    assert job(ledger, "b").priority == 2


# Dependencies.


def test_diamond_is_built_from_the_bottom_each_once(ledger: Ledger) -> None:
    needs = {"top": ("left", "right"), "left": ("bottom",), "right": ("bottom",), "bottom": ()}
    submit(ledger, "top")
    completed = []
    while claimed := ledger.claim(QUEUE, worker="w1", lease_s=LEASE_S):
        if suspend(ledger, claimed, *needs[claimed.job_id]).outcome is SuspensionOutcome.READY:
            ledger.complete(claimed, "")
            completed.append(claimed.job_id)
    assert completed in (["bottom", "left", "right", "top"], ["bottom", "right", "left", "top"])


def test_suspended_job_names_what_it_waits_for_and_is_not_charged(ledger: Ledger) -> None:
    submit(ledger, "done", "a")
    ledger.complete(claim(ledger), "")
    suspension = suspend(ledger, claim(ledger), "b", "done", "c")
    assert suspension == Suspension(outcome=SuspensionOutcome.WAITING, members=("b", "c"))
    record = job(ledger, "a")
    assert (record.state, record.attempt, record.worker) == (JobState.WAITING, 0, "")
    assert (record.waits_for, record.dependencies) == (("b", "c"), ("b", "c", "done"))


def test_ready_job_keeps_its_claim(ledger: Ledger) -> None:
    submit(ledger, "b", "a")
    ledger.complete(claim(ledger), "")
    claimed = claim(ledger)
    assert suspend(ledger, claimed, "b") == Suspension(outcome=SuspensionOutcome.READY)
    assert ledger.beat(claimed, lease_s=LEASE_S) is Beat.OK


def test_job_is_queued_again_by_its_last_dependency_only(ledger: Ledger, woken: list[str]) -> None:
    submit(ledger, "a")
    suspend(ledger, claim(ledger), "b", "c")
    ledger.complete(claim(ledger), "")
    assert state(ledger, "a") is JobState.WAITING
    woken.clear()
    ledger.complete(claim(ledger), "")
    assert state(ledger, "a") is JobState.QUEUED
    assert woken == [QUEUE]


@pytest.mark.parametrize("members", [("a",), ("a", "b"), ("a", "b", "c")])
def test_cycle_is_named_and_changes_nothing(ledger: Ledger, members: tuple[str, ...]) -> None:
    make_chain(ledger, *members)
    last = claim(ledger)
    suspension = suspend(ledger, last, "new", members[0])
    assert suspension.outcome is SuspensionOutcome.CYCLE
    assert suspension.members == (members[-1], *members)
    assert ledger.job("new") is None
    assert ledger.beat(last, lease_s=LEASE_S) is Beat.OK


def test_failed_dependency_is_named_before_others_are_begun(ledger: Ledger) -> None:
    submit(ledger, "bad", "a")
    fail(ledger, claim(ledger))
    suspension = suspend(ledger, claim(ledger), "new", "bad")
    assert suspension == Suspension(outcome=SuspensionOutcome.DEPENDENCY_FAILED, members=("bad",))
    assert ledger.job("new") is None
    assert state(ledger, "a") is JobState.RUNNING


def test_graph_past_the_bound_is_refused(ledger: Ledger, server: Redis) -> None:
    submit(ledger, "a")
    server.sadd("{wheelfarm}:u:b", *(f"n{number}" for number in range(20_001)))
    assert suspend(ledger, claim(ledger), "b").outcome is SuspensionOutcome.TOO_LARGE


# Failures.


def test_failure_reaches_all_waiting_ancestors_with_its_cause(ledger: Ledger) -> None:
    submit(ledger, "top", "other")
    suspend(ledger, claim(ledger), "left", "right")
    # What is waited for is claimed before what nobody waits for, though that was queued earlier.
    left, right, other = claim(ledger), claim(ledger), claim(ledger)
    suspend(ledger, left, "bottom")
    suspend(ledger, right, "bottom")
    fail(ledger, claim(ledger))
    for name in ("left", "right", "top"):
        record = job(ledger, name)
        assert (record.state, record.failure, record.cause) == (JobState.FAILED, "", "bottom")
    record = job(ledger, "bottom")
    assert (record.state, record.failure, record.cause) == (JobState.FAILED, "broken", "")
    assert ledger.beat(other, lease_s=LEASE_S) is Beat.OK


def test_failure_climbs_a_chain_longer_than_any_recursion(ledger: Ledger) -> None:
    names = [f"n{number}" for number in range(1000)]
    make_chain(ledger, *names)
    fail(ledger, claim(ledger))
    assert {(record.state, record.cause) for record in ledger.request("r1")[:-1]} == {(JobState.FAILED, names[-1])}


def test_retry_after_a_pause_is_not_claimed_before_it_is_over(ledger: Ledger, woken: list[str]) -> None:
    submit(ledger, "short", "long")
    pauses = {"short": 0.001, "long": 3600.0}
    claims = [claim(ledger), claim(ledger)]
    outcomes = [ledger.fail(one, "", retry=True, remember_s=0, pause_s=pauses[one.job_id]) for one in claims]
    assert outcomes == [FailureOutcome.REQUEUED] * 2
    assert {state(ledger, name) for name in pauses} == {JobState.QUEUED}
    woken.clear()
    time.sleep(0.01)
    ledger.reap()
    assert (claimed_names(ledger), woken) == (["short"], [QUEUE])
    assert state(ledger, "long") is JobState.QUEUED


def test_cancelled_job_does_not_come_back_after_its_pause(ledger: Ledger) -> None:
    submit(ledger, "a")
    ledger.fail(claim(ledger), "", retry=True, remember_s=0, pause_s=0.01)
    assert ledger.cancel("r1") == ["a"]
    time.sleep(0.02)
    ledger.reap()
    assert claimed_names(ledger) == []


def test_request_that_nobody_asks_about_expires_and_others_do_not(ledger: Ledger) -> None:
    ledger.submit("durable", [submission("a")])
    ledger.submit("asked-about", [submission("a")], alive_s=0.001)
    ledger.submit("left", [submission("a")], alive_s=0.001)
    ledger.keep("asked-about", alive_s=60)
    ledger.keep("durable", alive_s=0.001)
    time.sleep(0.01)
    assert ledger.expired() == ["left"]
    ledger.cancel("left")
    assert ledger.expired() == []
    assert claimed_names(ledger) == ["a"]


def test_one_of_many_takes_a_turn(ledger: Ledger) -> None:
    assert [ledger.take_turn("sweep", 60) for _ in range(3)] == [True, False, False]
    assert ledger.take_turn("other", 60)


def test_counts_tell_jobs_by_state_and_the_age_of_the_oldest(ledger: Ledger) -> None:
    submit(ledger, "a", "b", "c", "d")
    suspend(ledger, claim(ledger), "x")
    for _ in range(2):
        claimed = claim(ledger)
    ledger.complete(claimed, "")
    counts = ledger.counts()[QUEUE]
    assert counts.live == {JobState.WAITING: 1, JobState.QUEUED: 2, JobState.RUNNING: 1}
    assert counts.ended == {JobState.DONE: 1, JobState.FAILED: 0, JobState.CANCELLED: 0}
    assert 0 <= counts.oldest_s < 60
    claimed_names(ledger)
    assert ledger.counts()[QUEUE].oldest_s == 0


def test_retry_queues_the_job_until_attempts_are_used_up(ledger: Ledger) -> None:
    submit(ledger, "a")
    outcomes = [fail(ledger, claim(ledger), retry=True) for _ in range(3)]
    assert outcomes == [FailureOutcome.REQUEUED, FailureOutcome.REQUEUED, FailureOutcome.FAILED]
    assert job(ledger, "a").attempt == 3


# Claims, leases and fences.


def test_lapsed_lease_returns_job_to_its_queue(ledger: Ledger, woken: list[str]) -> None:
    submit(ledger, "a")
    claim(ledger, lease_s=LAPSED_S)
    woken.clear()
    assert ledger.reap() == 1
    assert state(ledger, "a") is JobState.QUEUED
    assert woken == [QUEUE]


def test_beat_keeps_the_lease(ledger: Ledger) -> None:
    submit(ledger, "a")
    claimed = claim(ledger, lease_s=LAPSED_S)
    assert ledger.beat(claimed, lease_s=LEASE_S) is Beat.OK
    assert ledger.reap() == 0


def test_job_that_loses_every_worker_fails_as_worker_lost(ledger: Ledger) -> None:
    submit(ledger, "a")
    for _ in range(2):
        claim(ledger, lease_s=LAPSED_S)
        ledger.reap(max_attempts=2)
    record = job(ledger, "a")
    assert record.state is JobState.FAILED
    assert json.loads(record.failure)["failure_class"] == FailureClass.WORKER_LOST
    assert ledger.submit("r2", [submission("a")]) == {"a": JobState.QUEUED}


def superseded_claim(ledger: Ledger) -> tuple[Claim, Claim]:
    """An old claim whose lease lapsed, and the one that holds the job now."""
    submit(ledger, "a")
    old = claim(ledger, worker="old", lease_s=LAPSED_S)
    ledger.reap()
    return old, claim(ledger, worker="new")


def test_superseded_worker_is_told_it_lost(ledger: Ledger) -> None:
    old, new = superseded_claim(ledger)
    assert new.fence > old.fence
    assert ledger.beat(old, lease_s=LEASE_S) is Beat.LOST
    assert suspend(ledger, old, "b").outcome is SuspensionOutcome.LOST
    assert fail(ledger, old) is FailureOutcome.LOST
    assert ledger.beat(new, lease_s=LEASE_S) is Beat.OK


def test_late_result_of_a_superseded_worker_counts(ledger: Ledger) -> None:
    old, new = superseded_claim(ledger)
    assert ledger.complete(old, "late") is Completion.OK
    assert ledger.beat(new, lease_s=LEASE_S) is Beat.LOST
    assert ledger.complete(new, "later") is Completion.DUPLICATE
    assert job(ledger, "a").result == "late"


def test_late_result_takes_the_job_out_of_its_queue(ledger: Ledger) -> None:
    submit(ledger, "a")
    old = claim(ledger, lease_s=LAPSED_S)
    ledger.reap()
    assert ledger.complete(old, "late") is Completion.OK
    assert ledger.queues() == {QUEUE: 0}


def test_late_result_frees_a_suspended_job_from_its_dependencies(ledger: Ledger) -> None:
    old, new = superseded_claim(ledger)
    suspend(ledger, new, "b")
    ledger.complete(old, "late")
    ledger.complete(claim(ledger), "")
    assert state(ledger, "a") is JobState.DONE
    assert claimed_names(ledger) == []


def test_release_returns_only_this_workers_jobs_uncharged(ledger: Ledger, woken: list[str]) -> None:
    submit(ledger, "a", "b", "c")
    for worker in ("w1", "w2", "w1"):
        claim(ledger, worker=worker)
    woken.clear()
    assert ledger.release("w1") == 2
    assert woken == [QUEUE, QUEUE]
    assert [job(ledger, name).attempt for name in "abc"] == [0, 1, 0]
    assert state(ledger, "b") is JobState.RUNNING


def test_job_that_keeps_killing_its_worker_fails(ledger: Ledger) -> None:
    submit(ledger, "a")
    for _ in range(3):
        claim(ledger)
        ledger.release("w1", max_releases=3)
    assert state(ledger, "a") is JobState.FAILED


def test_job_that_is_handed_back_is_claimable_at_once_and_uncharged(ledger: Ledger, woken: list[str]) -> None:
    submit(ledger, "a")
    held = claim(ledger)
    woken.clear()
    for _ in range(20):
        assert ledger.hand_back(held) is FailureOutcome.REQUEUED
        held = claim(ledger)
    assert woken == [QUEUE] * 20
    assert job(ledger, "a").attempt == 1


def test_job_that_another_worker_has_is_not_handed_back(ledger: Ledger) -> None:
    old, _ = superseded_claim(ledger)
    assert ledger.hand_back(old) is FailureOutcome.LOST
    assert state(ledger, "a") is JobState.RUNNING


def test_cancelled_job_that_is_handed_back_is_cancelled(ledger: Ledger) -> None:
    submit(ledger, "a")
    held = claim(ledger)
    ledger.cancel("r1")
    assert ledger.hand_back(held) is FailureOutcome.CANCELLED
    assert state(ledger, "a") is JobState.CANCELLED


# Cancelling.


def test_cancel_takes_the_whole_tree_that_nobody_else_wants(ledger: Ledger) -> None:
    make_chain(ledger, "a", "b", "c")
    assert sorted(ledger.cancel("r1")) == ["a", "b", "c"]
    assert {record.state for record in ledger.request("r1")} == {JobState.CANCELLED}
    assert claimed_names(ledger) == []


def test_cancel_leaves_what_another_request_needs(ledger: Ledger) -> None:
    submit(ledger, "a", request="r1")
    submit(ledger, "b", request="r2")
    a, b = claim(ledger), claim(ledger)
    suspend(ledger, a, "shared", "own")
    suspend(ledger, b, "shared")
    assert sorted(ledger.cancel("r1")) == ["a", "own"]
    assert claimed_names(ledger) == ["shared"]
    assert state(ledger, "b") is JobState.WAITING


def test_running_job_hears_of_its_cancellation_and_ends_cancelled(ledger: Ledger) -> None:
    submit(ledger, "a")
    claimed = claim(ledger)
    assert ledger.cancel("r1") == ["a"]
    assert job(ledger, "a").cancel
    assert ledger.beat(claimed, lease_s=LEASE_S) is Beat.CANCEL
    assert fail(ledger, claimed, retry=True) is FailureOutcome.CANCELLED
    assert state(ledger, "a") is JobState.CANCELLED
    assert ledger.complete(claimed, "late") is Completion.GONE


def test_cancelled_job_that_suspends_is_cancelled_then(ledger: Ledger) -> None:
    submit(ledger, "a")
    claimed = claim(ledger)
    ledger.cancel("r1")
    assert suspend(ledger, claimed, "b").outcome is SuspensionOutcome.LOST
    assert state(ledger, "a") is JobState.CANCELLED
    assert ledger.job("b") is None


def test_cancelled_job_whose_worker_died_is_not_queued_again(ledger: Ledger) -> None:
    submit(ledger, "a")
    claim(ledger, lease_s=LAPSED_S)
    ledger.cancel("r1")
    ledger.reap()
    assert state(ledger, "a") is JobState.CANCELLED


def test_new_request_takes_a_job_from_a_worker_told_to_stop(ledger: Ledger) -> None:
    submit(ledger, "a", request="r1")
    claimed = claim(ledger)
    ledger.cancel("r1")
    submit(ledger, "a", request="r2")
    assert ledger.beat(claimed, lease_s=LEASE_S) is Beat.LOST
    again = claim(ledger)
    assert (again.attempt, ledger.beat(again, lease_s=LEASE_S)) == (1, Beat.OK)


def test_cancelled_job_stays_so_for_its_request_and_not_for_others(ledger: Ledger) -> None:
    submit(ledger, "a", request="r1")
    ledger.cancel("r1")
    assert ledger.submit("r1", [submission("a")]) == {"a": JobState.CANCELLED}
    assert ledger.submit("r2", [submission("a")]) == {"a": JobState.QUEUED}


def test_cancelling_an_unknown_request_cancels_nothing(ledger: Ledger) -> None:
    assert ledger.cancel("nobody") == []


# A job is cancelled, whoever wants it.


def test_cancelled_job_takes_all_that_wait_for_it(ledger: Ledger) -> None:
    make_chain(ledger, "a", "b", "c")
    assert sorted(ledger.cancel_job("b")) == ["a", "b", "c"]
    assert {state(ledger, name) for name in "abc"} == {JobState.CANCELLED}
    assert claimed_names(ledger) == []


def test_cancelled_job_leaves_what_others_need(ledger: Ledger) -> None:
    submit(ledger, "a", request="r1")
    submit(ledger, "b", request="r2")
    a, b = claim(ledger), claim(ledger)
    suspend(ledger, a, "shared", "own")
    suspend(ledger, b, "shared")
    submit(ledger, "asked-for", request="r3")
    assert sorted(ledger.cancel_job("a")) == ["a", "own"]
    assert claimed_names(ledger) == ["shared", "asked-for"]
    assert state(ledger, "b") is JobState.WAITING


def test_cancelled_job_that_runs_is_told_and_its_parents_end_at_once(ledger: Ledger) -> None:
    make_chain(ledger, "a", "b")
    claimed = claim(ledger)
    assert sorted(ledger.cancel_job("b")) == ["a", "b"]
    assert (state(ledger, "a"), state(ledger, "b")) == (JobState.CANCELLED, JobState.RUNNING)
    assert ledger.beat(claimed, lease_s=LEASE_S) is Beat.CANCEL
    assert fail(ledger, claimed, retry=True) is FailureOutcome.CANCELLED
    assert state(ledger, "b") is JobState.CANCELLED


def test_cancelled_job_that_several_requests_want_ends_for_all_and_can_be_asked_for_anew(ledger: Ledger) -> None:
    submit(ledger, "a", request="r1")
    submit(ledger, "a", request="r2")
    assert ledger.cancel_job("a") == ["a"]
    assert [record.state for request in ("r1", "r2") for record in ledger.request(request)] == [JobState.CANCELLED] * 2
    assert ledger.submit("r1", [submission("a")]) == {"a": JobState.CANCELLED}
    assert ledger.submit("r3", [submission("a")]) == {"a": JobState.QUEUED}


def test_job_that_is_over_or_unknown_cannot_be_cancelled(ledger: Ledger) -> None:
    submit(ledger, "a")
    ledger.complete(claim(ledger), "")
    assert ledger.cancel_job("a") == []
    assert state(ledger, "a") is JobState.DONE
    assert ledger.cancel_job("nobody") == []


def test_job_is_cancelled_once(ledger: Ledger) -> None:
    submit(ledger, "a")
    claim(ledger)
    assert ledger.cancel_job("a") == ["a"]
    assert ledger.cancel_job("a") == []


# What is under way, and what failed.


def test_unfinished_jobs_are_those_that_run_are_queued_and_wait(ledger: Ledger) -> None:
    submit(ledger, "done")
    ledger.complete(claim(ledger), "")
    submit(ledger, "parent")
    suspend(ledger, claim(ledger), "running", "queued")
    claim(ledger)
    submit(ledger, "last")
    found = [(record.id, record.state.value) for record in ledger.unfinished(100)]
    assert found == [("running", "running"), ("queued", "queued"), ("last", "queued"), ("parent", "waiting")]
    assert len(ledger.unfinished(1)) == 3


def test_last_failures_come_first(ledger: Ledger) -> None:
    for name in ("first", "again", "second"):
        submit(ledger, name)
        fail(ledger, claim(ledger), remember_s=0)
    submit(ledger, "again", request="r2")
    assert [record.id for record in ledger.recently_failed(10)] == ["second", "first"]
    assert [record.id for record in ledger.recently_failed(1)] == ["second"]


def test_clock_is_the_one_that_jobs_are_timed_by(ledger: Ledger) -> None:
    before = ledger.now()
    submit(ledger, "a")
    assert before - 0.01 <= job(ledger, "a").queued_at <= ledger.now()


# Redis loses a part, or everything.


def test_audit_wakes_a_job_whose_dependency_is_lost(ledger: Ledger, server: Redis, woken: list[str]) -> None:
    submit(ledger, "a")
    suspend(ledger, claim(ledger), "b", "c")
    server.delete("{wheelfarm}:j:b")
    woken.clear()
    assert ledger.audit() == 1
    assert woken == [QUEUE]
    ledger.complete(claim(ledger), "")
    assert suspend(ledger, claim(ledger), "b", "c").members == ("b",)
    assert claim(ledger).job_id == "b"


def test_audit_wakes_a_job_whose_dependencies_are_done(ledger: Ledger, server: Redis) -> None:
    submit(ledger, "a")
    suspend(ledger, claim(ledger), "b")
    server.delete("{wheelfarm}:p:b")
    ledger.complete(claim(ledger), "")
    assert state(ledger, "a") is JobState.WAITING
    assert ledger.audit() == 1
    assert state(ledger, "a") is JobState.QUEUED


def test_audit_fails_the_ancestors_of_a_failed_job(ledger: Ledger, server: Redis) -> None:
    make_chain(ledger, "a", "b", "c")
    server.delete("{wheelfarm}:p:c")
    fail(ledger, claim(ledger))
    assert ledger.audit() == 1
    assert [(job(ledger, name).state, job(ledger, name).cause) for name in "ab"] == [(JobState.FAILED, "c")] * 2


def test_audit_leaves_a_sound_ledger_alone(ledger: Ledger) -> None:
    make_chain(ledger, "a", "b", "c")
    assert ledger.audit() == 0
    assert claimed_names(ledger) == ["c"]


def test_emptied_redis_makes_claims_unknown_and_resubmission_starts_over(ledger: Ledger, server: Redis) -> None:
    submit(ledger, "a")
    old = claim(ledger)
    server.flushall()
    assert ledger.beat(old, lease_s=LEASE_S) is Beat.UNKNOWN
    assert suspend(ledger, old, "b").outcome is SuspensionOutcome.UNKNOWN
    assert fail(ledger, old) is FailureOutcome.UNKNOWN
    assert ledger.complete(old, "") is Completion.GONE
    submit(ledger, "a")
    assert claim(ledger).fence > old.fence
    assert ledger.beat(old, lease_s=LEASE_S) is Beat.LOST


def test_forgotten_scripts_are_loaded_again(ledger: Ledger, server: Redis) -> None:
    submit(ledger, "a")
    server.script_flush()
    assert claim(ledger).job_id == "a"


def test_stopped_server_is_farm_unavailable_without_its_password(
    mortal_redis: tuple[str, Callable[[], None]],
) -> None:
    url, stop = mortal_redis
    ledger = Ledger(url.replace("redis+socket://", "redis+socket://:secret@"), wake=print, patience_s=0.2)
    stop()
    with pytest.raises(FarmUnavailable, match=r"Redis at redis\+socket:///") as caught:
        submit(ledger, "a")
    assert "secret" not in str(caught.value)
    ledger.close()


# What can be asked.


def test_request_lists_its_jobs_and_their_dependencies_also_when_finished(ledger: Ledger) -> None:
    submit(ledger, "z", "a")
    suspend(ledger, claim(ledger), "b")
    ledger.complete(claim(ledger), "")
    suspend(ledger, claim(ledger), "c")
    for _ in range(3):
        ledger.complete(claim(ledger), "")
    records = ledger.request("r1")
    assert [record.id for record in records] == ["z", "a", "b", "c"]
    assert {record.state for record in records} == {JobState.DONE}


def test_request_exists_once_submitted(ledger: Ledger) -> None:
    assert not ledger.request_exists("r1")
    assert ledger.request("r1") == []
    submit(ledger, "a")
    assert ledger.request_exists("r1")


def test_jobs_are_found_by_the_start_of_their_id(ledger: Ledger) -> None:
    names = [sha256(bytes([number])).hexdigest() for number in range(20)]
    submit(ledger, *names)
    assert ledger.find(names[0][:8]) == [names[0]]
    with pytest.raises(InputError, match="4 to 64"):
        ledger.find("*")


def test_at_most_ten_jobs_are_found(ledger: Ledger) -> None:
    submit(ledger, *(f"abcd{number:060x}" for number in range(20)))
    assert len(ledger.find("abcd")) == 10


def test_missing_wake_ups_are_counted_by_queue(ledger: Ledger) -> None:
    ledger.submit("r1", [submission("a", "x"), submission("b", "x"), submission("c", "y")])
    assert ledger.unpublished({"x": 1, "y": 7}) == {"x": 1, "y": 0}


def test_failing_wake_up_does_not_fail_the_operation(redis_url: str) -> None:
    def broken(queue: str) -> None:
        raise OSError(queue)

    ledger = Ledger(redis_url, wake=broken)
    assert ledger.submit("r1", [submission("a")]) == {"a": JobState.QUEUED}
    ledger.close()


def test_every_change_of_state_is_announced(ledger: Ledger, server: Redis) -> None:
    submit(ledger, "a")
    ledger.complete(claim(ledger), "")
    events = server.xrange("{wheelfarm}:ev") or []
    assert [entry[1] for entry in events if entry] == [
        {"job": "a", "state": state} for state in ("queued", "running", "done")
    ]


@pytest.mark.parametrize(
    "bad",
    [
        Submission(id="", queue=QUEUE, spec=""),
        Submission(id="x" * 257, queue=QUEUE, spec=""),
        Submission(id="x", queue="", spec=""),
        Submission(id="x", queue=QUEUE, spec="x" * (2**20 + 1)),
    ],
    ids=["no id", "long id", "no queue", "long spec"],
)
def test_oversized_or_empty_input_is_refused_before_any_change(ledger: Ledger, server: Redis, bad: Submission) -> None:
    with pytest.raises(ResponseError, match="ledger: "):
        ledger.submit("r1", [submission("a"), bad])
    assert server.dbsize() == 0


def test_url_in_celerys_form_names_the_database(redis_url: str, server: Redis) -> None:
    ledger = Ledger(f"{redis_url}?virtual_host=3", wake=lambda _: None)
    submit(ledger, "a")
    ledger.close()
    assert set(server.info("keyspace")) == {"db3"}


def test_wrong_password_is_not_tried_again(redis_url: str) -> None:
    ledger = Ledger(redis_url.replace("://", "://:secret@"), wake=lambda _: None, patience_s=600)
    with pytest.raises(FarmUnavailable, match="AuthenticationError"):
        ledger.ping()
    ledger.close()


def test_ping_answers(ledger: Ledger) -> None:
    ledger.ping()


# All at once.


@dataclass
class Farm:
    """Eight careless workers and a reaper on a random graph; `done` and `violations` are what they saw."""

    url: str
    needs: dict[str, tuple[str, ...]]
    done: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    over: threading.Event = field(default_factory=threading.Event)

    def work(self, seed: int) -> None:
        chance = random.Random(seed)
        ledger = Ledger(self.url, wake=lambda _: None)
        while not self.over.is_set():
            claimed = ledger.claim(QUEUE, worker=f"w{seed}", lease_s=0.1)
            if claimed is None:
                time.sleep(0.005)
            elif chance.random() > 0.1:
                self.build(ledger, claimed)
        ledger.close()

    def build(self, ledger: Ledger, claimed: Claim) -> None:
        needs = self.needs[claimed.job_id]
        if suspend(ledger, claimed, *needs).outcome is not SuspensionOutcome.READY:
            return
        # Completing under the lock makes the order seen here the order in the ledger.
        with self.lock:
            self.violations += [name for name in needs if not self.done[name]]
            if ledger.complete(claimed, "") is Completion.OK:
                self.done[claimed.job_id] += 1

    def reap(self) -> None:
        ledger = Ledger(self.url, wake=lambda _: None)
        while not self.over.wait(0.02):
            ledger.reap(max_attempts=1000)
        ledger.close()


def random_graph(jobs: int, seed: int) -> dict[str, tuple[str, ...]]:
    chance = random.Random(seed)
    names = [f"n{number}" for number in range(jobs)]
    return {
        name: tuple(chance.sample(names[:number], min(number, chance.randrange(4))))
        for number, name in enumerate(names)
    }


def test_random_graph_with_lost_workers_is_completed_once_each_in_order(ledger: Ledger, redis_url: str) -> None:
    farm = Farm(url=redis_url, needs=random_graph(300, seed=7))
    submit(ledger, *reversed(farm.needs))
    threads = [threading.Thread(target=farm.work, args=(seed,)) for seed in range(8)]
    threads.append(threading.Thread(target=farm.reap))
    for thread in threads:
        thread.start()
    assert wait_until(lambda: len(farm.done) == len(farm.needs))
    farm.over.set()
    for thread in threads:
        thread.join()
    assert farm.done == Counter(dict.fromkeys(farm.needs, 1))
    assert farm.violations == []
    assert {record.state for record in ledger.request("r1")} == {JobState.DONE}


def tolerate(ledger: Ledger, claimed: Claim, *names: str) -> Suspension:
    return ledger.suspend(claimed, [submission(name) for name in names], tolerant=True)


@pytest.mark.parametrize("remember_s", [60.0, 0.0])
def test_tolerant_job_is_told_of_the_failure_and_may_ask_for_others(ledger: Ledger, remember_s: float) -> None:
    submit(ledger, "root")
    tolerate(ledger, claim(ledger), "broken", "other")
    fail(ledger, claim(ledger), remember_s=remember_s)

    assert claim(ledger).job_id == "other"
    again = claim(ledger)
    assert again.job_id == "root"
    failed = Suspension(outcome=SuspensionOutcome.DEPENDENCY_FAILED, members=("broken",))
    assert tolerate(ledger, again, "broken", "other") == failed
    assert tolerate(ledger, again, "other").outcome is SuspensionOutcome.WAITING


def test_ancestors_of_a_tolerant_job_wait_on_when_what_it_needs_fails(ledger: Ledger) -> None:
    submit(ledger, "root")
    suspend(ledger, claim(ledger), "middle")
    tolerate(ledger, claim(ledger), "broken")
    fail(ledger, claim(ledger))

    assert (state(ledger, "root"), state(ledger, "middle")) == (JobState.WAITING, JobState.QUEUED)


def test_audit_wakes_a_tolerant_job_whose_dependency_failed(ledger: Ledger, server: Redis) -> None:
    submit(ledger, "root")
    tolerate(ledger, claim(ledger), "broken")
    server.hset("{wheelfarm}:j:broken", "state", "failed")

    assert ledger.audit() == 1
    assert state(ledger, "root") is JobState.QUEUED


def test_claim_tells_since_when_failures_are_to_be_forgotten(ledger: Ledger) -> None:
    submit(ledger, "a")
    assert claim(ledger).forced_at == 0.0
    before = time.time()
    ledger.submit("again", [submission("b")], force=True)
    assert claim(ledger).forced_at == pytest.approx(before, abs=60)


def test_forgotten_job_begins_anew_and_only_a_done_one_is_forgotten(redis_url: str) -> None:
    ledger = Ledger(redis_url, wake=lambda _: None)
    jobs = [Submission(id=name * 64, queue="q", spec="{}") for name in "ab"]
    ledger.submit("r", jobs)
    claim = ledger.claim("q", worker="w", lease_s=30)
    assert claim is not None
    ledger.complete(claim, "{}")
    assert ledger.forget([job.id for job in jobs]) == 1
    assert ledger.job(claim.job_id) is None
    states = ledger.submit("r", jobs)
    assert set(states.values()) == {JobState.QUEUED}
    again = [ledger.claim("q", worker="w", lease_s=30) for _ in range(3)]
    assert {one.job_id for one in again if one} == {job.id for job in jobs}


def test_lookups_tell_what_requests_found_each_once(ledger: Ledger) -> None:
    submit(ledger, "a", "b", request="r1")
    submit(ledger, "a", "b", request="r1")
    submit(ledger, "a", request="r2")
    while claimed := ledger.claim(QUEUE, worker="w1", lease_s=LEASE_S):
        ledger.complete(claimed, "{}")
    submit(ledger, "a", "b", request="r3")
    ledger.note_hits(3)
    assert ledger.lookups() == {"hit": 5, "coalesced": 1, "miss": 2}


def test_claim_tells_for_how_long_it_could_be_claimed(ledger: Ledger) -> None:
    submit(ledger, "a")
    time.sleep(0.05)
    assert 0.05 <= claim(ledger).waited_s < 60
