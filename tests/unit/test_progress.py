import io
from dataclasses import replace

from tests.support.values import make_sdist
from wheelfarm.farm import RequestStatus
from wheelfarm.job import TREE_VERSION, JobKind, JobState, JobStatus
from wheelfarm.progress import Progress
from wheelfarm.reporter import Reporter
from wheelfarm.revision import MetadataRevision

JOB = JobStatus(id="0123456789abcdef", kind=JobKind.WHEEL, sdist=make_sdist(), state=JobState.QUEUED)
RUNNING = replace(JOB, state=JobState.RUNNING, attempt=1)
NOW = 9.0
DONE = replace(JOB, state=JobState.DONE, started_at=10.0, finished_at=12.25)


def watch(*states: JobStatus, unsandboxed: bool = False, quiet: bool = False) -> tuple[list[str], Progress]:
    stream = io.StringIO()
    progress = Progress(Reporter(unsandboxed=unsandboxed, quiet=quiet, stream=stream))
    for job in states:
        progress.watch(RequestStatus(id="r", requested=(job.id,), jobs={job.id: job}, wheels={}, now=NOW))
    return stream.getvalue().splitlines(), progress


def test_each_event_is_told_once() -> None:
    lines, progress = watch(JOB, JOB, RUNNING, RUNNING, RUNNING, DONE, DONE)
    assert lines == ["building app==1.0 (0123456789ab)", "built    app==1.0 in 2.2 s"]
    assert progress.built == 1


def test_job_that_is_only_seen_to_find_out_what_it_waits_for_is_not_told_as_building() -> None:
    waiting = replace(JOB, state=JobState.WAITING)
    again = replace(RUNNING, started_at=5.0)
    assert watch(replace(RUNNING, started_at=1.0), waiting, again)[0] == []
    assert watch(replace(RUNNING, started_at=1.0), waiting, again, again)[0] == ["building app==1.0 (0123456789ab)"]


def test_job_that_ends_between_two_looks_is_told_as_built() -> None:
    lines, progress = watch(JOB, DONE)
    assert lines == ["built    app==1.0 in 2.2 s"]
    assert progress.built == 1


def test_wheel_that_was_there_before_is_not_told_as_built() -> None:
    lines, progress = watch(replace(JOB, state=JobState.DONE))
    assert lines == []
    assert progress.built == 0


def test_wheel_that_was_built_for_others_before_is_not_told_as_built() -> None:
    lines, progress = watch(replace(JOB, state=JobState.DONE, started_at=NOW - 5, finished_at=NOW - 1))
    assert lines == []
    assert progress.built == 0


def test_later_attempt_says_so() -> None:
    second = replace(RUNNING, attempt=2, started_at=5.0)
    assert watch(RUNNING, RUNNING, JOB, second, second)[0] == [
        "building app==1.0 (0123456789ab)",
        "building app==1.0 (0123456789ab), attempt 2",
    ]


def test_failure_is_told_with_the_job_to_ask_for_and_counts_as_nothing_built() -> None:
    lines, progress = watch(RUNNING, RUNNING, replace(JOB, state=JobState.FAILED))
    assert lines[-1] == "failed   app==1.0 (0123456789ab)"
    assert progress.built == 0


def test_metadata_jobs_are_not_told() -> None:
    metadata = replace(RUNNING, kind=JobKind.METADATA)
    assert watch(metadata, metadata, replace(DONE, kind=JobKind.METADATA))[0] == []


def test_sdist_of_a_tree_is_told_and_counted_as_no_wheel() -> None:
    tree = replace(DONE, kind=JobKind.SDIST, sdist=make_sdist(version=TREE_VERSION))
    lines, progress = watch(tree)
    assert lines == ["built    app (tree) in 2.2 s"]
    assert progress.built == 0


def test_every_line_says_unsandboxed_when_builds_are() -> None:
    assert watch(RUNNING, RUNNING, unsandboxed=True)[0] == ["[unsandboxed] building app==1.0 (0123456789ab)"]


def test_quiet_tells_nothing_but_what_is_insisted_on() -> None:
    assert watch(RUNNING, RUNNING, DONE, quiet=True)[0] == []
    stream = io.StringIO()
    Reporter(unsandboxed=True, quiet=True, stream=stream).insist("one\ntwo")
    assert stream.getvalue() == "[unsandboxed] one\n[unsandboxed] two\n"


def test_what_a_wheel_tells_steers_no_terminal() -> None:
    stream = io.StringIO()
    revision = MetadataRevision(revision=1, differences=("+Requires-Dist: \x1b]0;owned\x07\x9b2J\u202eb",))
    status = RequestStatus(
        id="r", requested=(JOB.id,), jobs={JOB.id: JOB}, wheels={}, revisions={JOB.id: revision}, now=NOW
    )
    Progress(Reporter(unsandboxed=False, stream=stream)).watch(status)
    assert stream.getvalue().endswith("+Requires-Dist: ?]0;owned??2J?b\n".replace("?", "\N{REPLACEMENT CHARACTER}"))
