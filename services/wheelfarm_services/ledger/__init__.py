"""The state of all jobs, in Redis or Valkey, changed by Lua scripts only (docs/architecture.md)."""

from wheelfarm_services.ledger.ledger import (
    Beat,
    Claim,
    Completion,
    FailureOutcome,
    JobRecord,
    Ledger,
    Submission,
    Suspension,
    SuspensionOutcome,
    Wake,
    redis_client,
    redis_py_url,
)

__all__ = [
    "Beat",
    "Claim",
    "Completion",
    "FailureOutcome",
    "JobRecord",
    "Ledger",
    "Submission",
    "Suspension",
    "SuspensionOutcome",
    "Wake",
    "redis_client",
    "redis_py_url",
]
