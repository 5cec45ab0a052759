"""Jobs as the ledger takes them."""

import json

from wheelfarm.job import Job, JobKind
from wheelfarm_services.ledger import Submission


def submission_of(job: Job, *, seconds: float = 0.0) -> Submission:
    """A job for the ledger; what others of its kind, project and queue took is remembered under its subject."""
    return Submission(
        id=job.id,
        queue=job.queue,
        spec=json.dumps(job.to_json()),
        subject=subject_of(job),
        seconds=seconds,
    )


def subject_of(job: Job) -> str:
    return subject(job.queue, job.kind, job.sdist.name)


def subject(queue: str, kind: JobKind, project: str) -> str:
    """Under which it is remembered how long jobs take that are alike."""
    return f"{queue}/{kind}/{project}"
