import pytest

from tests.support.values import make_worker_record
from tests.unit.test_board import make_job
from wheelfarm.farm_status import FarmStatus, JobUnderWay, OpenRequest
from wheelfarm.farm_status_text import duration, status_lines
from wheelfarm.job import Failure, FailureClass, JobState, JobStatus
from wheelfarm.worker import LivingWorker

FAILURE = Failure(failure_class=FailureClass.BUILD, error="build-failed", message="no header\nmore")


def under_way(job: JobStatus, worker: str = "") -> JobUnderWay:
    return JobUnderWay(job=job, target="host", worker=worker)


def test_each_thing_is_a_line_and_the_last_tells_totals() -> None:
    status = FarmStatus(
        now=1000.0,
        jobs=(
            under_way(make_job("tool", JobState.RUNNING, started_at=910.0), "w1"),
            under_way(make_job("next", queued_at=995.0)),
            under_way(make_job("app", JobState.WAITING, waits_for=("tool-wheel", "0123456789abcdef"))),
        ),
        requests=(OpenRequest(id="ab" * 16, kind="wheel", target="host", jobs=3, cancelled=True, accepted_at=940.0),),
        failures=(make_job("bad", JobState.FAILED, finished_at=400.0, failure=FAILURE),),
        workers=(LivingWorker(record=make_worker_record(), seen_s=2.0),),
    )
    assert [" ".join(line.split()) for line in status_lines(status)] == [
        "running tool==1.0 for 1 min 30 s on w1 (tool-wheel, host)",
        "queued next==1.0 for 5 s (next-wheel, host)",
        "waiting app==1.0 for tool==1.0, 0123456789ab (app-wheel, host)",
        "request abababababab 3 jobs (wheel) since 1 min 0 s, cancelled (host)",
        "failed bad==1.0 10 min 0 s ago (bad-wheel): no header",
        "worker w1 4 slots, sandbox bubblewrap, version 1, seen 2 s ago: host-cp311-0badcafe (eeeeeeeeeeee)",
        "1 running, 1 queued, 1 waiting, 1 requests open, 1 failures of late",
    ]


def test_status_survives_its_way_over_the_wire() -> None:
    status = FarmStatus(
        now=1.0,
        jobs=(under_way(make_job("app", JobState.WAITING, waits_for=("x",))),),
        requests=(OpenRequest(id="ab" * 16, kind="wheel", target="host", jobs=3, cancelled=False, accepted_at=0.5),),
        failures=(make_job("bad", JobState.FAILED, failure=FAILURE),),
        workers=(LivingWorker(record=make_worker_record(), seen_s=2.0),),
    )
    assert FarmStatus.from_json(status.to_json()) == status


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(-1, "0 s"), (59.4, "59 s"), (60, "1 min 0 s"), (3661, "1 h 1 min"), (90000, "1 d 1 h")],
)
def test_durations_are_told_in_two_units(seconds: float, said: str) -> None:
    assert duration(seconds) == said
