"""Jobs as the ledger takes them."""

import json

from wheelfarm.job import Job, JobKind
from wheelfarm_services.ledger import Submission

_BYTES_A_SECOND = 128 << 10


def submission_of(job: Job, *, sdist_bytes: int = 0) -> Submission:
    """A job for the ledger; what others of its kind, project and queue took is remembered under its subject.

    What nobody has built yet is thought to take the longer the larger its sdist is, where that is told (0: it is not),
    so that the largest are not begun last.
    """
    return Submission(
        id=job.id,
        queue=job.queue,
        spec=json.dumps(job.to_json()),
        subject=subject_of(job),
        seconds=sdist_bytes / _BYTES_A_SECOND,
    )


def subject_of(job: Job) -> str:
    return subject(job.queue, job.kind, job.sdist.name)


def subject(queue: str, kind: JobKind, project: str) -> str:
    """Under which it is remembered how long jobs take that are alike."""
    return f"{queue}/{kind}/{project}"
