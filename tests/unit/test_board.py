from dataclasses import replace

from tests.support.values import make_sdist
from wheelfarm.board import Board, Row, Totals, named
from wheelfarm.farm import RequestStatus
from wheelfarm.job import JobKind, JobState, JobStatus


def make_job(
    name: str, state: JobState = JobState.QUEUED, *, kind: JobKind = JobKind.WHEEL, **facts: object
) -> JobStatus:
    job = JobStatus(id=f"{name}-{kind}", kind=kind, sdist=make_sdist(name), state=state)
    return replace(job, **facts)  # type: ignore[arg-type]


def make_status(*jobs: JobStatus, requested: int = 1, now: float = 100.0) -> RequestStatus:
    asked = tuple(job.id for job in jobs[:requested])
    return RequestStatus(id="r", requested=asked, jobs={job.id: job for job in jobs}, wheels={}, now=now)


def make_board(*states: RequestStatus) -> Board:
    board = Board()
    for status in states:
        board.update(status)
    return board


def test_totals_tell_what_was_built_now_from_what_was_there() -> None:
    board = make_board(
        make_status(make_job("app")),
        make_status(
            make_job("app", JobState.RUNNING, started_at=103.0),
            make_job("new", JobState.DONE, started_at=101.0, finished_at=102.0),
            make_job("old", JobState.DONE, started_at=10.0, finished_at=20.0),
            make_job("stored", JobState.DONE),
            make_job("next"),
            make_job("later", JobState.WAITING),
            make_job("broken", JobState.FAILED),
            make_job("given-up", JobState.CANCELLED),
            now=103.0,
        ),
    )
    assert board.totals == Totals(built=1, cached=2, building=1, queued=1, waiting=1, failed=2)
    assert str(board.totals) == "1 built, 2 cached, 1 building, 1 queued, 1 waiting, 2 failed"


def test_empty_board_says_so() -> None:
    assert str(Board().totals) == "nothing to build yet"


def test_rows_are_what_is_under_way_the_longest_build_first() -> None:
    app = make_job("app", JobState.WAITING, waits_for=("tool-wheel", "library-wheel"))
    board = make_board(
        make_status(
            app,
            make_job("library", JobState.RUNNING, started_at=105.0),
            make_job("tool", JobState.RUNNING, started_at=101.0, attempt=2),
            make_job("next"),
            make_job("done", JobState.DONE),
        )
    )
    assert board.rows() == [
        Row(state=JobState.RUNNING, sdist="tool==1.0", detail="attempt 2", since=101.0),
        Row(state=JobState.RUNNING, sdist="library==1.0", since=105.0),
        Row(state=JobState.QUEUED, sdist="next==1.0"),
        Row(state=JobState.WAITING, sdist="app==1.0", detail="for tool==1.0, library==1.0"),
    ]


def test_job_that_waits_for_one_that_is_not_told_names_its_id() -> None:
    board = make_board(make_status(make_job("app", JobState.WAITING, waits_for=("0123456789abcdef",))))
    assert board.rows()[0].detail == "for 0123456789ab"


def test_job_that_waits_for_metadata_names_the_project() -> None:
    metadata = make_job("tool", JobState.WAITING, kind=JobKind.METADATA)
    board = make_board(make_status(make_job("app", JobState.WAITING, waits_for=(metadata.id,)), metadata))
    assert [(row.sdist, row.detail) for row in board.rows()] == [("app==1.0", "for tool==1.0")]


def test_many_names_are_cut() -> None:
    assert named(["a", "b", "c"]) == "a, b, c"
    assert named(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"


def test_phase_follows_the_kind_of_request() -> None:
    metadata = make_job("app", kind=JobKind.METADATA)
    board = make_board(make_status(metadata, make_job("app", JobState.RUNNING)))
    assert board.phase == "computing metadata of app==1.0"
    board.update(make_status(replace(metadata, state=JobState.DONE)))
    assert board.phase == "resolving"
    board.update(make_status(make_job("app")))
    assert board.phase == "building"
    board.update(make_status(make_job("app", kind=JobKind.SDIST)))
    assert board.phase == "making the sdist of app"


def test_wheel_built_for_its_metadata_stays_built_when_the_next_request_finds_it_in_the_store() -> None:
    built = make_job("app", JobState.DONE, started_at=101.0, finished_at=102.0)
    board = make_board(
        make_status(make_job("app", kind=JobKind.METADATA), make_job("app", JobState.RUNNING)),
        make_status(make_job("app", JobState.DONE, kind=JobKind.METADATA), built, now=103.0),
        make_status(make_job("app", JobState.DONE), now=104.0),
    )
    assert board.totals == Totals(built=1)


def test_what_an_earlier_request_left_unfinished_is_not_shown_any_more() -> None:
    board = make_board(make_status(make_job("app"), make_job("other", JobState.RUNNING)), make_status(make_job("app")))
    assert [row.sdist for row in board.rows()] == ["app==1.0"]


def test_making_of_sdists_is_a_phase_of_its_own() -> None:
    board = make_board(make_status(make_job("app", kind=JobKind.SDIST)))
    assert board.phase == "making the sdist of app"
    assert board.rows() == []
