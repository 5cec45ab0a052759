"""Failures that are remembered: the last failed build of a request key answers until one of its inputs changes."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

from wheelfarm.job import Failure
from wheelfarm_services import layout
from wheelfarm_services.store import Store


@dataclass(frozen=True, kw_only=True, slots=True)
class RememberedFailure:
    """A failed build: what was built (its build key and limits), when, and until when the answer stands at most.

    Times are seconds since the epoch.
    """

    failure: Failure
    build_key: str
    limits: dict[str, float]
    failed_at: float
    until: float


class Failures:
    """The failures in the store."""

    def __init__(self, store: Store, *, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock

    def find(self, request_key: str) -> RememberedFailure | None:
        """The failure that stands for a request key, whatever would be built for it now."""
        data = self._store.get(layout.failure(request_key))
        if data is None:
            return None
        value = json.loads(data)
        found = RememberedFailure(**{**value, "failure": Failure.from_json(value["failure"])})
        return found if self._clock() < found.until else None

    def remember(
        self, request_key: str, failure: Failure, *, build_key: str, limits: dict[str, float], for_s: float
    ) -> None:
        """Remember a failed build."""
        now = self._clock()
        remembered = RememberedFailure(
            failure=failure, build_key=build_key, limits=limits, failed_at=now, until=now + for_s
        )
        value = {**asdict(remembered), "failure": failure.to_json()}
        self._store.put(layout.failure(request_key), json.dumps(value).encode())

    def forget(self, request_key: str) -> None:
        """The next build decides."""
        self._store.delete(layout.failure(request_key))
