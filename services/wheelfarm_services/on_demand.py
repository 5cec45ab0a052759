"""Builds that begin because an installer asks an index for what is not on it.

The farm is then a client of its own: with the token of who asked it resolves, submits and waits as `wheelfarm build`
does, so that scopes, tenants, quotas and policy hold as for everybody. What goes on and how it ended is noted in Redis,
so that all replicas of the API give one answer; the token is kept in memory, for as long as it is used.
"""

import json
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any

from redis import Redis

from wheelfarm.errors import (
    FarmUnavailable,
    NoSolution,
    NotFound,
    RequestFailed,
    TooManyRequests,
    WheelfarmError,
    error_from_json,
)
from wheelfarm.settings import Settings
from wheelfarm.target import Target
from wheelfarm.traces import span
from wheelfarm.wheel import BuiltWheel
from wheelfarm.wheelhouse import Wheelhouse
from wheelfarm_services import layout
from wheelfarm_services.access import Principal
from wheelfarm_services.fleet import Fleet
from wheelfarm_services.rate_limits import RateLimits
from wheelfarm_services.store import Store
from wheelfarm_services.targets import stored_target

logger = logging.getLogger(__name__)

STARTS_PER_MINUTE = 30
"""How many builds one token may start so; asking again for one that goes on starts none."""
_AT_ONCE = 8
_LEASE_S = 120
_BUILT_S, _FAILED_S, _PASSING_S = 60, 300, 5

Build = Callable[[str, Target, str, Callable[[], None]], None]
"""Builds a requirement for a target with somebody's token, and tells now and then that it goes on. Raises the reason
where it can't."""


class State(StrEnum):
    """How far something that was wanted is."""

    BUILDING = "building"
    BUILT = "built"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True, slots=True)
class Note:
    """What is known of something that is wanted, or was, since when (seconds since the epoch) and why it failed."""

    state: State
    since: float
    error: WheelfarmError | None = None

    def to_json(self) -> str:
        return json.dumps(
            {"state": self.state, "since": self.since, "error": self.error.to_json() if self.error else None}
        )

    @classmethod
    def from_json(cls, data: str) -> "Note":
        value: dict[str, Any] = json.loads(data)
        error = error_from_json(value["error"]) if value["error"] else None
        return cls(state=State(value["state"]), since=float(value["since"]), error=error)


class OnDemand:
    """Starts and follows builds for the targets whose names match `patterns`."""

    def __init__(
        self, patterns: Sequence[str], *, redis: Redis, store: Store, fleet: Fleet, limits: RateLimits, build: Build
    ) -> None:
        self._patterns = patterns
        self._redis = redis
        self._store = store
        self._fleet = fleet
        self._limits = limits
        self._build = build
        self._free = threading.BoundedSemaphore(_AT_ONCE)

    def covers(self, target: str) -> bool:
        """Whether what a target's index lacks is built for whoever asks and may."""
        return any(fnmatchcase(target, pattern) for pattern in self._patterns)

    def wanted(self, principal: Principal, token: str, target: str, requirement: str) -> Note:
        """How far a requirement is, which is begun with unless it was a short while ago.

        Raises NotFound where nobody builds for the target, and TooManyRequests for who starts too much.
        """
        key = f"{{wheelfarm}}:on-demand:{principal.tenant}:{target}:{requirement}"
        if (known := self._redis.get(key)) is not None:
            return Note.from_json(str(known))
        note = Note(state=State.BUILDING, since=time.time())
        if self._free.acquire(blocking=False):
            try:
                self._begin(key, note, principal, token, self._target(target), requirement)
            except BaseException:
                self._free.release()
                raise
        return note

    def _begin(self, key: str, note: Note, principal: Principal, token: str, target: Target, requirement: str) -> None:
        """Begin a build unless another replica has just done so; the room for it is taken."""
        if wait_s := self._limits.wait_s(f"on-demand:{principal.token}", STARTS_PER_MINUTE):
            raise TooManyRequests(
                f"The token {principal.token!r} may have {STARTS_PER_MINUTE} builds begun a minute by asking an index.",
                retry_after_s=wait_s,
            )
        if not self._redis.set(key, note.to_json(), nx=True, ex=_LEASE_S):
            self._free.release()
            return
        arguments = (key, requirement, target, token)
        threading.Thread(target=self._run, args=arguments, name="on-demand", daemon=True).start()

    def _target(self, name: str) -> Target:
        """The target as it is built for now, or else as it was defined last."""
        for worker in self._fleet.workers():
            for served in worker.record.targets:
                if served.name == name:
                    return stored_target(self._store, name, served.revision)
        definitions = sorted(self._store.objects(layout.target_definitions(name)), key=lambda one: one.modified_at)
        if not definitions:
            raise NotFound(f"The farm knows no target {name!r}.", hint="wheelfarm status tells which are served")
        return stored_target(self._store, name, definitions[-1].key.rpartition("/")[2].removesuffix(".json"))

    def _run(self, key: str, requirement: str, target: Target, token: str) -> None:
        facts = {"requirement": requirement, "target": target.name}
        logger.info("build on demand begins", extra=facts)
        try:
            ended, for_s = self._ended(key, requirement, target, token)
            self._redis.set(key, ended.to_json(), ex=for_s)
            logger.info("build on demand ended", extra={**facts, "state": ended.state})
        except Exception:
            logger.exception("build on demand ended by a fault of the farm", extra=facts)
        finally:
            self._free.release()

    @span("on demand")
    def _ended(self, key: str, requirement: str, target: Target, token: str) -> tuple[Note, int]:
        """How a build ended, and for how many seconds that is remembered."""

        def goes_on() -> None:
            self._redis.expire(key, _LEASE_S)

        error: WheelfarmError | None = None
        try:
            self._build(requirement, target, token, goes_on)
        except RequestFailed as failed:
            error = failed.error
        except WheelfarmError as reason:
            error = reason
        now = time.time()
        if error is None:
            return Note(state=State.BUILT, since=now), _BUILT_S
        passes = isinstance(error, FarmUnavailable | TooManyRequests)
        return Note(state=State.FAILED, since=now, error=error), _PASSING_S if passes else _FAILED_S


class _Nowhere(Wheelhouse):
    """Wheels stay where they are: in the store."""

    def missing(self, wheels: object) -> list[BuiltWheel]:
        return []


def builder(url: str, settings: Settings) -> Build:
    """Builds as `wheelfarm build` does, by the API at `url`."""

    def build_requirement(requirement: str, target: Target, token: str, goes_on: Callable[[], None]) -> None:
        from wheelfarm.chain import Chain  # for those who want it, not for every start
        from wheelfarm.farm import Farm
        from wheelfarm.requirements import read_requirements

        requirements = read_requirements([requirement], [], [])
        with Farm(url, token) as farm, Chain(farm, target, settings=settings, watch=lambda _: goes_on()) as chain:
            chain.build(requirements, _Nowhere(settings.cache))

    return build_requirement


def is_absent(error: WheelfarmError) -> bool:
    """Whether an error means that there is nothing to install: no such project or version, or none that may enter."""
    return isinstance(error, NoSolution)
