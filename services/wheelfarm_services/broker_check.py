"""Whether Redis is set up so that it keeps what it is told, asked when a part of the farm starts."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from wheelfarm.errors import FarmUnavailable, InputError

logger = logging.getLogger(__name__)

_OLDEST = (6, 2)
"""Celery asks for it, and the ledger for what came with it (ZRANGE with BYSCORE, ZADD with GT)."""


def check_broker(redis: Redis, *, reach: Callable[[], None]) -> None:
    """Warn of what may lose jobs when Redis ends, and say so where nothing could be checked.

    `reach` returns once Redis answers, or raises FarmUnavailable; the farm starts all the same then. Asks INFO only,
    which managed servers allow where they forbid CONFIG. Raises InputError for a Redis that drops jobs as it runs, or
    is too old.
    """
    try:
        reach()
        told: Any = redis.info()
    except (FarmUnavailable, RedisError) as error:
        logger.warning(
            "the settings of Redis could not be checked: it needs maxmemory-policy noeviction, and persistence",
            extra={"reason": type(error).__name__},
        )
        return
    require_usable(told)
    if told.get("aof_enabled") == 0:
        logger.warning("Redis keeps no append-only file: when it ends, the farm does anew what it was told last")


def require_usable(told: Mapping[str, Any]) -> None:
    """Raises InputError for a server of which INFO tells that it is too old or evicts keys."""
    version = str(told.get("redis_version", ""))
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    if len(numbers) == len(_OLDEST) and numbers < _OLDEST:
        needed = ".".join(map(str, _OLDEST))
        raise InputError(
            f"The Redis of WHEELFARM_BROKER is version {version}, and the farm needs {needed}.",
            hint=f"Use Redis {needed} or later, or Valkey.",
        )
    policy = told.get("maxmemory_policy", "noeviction")
    if policy == "noeviction":
        return
    if told.get("maxmemory"):
        raise InputError(
            f"The Redis of WHEELFARM_BROKER drops keys when its memory is full (maxmemory-policy {policy}), and with "
            "them jobs.",
            hint="Set maxmemory-policy to noeviction there, or give the farm a Redis of its own.",
        )
    logger.warning("Redis would drop jobs if it got a maxmemory", extra={"maxmemory_policy": policy})
