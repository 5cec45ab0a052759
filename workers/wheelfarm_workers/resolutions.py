"""Resolutions of build requirements, remembered for a while: a job that waited for what it needs asks the same again,
and most projects need the same few."""

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from wheelfarm.resolution import MetadataPending, Resolution, SourceIndexClient, resolve
from wheelfarm.target import Target

_REMEMBERED_S = 60.0
_MOST = 1000

Question = tuple[tuple[str, ...], tuple[str, ...], str]


class Resolutions:
    """What one worker resolves; safe to use from several threads."""

    def __init__(
        self,
        farm: SourceIndexClient,
        cache_dir: Path,
        *,
        resolver: Callable[..., Resolution | MetadataPending] = resolve,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._farm = farm
        self._cache_dir = cache_dir
        self._resolver = resolver
        self._clock = clock
        self._guard = threading.Lock()
        self._remembered: dict[Question, tuple[float, Resolution]] = {}

    def resolve(
        self, requirements: Sequence[str], constraints: Sequence[str], target: Target, *, anew: bool = False
    ) -> Resolution | MetadataPending:
        """What `wheelfarm.resolution.resolve` answers, at most a minute old or asked `anew`; pending metadata is never
        remembered."""
        question = (tuple(requirements), tuple(constraints), target.revision)
        if not anew and (known := self._known(question)) is not None:
            return known
        found = self._resolver(
            requirements, target=target, farm=self._farm, cache_dir=self._cache_dir, constraints=constraints
        )
        if isinstance(found, Resolution):
            self._remember(question, found)
        return found

    def _known(self, question: Question) -> Resolution | None:
        with self._guard:
            found = self._remembered.get(question)
        return found[1] if found is not None and self._clock() - found[0] < _REMEMBERED_S else None

    def _remember(self, question: Question, resolution: Resolution) -> None:
        with self._guard:
            if len(self._remembered) >= _MOST:
                self._remembered.clear()
            self._remembered[question] = (self._clock(), resolution)
