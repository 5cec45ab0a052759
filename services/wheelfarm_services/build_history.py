"""The build history of a target: how long its wheels took to build, as their provenance tells."""

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from wheelfarm.forecast import DurationSource
from wheelfarm.job import Sdist
from wheelfarm_services import layout
from wheelfarm_services.store import Store
from wheelfarm_services.wheel_index import Manifest

_ENOUGH = 3
"""How many builds of other projects it takes to tell anything of one that was never built."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PastBuild:
    """One build: of what, by which backend ("" where that was not recorded), whether to a wheel of one platform, in how
    many seconds."""

    name: str
    version: str
    backend: str
    native: bool
    seconds: float


class BuildHistory:
    """The past builds of a store's targets. Index entries are immutable: each is read once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._read: dict[str, PastBuild | None] = {}

    def of(self, target: str) -> list[PastBuild]:
        """The builds of a target whose duration was recorded."""
        with self._lock:
            keys = list(self._store.list(layout.index_entries(target)))
            for key in keys:
                if key not in self._read:
                    data = self._store.get(key)
                    self._read[key] = _past_build(Manifest.from_json(data)) if data is not None else None
            found = (self._read[key] for key in keys)
            return [build for build in found if build is not None]


def expected_seconds(
    sdist: Sdist, backend: str, native: bool, past: Sequence[PastBuild]
) -> tuple[float | None, DurationSource]:
    """How long a build will take: the median of the past builds that are most like it; `native` where it compiles."""
    likenesses: Iterable[tuple[DurationSource, int, Callable[[PastBuild], bool]]] = (
        (DurationSource.VERSION, 1, lambda build: (build.name, build.version) == (sdist.name, sdist.version)),
        (DurationSource.PROJECT, 1, lambda build: build.name == sdist.name),
        (
            DurationSource.BACKEND,
            _ENOUGH,
            lambda build: (_family(build.backend), build.native) == (_family(backend), native),
        ),
        (DurationSource.TARGET, _ENOUGH, lambda build: build.native == native),
    )
    for source, enough, alike in likenesses:
        seconds = [build.seconds for build in past if alike(build)]
        if len(seconds) >= enough:
            return round(median(seconds), 3), source
    return None, DurationSource.NONE


def _family(backend: str) -> str:
    """The backend without the object in it: setuptools' legacy backend is setuptools."""
    return backend.partition(":")[0]


def _past_build(manifest: Manifest) -> PastBuild | None:
    seconds = manifest.provenance.get("duration_s")
    system = manifest.provenance.get("build_system")
    if not isinstance(seconds, int | float):
        return None
    backend = str(system.get("backend", "")) if isinstance(system, dict) else ""
    wheel = manifest.wheel
    native = not wheel.filename.endswith("-any.whl")
    return PastBuild(name=wheel.name, version=wheel.version, backend=backend, native=native, seconds=float(seconds))
