"""The state of all jobs, in Redis or Valkey, changed by Lua scripts only (docs/architecture.md)."""

from wheelfarm_services.ledger.connection import redis_client, redis_py_url
from wheelfarm_services.ledger.ledger import MOST_WAKE_UPS, Ledger
from wheelfarm_services.ledger.types import (
    Beat,
    Claim,
    Completion,
    FailureOutcome,
    JobRecord,
    Lookups,
    QueueCounts,
    Submission,
    Suspension,
    SuspensionOutcome,
    Wake,
)

__all__ = [
    "MOST_WAKE_UPS",
    "Beat",
    "Claim",
    "Completion",
    "FailureOutcome",
    "JobRecord",
    "Ledger",
    "Lookups",
    "QueueCounts",
    "Submission",
    "Suspension",
    "SuspensionOutcome",
    "Wake",
    "redis_client",
    "redis_py_url",
]
