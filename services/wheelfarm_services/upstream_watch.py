"""Following upstream in what is on the indexes, whether or not anybody resolves: it is asked about each project once a
day, so that nothing stays listed for long as if upstream had not yanked or removed it.

Requests are few and spread: a day's share each hour, what was not asked about for longest first, each of them
conditional (RFC 9110, 13). When each project was asked about last is kept in Redis for all reconcilers together; one
that is new there was asked about when it was built.
"""

import logging
import time
from collections.abc import Callable
from itertools import islice
from math import ceil
from typing import Protocol, cast

from redis import Redis

from wheelfarm.errors import WheelfarmError
from wheelfarm_services import layout
from wheelfarm_services.policy_book import PolicyBook
from wheelfarm_services.store import Store
from wheelfarm_services.upstreams import ProjectPage

logger = logging.getLogger(__name__)

EVERY_S = 3600.0
"""How often `look` is to be called, by one of all reconcilers."""
_DAY_S = 86400.0
_ASKED = "{wheelfarm}:upstream-asked"
_AT_ONCE = 1000
_MOST_FAILURES = 3


class Pages(Protocol):
    """What upstreams say of projects, asked anew."""

    def page(self, name: str) -> ProjectPage | None: ...


class UpstreamWatch:
    """Asks `upstreams` about the projects of the indexes, and tells `follow` what they say."""

    def __init__(
        self,
        store: Store,
        redis: Redis,
        upstreams: Pages,
        follow: Callable[[str, ProjectPage | None], None],
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._redis = redis
        self._upstreams = upstreams
        self._follow = follow
        self._policies = PolicyBook(store)
        self._now = now

    def look(self) -> int:
        """Ask about an hour's share of the projects that were not asked about for a day; how many were."""
        if self._policies.policy.follow_upstream == "no":
            return 0
        asked = failed = 0
        for project in self._due():
            self._redis.zadd(_ASKED, {project: self._now()})
            asked += 1
            try:
                self._follow(project, self._upstreams.page(project))
                failed = 0
            except WheelfarmError as error:
                logger.warning("upstream not followed", extra={"project": project, "reason": error.message})
                failed += 1
                if failed == _MOST_FAILURES:  # an upstream that is away is not asked on and on
                    break
        return asked

    def _due(self) -> list[str]:
        """The projects to ask about now, what was not asked about for longest first."""
        names = iter(dict.fromkeys(key.split("/")[1] for key in self._store.list(layout.projects())))
        count = 0
        while some := list(islice(names, _AT_ONCE)):
            self._redis.zadd(_ASKED, dict.fromkeys(some, self._now()), nx=True)
            count += len(some)
        share = ceil(count * EVERY_S / _DAY_S)
        due = self._redis.zrangebyscore(_ASKED, "-inf", self._now() - _DAY_S, start=0, num=share)
        return [str(name) for name in cast(list[str], due)]
