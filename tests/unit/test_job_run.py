import errno
import gzip
import json
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from tests.support.ledger import FakeLedger, make_record
from tests.support.values import make_job, make_sdist
from tests.support.waiting import PATIENCE_S, wait_until
from wheelfarm import errors
from wheelfarm.errors import (
    BuildCycle,
    BuildFailed,
    FarmUnavailable,
    JobCancelled,
    NoSolution,
    WheelfarmError,
)
from wheelfarm.job import Failure, FailureClass, Job, JobState
from wheelfarm_services import layout
from wheelfarm_services.ledger import Beat, Claim, Suspension, SuspensionOutcome
from wheelfarm_services.log_writer import LogWriter
from wheelfarm_services.logs import JsonFormatter
from wheelfarm_services.store import DirectoryStore
from wheelfarm_workers.failure import failure_class_of, failure_of
from wheelfarm_workers.hold import Hold
from wheelfarm_workers.job_run import JobRunner

JOB = make_job()
TOOL = make_job(make_sdist("tool", data=b"tool"))
Work = Callable[[Job, Hold], dict[str, Any]]


def make_claim(job: Job = JOB, *, spec: str = "") -> Claim:
    return Claim(job_id=job.id, fence=1, spec=spec or json.dumps(job.to_json()), attempt=2, queue="host")


class Pipeline:
    def __init__(self, work: Work) -> None:
        self.run = work


class Worker:
    """A runner over a fake ledger and a real store."""

    def __init__(self, folder: Path) -> None:
        self.ledger = FakeLedger()
        self.store = DirectoryStore.create(folder / "store")
        self.logs = LogWriter(Redis(unix_socket_path="/nowhere"), self.store, clock=lambda: 7.0)

    def run(self, work: Work, *claims: Claim, lease_s: float = 60.0) -> None:
        """Have the claims, or one of the usual job, worked on."""
        self.ledger.claims = list(claims) or [make_claim()]
        self.runner(work, lease_s=lease_s).run_all("host")

    def runner(self, work: Work, lease_s: float = 60.0) -> JobRunner:
        return JobRunner(
            ledger=self.ledger.as_ledger,
            logs=self.logs,
            pipeline=Pipeline(work),
            worker="w1",
            lease_s=lease_s,
            ending=threading.Event(),
        )

    def fail(self, error: Exception) -> tuple[Failure, bool, float]:
        """What the ledger is told when the work raises `error`: the failure, whether to retry, how long it stands."""

        def work(job: Job, hold: Hold) -> dict[str, Any]:
            hold.log(b"the log\n")
            raise error

        self.run(work)
        ((claim, failure, retry, remember_s),) = self.ledger.failed
        assert claim == make_claim()
        return Failure.from_json(json.loads(failure)), retry, remember_s

    @property
    def log(self) -> bytes | None:
        chunk = self.store.get(layout.build_log_chunk(JOB, "0000000007000-2", 0))
        return None if chunk is None else gzip.decompress(chunk)


@pytest.fixture
def worker(tmp_path: Path) -> Worker:
    return Worker(tmp_path)


def test_job_that_is_done_is_completed_with_its_result_and_log(worker: Worker) -> None:
    def work(job: Job, hold: Hold) -> dict[str, Any]:
        assert job == JOB
        hold.log(b"one\n")
        hold.log(b"two\n")
        return {"wheel": 1}

    worker.run(work)
    assert [json.loads(result) for _, result in worker.ledger.completed] == [{"wheel": 1}]
    assert worker.ledger.failed == []
    assert worker.log == b"one\ntwo\n"


def test_job_that_says_nothing_leaves_no_log(worker: Worker) -> None:
    worker.run(lambda job, hold: {})
    assert worker.log is None


def test_jobs_are_run_until_none_can_be_claimed(worker: Worker) -> None:
    worker.run(lambda job, hold: {}, make_claim(), make_claim(TOOL), make_claim())
    assert [claim.job_id for claim, _ in worker.ledger.completed] == [JOB.id, TOOL.id, JOB.id]


def test_suspended_job_is_neither_completed_nor_failed(worker: Worker) -> None:
    worker.ledger.suspension = Suspension(outcome=SuspensionOutcome.WAITING, members=(TOOL.id,))

    def work(job: Job, hold: Hold) -> dict[str, Any]:
        hold.require([TOOL])
        raise AssertionError("the job waits")

    worker.run(work)
    assert worker.ledger.completed == []
    assert worker.ledger.failed == []
    (submission,) = worker.ledger.suspended
    assert (submission.id, submission.queue) == (TOOL.id, "host")
    assert Job.from_json(json.loads(submission.spec)) == TOOL


def test_job_whose_dependencies_are_there_goes_on(worker: Worker) -> None:
    worker.ledger.suspension = Suspension(outcome=SuspensionOutcome.READY)

    def work(job: Job, hold: Hold) -> dict[str, Any]:
        hold.require([TOOL])
        return {"went": "on"}

    worker.run(work)
    assert len(worker.ledger.completed) == 1


CLASSES = {
    "error": FailureClass.INPUT,
    "input": FailureClass.INPUT,
    "option-refused": FailureClass.INPUT,
    "bad-tree": FailureClass.INPUT,
    "bad-interpreter": FailureClass.INPUT,
    "direct-reference": FailureClass.INPUT,
    "no-environment": FailureClass.INPUT,
    "no-solution": FailureClass.INPUT,
    "unknown-project": FailureClass.INPUT,
    "no-sdist": FailureClass.INPUT,
    "not-closed": FailureClass.INPUT,
    "other-index": FailureClass.INPUT,
    "policy": FailureClass.INPUT,
    "bad-python": FailureClass.INPUT,
    "metadata-unsettled": FailureClass.INPUT,
    "hash-mismatch": FailureClass.INPUT,
    "bad-sdist": FailureClass.INPUT,
    "no-worker": FailureClass.INFRASTRUCTURE,
    "not-found": FailureClass.INPUT,
    "install-failed": FailureClass.INPUT,
    "lock-outdated": FailureClass.INPUT,
    "build-failed": FailureClass.BUILD,
    "bad-wheel": FailureClass.BUILD,
    "broken-wheel": FailureClass.BUILD,
    "build-timeout": FailureClass.LIMIT,
    "build-limit": FailureClass.LIMIT,
    "build-cycle": FailureClass.DEPENDENCY,
    "cancelled": FailureClass.CANCELLED,
    "upstream": FailureClass.INFRASTRUCTURE,
    "farm-unavailable": FailureClass.INFRASTRUCTURE,
    "sandbox-unavailable": FailureClass.INFRASTRUCTURE,
    "system-packages-missing": FailureClass.MISSING,
    "worker-lost": FailureClass.INFRASTRUCTURE,
    "corrupt-object": FailureClass.INFRASTRUCTURE,
    "disk-full": FailureClass.INFRASTRUCTURE,
    "protocol": FailureClass.INFRASTRUCTURE,
    "machine-unfit": FailureClass.INPUT,
    "unfit-target": FailureClass.INPUT,
    "too-large": FailureClass.INPUT,
    "conflict": FailureClass.INPUT,
    "unauthorized": FailureClass.INFRASTRUCTURE,
    "forbidden": FailureClass.INFRASTRUCTURE,
    "too-many-requests": FailureClass.INFRASTRUCTURE,
}


def test_every_error_has_a_class() -> None:
    found = [cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, WheelfarmError)]
    assert {cls.code: failure_class_of(cls("m")) for cls in found} == CLASSES


def test_failed_build_is_remembered_with_the_end_of_its_log(worker: Worker) -> None:
    failure, retry, remember_s = worker.fail(BuildFailed("no header", hint="install it"))
    assert failure == Failure(
        failure_class=FailureClass.BUILD,
        error="build-failed",
        message="no header",
        hint="install it",
        log_tail="the log\n",
    )
    assert (retry, remember_s) == (False, 600.0)
    assert worker.log == b"the log\n"


def test_failed_build_without_a_hint_gets_the_one_of_its_log(worker: Worker) -> None:
    def work(job: Job, hold: Hold) -> dict[str, Any]:
        hold.log(b"x.c:1:10: fatal error: ffi.h: No such file or directory\n" + b"noise\n" * 1500)
        raise BuildFailed("The build of app==1.0 failed: exited with 1")

    worker.run(work)
    failure = Failure.from_json(json.loads(worker.ledger.failed[0][1]))
    assert "ffi.h" not in failure.log_tail
    assert "apt-get install libffi-dev" in failure.hint


def test_reason_of_a_failed_build_hints_too(worker: Worker) -> None:
    failure, _, _ = worker.fail(BuildFailed("The build of app==1.0 failed: No module named 'numpy'"))
    assert 'extra-build-requirements = ["numpy"]' in failure.hint


def test_job_without_a_solution_fails_without_a_log_tail(worker: Worker) -> None:
    failure, retry, remember_s = worker.fail(NoSolution("none"))
    assert (failure.failure_class, failure.log_tail) == (FailureClass.INPUT, "")
    assert (retry, remember_s) == (False, 600.0)


@pytest.mark.parametrize("error", [FarmUnavailable("gone"), ZeroDivisionError("oops"), KeyError("x"), RecursionError()])
def test_fault_of_the_farm_is_tried_again_and_never_remembered(worker: Worker, error: Exception) -> None:
    failure, retry, remember_s = worker.fail(error)
    assert failure.failure_class is FailureClass.INFRASTRUCTURE
    assert failure.error == "farm-unavailable"
    assert (retry, remember_s) == (True, 0.0)


def test_full_disk_is_a_fault_of_the_farm_that_says_what_to_do(worker: Worker) -> None:
    failure, retry, _ = worker.fail(OSError(errno.ENOSPC, "No space left on device", "/cache/sdists/x"))
    assert (failure.failure_class, retry) == (FailureClass.INFRASTRUCTURE, True)
    assert failure.message == "The disk of the worker is full (/cache/sdists/x)."
    assert "Free some space" in failure.hint


def test_cancelled_job_is_not_remembered_as_failed(worker: Worker) -> None:
    failure, retry, remember_s = worker.fail(JobCancelled("cancelled"))
    assert (failure.failure_class, retry, remember_s) == (FailureClass.CANCELLED, False, 0.0)


def test_log_tail_is_bounded_and_may_begin_within_a_character() -> None:
    long = "é" * 10_000
    assert len(failure_of(BuildFailed(long), b"", "app").message) == 8000
    assert failure_of(ValueError("x" * 10_000), b"", "app").message[:30] == "The farm failed: ValueError: x"
    assert len(failure_of(ValueError("x" * 10_000), b"", "app").message) == 4000


def test_log_tail_is_the_last_of_the_log(worker: Worker) -> None:
    def work(job: Job, hold: Hold) -> dict[str, Any]:
        hold.log("é".encode() * 4000 + b"!")
        raise BuildFailed("failed")

    worker.run(work)
    tail = json.loads(worker.ledger.failed[0][1])["log_tail"]
    assert tail == "\N{REPLACEMENT CHARACTER}" + "é" * 1999 + "!"


@pytest.mark.parametrize("spec", ["not json", "{}", "[]", "null", json.dumps({**JOB.to_json(), "queue": "two words"})])
def test_job_that_cannot_be_read_fails_and_the_next_is_run(worker: Worker, spec: str) -> None:
    worker.run(lambda job, hold: {}, make_claim(spec=spec), make_claim(TOOL))
    assert len(worker.ledger.failed) == 1
    assert [claim.job_id for claim, _ in worker.ledger.completed] == [TOOL.id]


def test_log_that_cannot_be_kept_does_not_hide_the_failure(worker: Worker) -> None:
    (worker.store.root / ".wheelfarm-store").unlink()
    failure, _, _ = worker.fail(BuildFailed("no header"))
    assert failure.message == "no header"


def test_job_that_another_worker_has_is_neither_completed_nor_failed(worker: Worker) -> None:
    worker.ledger.beat_answer = Beat.LOST

    def work(job: Job, hold: Hold) -> dict[str, Any]:
        assert hold.cancelled.wait(PATIENCE_S)
        raise JobCancelled("cancelled")

    worker.run(work, lease_s=0.02)
    assert worker.ledger.completed == []
    assert worker.ledger.failed == []
    assert worker.log is None


def test_job_that_nobody_wants_is_cancelled(worker: Worker) -> None:
    worker.ledger.beat_answer = Beat.CANCEL

    def work(job: Job, hold: Hold) -> dict[str, Any]:
        assert hold.cancelled.wait(PATIENCE_S)
        raise JobCancelled("cancelled")

    worker.run(work, lease_s=0.02)
    assert [json.loads(failure)["failure_class"] for _, failure, _, _ in worker.ledger.failed] == ["cancelled"]


@pytest.mark.parametrize("forgetful", [True, False])
def test_ledger_that_forgot_or_does_not_answer_changes_nothing(worker: Worker, forgetful: bool) -> None:
    if forgetful:
        worker.ledger.beat_answer = Beat.UNKNOWN
    else:
        worker.ledger.errors["beat"] = FarmUnavailable("Redis is gone.")

    def work(job: Job, hold: Hold) -> dict[str, Any]:
        assert wait_until(lambda: worker.ledger.beats >= 3)
        assert not hold.cancelled.is_set()
        return {}

    worker.run(work, lease_s=0.02)
    assert worker.ledger.beats >= 3
    assert len(worker.ledger.completed) == 1


def test_every_line_of_a_job_tells_job_and_target_whatever_thread_logs_it(worker: Worker) -> None:
    worker.ledger.errors["beat"] = FarmUnavailable("Redis is gone.")
    lines: list[dict[str, Any]] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(json.loads(JsonFormatter().format(record)))  # type: ignore[method-assign]

    def work(job: Job, hold: Hold) -> dict[str, Any]:
        hold.log(b"said\n")
        assert wait_until(lambda: {line["message"] for line in lines} >= {"lease not renewed", "live log held up"})
        raise OSError("a fault")

    root = logging.getLogger()
    root.addHandler(handler)
    try:
        with worker.logs:
            worker.run(work, lease_s=0.02)
    finally:
        root.removeHandler(handler)
    assert {line["message"] for line in lines} >= {"job ended by a fault of the farm", "lease not renewed"}
    assert {(line.get("job"), line.get("target")) for line in lines} == {(JOB.id[:12], "host")}


def test_hold_ends_with_its_job(worker: Worker) -> None:
    worker.run(lambda job, hold: {}, lease_s=0.02)
    assert not [thread for thread in threading.enumerate() if thread.name == f"beat-{JOB.id[:8]}"]


def require(worker: Worker, suspension: Suspension) -> None:
    worker.ledger.suspension = suspension

    def work(job: Job, hold: Hold) -> dict[str, Any]:
        hold.require([TOOL])
        raise AssertionError("require has to raise")

    worker.run(work)


@pytest.mark.parametrize("outcome", [SuspensionOutcome.LOST, SuspensionOutcome.UNKNOWN])
def test_claim_lost_while_suspending_is_not_failed(worker: Worker, outcome: SuspensionOutcome) -> None:
    require(worker, Suspension(outcome=outcome))
    assert worker.ledger.failed == []
    assert worker.ledger.completed == []


def failed_with(worker: Worker) -> Failure:
    ((_, failure, retry, _),) = worker.ledger.failed
    assert retry is False
    return Failure.from_json(json.loads(failure))


def test_cycle_is_told_by_the_names_of_its_members(worker: Worker) -> None:
    for job in (JOB, TOOL):
        worker.ledger.records[job.id] = make_record(job.id, spec=json.dumps(job.to_json()))
    members = (JOB.id, TOOL.id, "f" * 64, JOB.id)
    require(worker, Suspension(outcome=SuspensionOutcome.CYCLE, members=members))
    failure = failed_with(worker)
    assert (failure.failure_class, failure.error) == (FailureClass.DEPENDENCY, BuildCycle.code)
    assert "app==1.0 -> tool==1.0 -> job ffffffffffff -> app==1.0." in failure.message


def test_graph_too_large_fails_the_job(worker: Worker) -> None:
    require(worker, Suspension(outcome=SuspensionOutcome.TOO_LARGE))
    assert failed_with(worker).error == BuildCycle.code


@pytest.mark.parametrize("depth", [1, 2])
def test_failed_dependency_passes_its_reason_on(worker: Worker, depth: int) -> None:
    reason = Failure(failure_class=FailureClass.BUILD, error="build-failed", message="no header", log_tail="tail")
    root = make_record(TOOL.id, state=JobState.FAILED, failure=json.dumps(reason.to_json()))
    between = make_record("b" * 64, state=JobState.FAILED, cause=TOOL.id)
    worker.ledger.records = {root.id: root, between.id: between}
    member = root.id if depth == 1 else between.id
    require(worker, Suspension(outcome=SuspensionOutcome.DEPENDENCY_FAILED, members=(member,)))
    failure = failed_with(worker)
    assert (failure.failure_class, failure.cause) == (FailureClass.DEPENDENCY, TOOL.id)
    assert (failure.error, failure.message, failure.log_tail) == ("build-failed", "no header", "tail")


def test_failed_dependency_whose_reason_is_gone_is_one_still(worker: Worker) -> None:
    require(worker, Suspension(outcome=SuspensionOutcome.DEPENDENCY_FAILED, members=("0" * 64,)))
    assert failed_with(worker).failure_class is FailureClass.DEPENDENCY


def test_ledger_that_is_gone_at_the_end_is_the_callers_to_know(worker: Worker) -> None:
    worker.ledger.errors = {"complete": FarmUnavailable("gone"), "fail": FarmUnavailable("gone")}
    with pytest.raises(FarmUnavailable):
        worker.run(lambda job, hold: {})


class TestHandingBack:
    def test_a_running_job_is_ended_and_queued_again_and_none_is_claimed_after_it(self, worker: Worker) -> None:
        claims = [make_claim(), make_claim(TOOL)]
        worker.ledger.claims = list(claims)

        def work(job: Job, hold: Hold) -> dict[str, Any]:
            runner.stop_claiming()
            runner.hand_back()
            assert hold.cancelled.is_set()
            raise JobCancelled("The sandbox was ended.")

        runner = worker.runner(work)
        runner.run_all("host")
        assert worker.ledger.handed_back == [claims[0]]
        assert worker.ledger.claims == [claims[1]]
        assert worker.ledger.failed == []

    def test_a_job_that_is_done_before_it_sees_the_wish_stays_done(self, worker: Worker) -> None:
        def work(job: Job, hold: Hold) -> dict[str, Any]:
            runner.stop_claiming()
            runner.hand_back()
            return {}

        worker.ledger.claims = [make_claim()]
        runner = worker.runner(work)
        runner.run_all("host")
        assert len(worker.ledger.completed) == 1
        assert worker.ledger.handed_back == []

    def test_a_job_that_does_not_end_is_queued_again_while_it_runs(self, worker: Worker) -> None:
        begun, go_on = threading.Event(), threading.Event()

        def work(job: Job, hold: Hold) -> dict[str, Any]:
            begun.set()
            go_on.wait(PATIENCE_S)
            return {}

        worker.ledger.claims = [make_claim()]
        runner = worker.runner(work)
        thread = threading.Thread(target=runner.run_all, args=("host",))
        thread.start()
        assert begun.wait(PATIENCE_S)
        runner.stop_claiming()
        runner.hand_back()
        assert not runner.wait_until_idle(0)
        runner.abandon()
        assert worker.ledger.handed_back == [make_claim()]
        go_on.set()
        thread.join()
        assert runner.wait_until_idle(0)
