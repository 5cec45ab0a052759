"""The policy in the store: its services publish it there, so that every service and worker judges by the same."""

import hashlib
import json
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path

from wheelfarm.job import Sdist
from wheelfarm.policy import Policy
from wheelfarm.policy_file import PolicyFile, parse_policy, read_policy_file
from wheelfarm_services import layout
from wheelfarm_services.store import Store

_AGE_S = 2.0
_NONE = PolicyFile(origin="", source="", policy=Policy())


class PolicyBook:
    """The policy as the store has it, at most two seconds old; `now` tells the time in UTC."""

    def __init__(self, store: Store, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.now = now
        self._store = store
        self._data: bytes | None = None
        self._file = _NONE
        self._read_at = -_AGE_S

    @property
    def file(self) -> PolicyFile:
        """The policy and its text; an empty one where the operator gave none."""
        if time.monotonic() - self._read_at >= _AGE_S:
            data = self._store.get(layout.policy())
            if data != self._data:
                self._file = _NONE if data is None else _parsed(json.loads(data))
                self._data = data
            self._read_at = time.monotonic()
        return self._file

    @property
    def policy(self) -> Policy:
        return self.file.policy

    @property
    def sha256(self) -> str:
        """The digest of the policy's text, "" where there is none."""
        return hashlib.sha256(self.file.source.encode()).hexdigest() if self.file.origin else ""

    def lets_stand(self, sdists: Iterable[Sdist]) -> bool:
        """Whether what was built from and with these sdists may stay."""
        policy, now = self.policy, self.now()
        return policy == Policy() or not any(policy.lasting_refusal(sdist, now) for sdist in sdists)

    def publish(self, path: Path | None) -> bool:
        """Make a file the farm's policy, or none; whether that, or the day, may judge otherwise than what was before.

        Raises InputError, naming the key, before anything has changed.
        """
        data = None if path is None else self._told(path)
        if data == self._store.get(layout.policy()):
            return False
        if data is None:
            self._store.delete(layout.policy())
        else:
            self._store.put(layout.policy(), data)
        self._read_at = -_AGE_S
        return True

    def _told(self, path: Path) -> bytes:
        source = read_policy_file(path).source
        return json.dumps({"origin": path.name, "source": source, "day": self.now().date().isoformat()}).encode()


def _parsed(value: dict[str, str]) -> PolicyFile:
    return parse_policy(value["source"], origin=value["origin"])
