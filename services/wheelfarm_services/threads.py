"""Threads of the API: what may have to wait for an upstream has some of its own, so that one that does not answer keeps
nobody from anything else."""

from collections.abc import Callable
from functools import partial
from typing import ParamSpec, TypeVar

from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import RunVar

P = ParamSpec("P")
T = TypeVar("T")
MOST_WAITING = 64
_waiting: RunVar[CapacityLimiter] = RunVar("threads that may wait for an upstream")


async def run_waiting(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What a function returns that may have to wait for an upstream."""
    try:
        limiter = _waiting.get()
    except LookupError:  # the first one of this event loop
        limiter = CapacityLimiter(MOST_WAITING)
        _waiting.set(limiter)
    return await to_thread.run_sync(partial(function, *args, **kwargs), limiter=limiter)
