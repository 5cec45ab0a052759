"""Waiting for what happens sooner or later. How fast it happens is no test's business: only what never does fails."""

import time
from collections.abc import Callable

PATIENCE_S = 180.0
"""How long anything is waited for: many times what it takes on a busy machine."""


def wait_until(condition: Callable[[], object], timeout_s: float = PATIENCE_S) -> bool:
    """Whether a condition came true in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
