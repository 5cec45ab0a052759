"""Tenants: who may see which job, wheel and local source.

One rule: a tenant sees what it sent itself and what a request of its own led to. Each such thing is noted in the store,
under the tenant's name, when the tenant is first told of it; what is not noted does not exist for it. Wheels and jobs
stay shared all the same: two tenants that ask for the same are answered by one build.
"""

import threading
import time
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum

from wheelfarm.errors import NotFound
from wheelfarm_services import layout
from wheelfarm_services.access import Principal
from wheelfarm_services.store import Store

_WRITING = 8
_REMEMBERED = 100_000
_REMEMBERED_S = 3600.0


class Thing(StrEnum):
    """What a tenant is told of."""

    JOB = "jobs"
    WHEEL = "wheels"
    LOCAL = "local"


class Tenancy:
    """Notes what each tenant has been told of."""

    def __init__(self, store: Store, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._noted: set[tuple[str, Thing, str]] = set()
        self._noted_since = clock()
        self._lock = threading.Lock()

    def grant(self, tenant: str, thing: Thing, names: Iterable[str]) -> None:
        """Let a tenant see jobs by id, wheels and local sources by sha256. Safe to repeat; who has no tenant sees all
        anyway."""
        if self._clock() - self._noted_since > _REMEMBERED_S:  # what the garbage collection took is noted anew
            self._noted, self._noted_since = set(), self._clock()
        new = [name for name in names if (tenant, thing, name) not in self._noted] if tenant else []
        if not new:
            return
        with ThreadPoolExecutor(min(_WRITING, len(new))) as pool:
            list(pool.map(lambda name: self._store.put_new(layout.grant(tenant, thing, name), b""), new))
        with self._lock:
            if len(self._noted) > _REMEMBERED:
                self._noted.clear()
            self._noted.update((tenant, thing, name) for name in new)

    def has(self, tenant: str, thing: Thing, name: str) -> bool:
        """Whether a tenant was told of it; whoever has no tenant was told of everything."""
        known = not tenant or (tenant, thing, name) in self._noted
        return known or self._store.size(layout.grant(tenant, thing, name)) is not None

    def sees(self, principal: Principal, thing: Thing, name: str) -> bool:
        """Whether the bearer of a token may see it."""
        return principal.sees_all or self.has(principal.tenant, thing, name)

    def visible_jobs(self, principal: Principal, ids: Collection[str]) -> set[str]:
        """Those of the jobs that the bearer of a token may see."""
        return {job for job in ids if self.sees(principal, Thing.JOB, job)}

    def require_wheel(self, principal: Principal, sha256: str, filename: str) -> None:
        """Raises NotFound, as where there is no such wheel, for one that the bearer may not see."""
        if not self.sees(principal, Thing.WHEEL, sha256):
            raise NotFound(f"The farm has no wheel {filename} with sha256 {sha256}.")
