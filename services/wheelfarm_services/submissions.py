"""Jobs as the ledger takes them."""

import json

from wheelfarm.job import Job
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
    return f"{job.queue}/{job.kind}/{job.sdist.name}"
