"""Reading ahead: metadata that a resolver will probably ask for next is read while it thinks about what it has.

What was just told requires projects; the newest sdist of each that would do is mirrored and its head read, and so on
from there. A guess that is wrong costs an sdist, so that few may be open at once; one that is right is found in the
store, or is waited for: an sdist is brought once, whoever asks.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache, partial

from packaging.markers import UndefinedComparison, UndefinedEnvironmentName
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from wheelfarm.errors import WheelfarmError
from wheelfarm.job import Sdist
from wheelfarm.requirement_path import requires_dist_of
from wheelfarm.target import Target
from wheelfarm.target_markers import marker_environment
from wheelfarm_services.source_index import SourceIndex
from wheelfarm_services.upstreams import ListedSdist

logger = logging.getLogger(__name__)

_THREADS = 8
_MOST_UNASKED = 24
_MOST_PAGES = 300
_UNASKED_S = 60.0
_MOST_REQUIREMENTS = 200
_MOST_KNOWN = 20_000
_SDIST_BYTES = 32 << 20


class ReadAhead:
    """Reads ahead for one source view, in threads of its own.

    At most `most_unasked` sdists are read that nobody has asked for within the last minute, and the pages of at most
    `most_pages` projects are asked for within one.
    """

    def __init__(
        self,
        sources: SourceIndex,
        *,
        most_unasked: int = _MOST_UNASKED,
        most_pages: int = _MOST_PAGES,
        most_threads: int = _THREADS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sources = sources
        self._most_unasked = most_unasked
        self._most_pages = most_pages
        self._most_threads = most_threads
        self._clock = clock
        self._queue: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._guard = threading.Lock()
        self._asked: set[str] = set()
        self._followed: set[tuple[str, str]] = set()
        self._unasked: dict[str, float] = {}
        self._pages: dict[str, float] = {}
        self._threads: list[threading.Thread] = []

    def asked(self, sdist: Sdist) -> None:
        """A resolver asks for the metadata of an sdist: there is nothing to guess any more, or it was guessed right."""
        with self._guard:
            self._unasked.pop(sdist.sha256, None)
            if len(self._asked) >= _MOST_KNOWN:
                self._asked.clear()
            self._asked.add(sdist.sha256)

    def told(self, sdist: Sdist, metadata: bytes, target: Target) -> None:
        """A resolver was told the metadata of an sdist: what it requires is looked for. Returns at once."""
        self._follow(sdist, metadata, target, frozenset())

    def _follow(self, sdist: Sdist, metadata: bytes, target: Target, extras: frozenset[str]) -> None:
        with self._guard:
            if not extras and (sdist.sha256, target.revision) in self._followed:
                return
            if len(self._followed) >= _MOST_KNOWN:
                self._followed.clear()
            self._followed.add((sdist.sha256, target.revision))
        self._do(partial(self._look_for, metadata, target, extras))

    def _do(self, task: Callable[[], None]) -> None:
        self._queue.put(task)
        with self._guard:
            if len(self._threads) < self._most_threads:
                self._threads.append(threading.Thread(target=self._work, name="read-ahead", daemon=True))
                self._threads[-1].start()

    def _work(self) -> None:
        while True:
            task = self._queue.get()
            try:
                task()
            except WheelfarmError:  # whoever asks in earnest is told
                continue
            except Exception:
                logger.exception("reading ahead failed")

    def _look_for(self, metadata: bytes, target: Target, extras: frozenset[str]) -> None:
        for requirement in required(metadata, target, extras):
            self._do(partial(self._guess, requirement, target))

    def _guess(self, requirement: Requirement, target: Target) -> None:
        name = canonicalize_name(requirement.name)
        if not self._may_ask(name):
            return
        page = self._sources.page(name)
        listed = newest(page.sdists, requirement.specifier, target.python_version) if page else None
        if listed is None or not self._may_read(listed):
            return
        metadata = self._sources.metadata(listed.sdist, target.revision)
        if metadata is not None:
            self._follow(listed.sdist, metadata, target, frozenset(map(canonicalize_name, requirement.extras)))

    def _may_ask(self, name: str) -> bool:
        """Whether a project's page may be asked for ahead: metadata can name any number of projects."""
        now = self._clock()
        with self._guard:
            self._pages = {page: at for page, at in self._pages.items() if now - at < _UNASKED_S}
            if name not in self._pages and len(self._pages) >= self._most_pages:
                return False
            self._pages[name] = now
            return True

    def _may_read(self, listed: ListedSdist) -> bool:
        """Whether an sdist may be read ahead; from now on it counts as one that nobody has asked for."""
        now, sha256 = self._clock(), listed.sdist.sha256
        with self._guard:
            self._unasked = {guessed: at for guessed, at in self._unasked.items() if now - at < _UNASKED_S}
            full = len(self._unasked) >= self._most_unasked or (listed.size or 0) > _SDIST_BYTES
            if full or sha256 in self._asked or sha256 in self._unasked:
                return False
            self._unasked[sha256] = now
            return True


def required(metadata: bytes, target: Target, extras: frozenset[str] = frozenset()) -> Iterator[Requirement]:
    """The requirements in metadata that hold on a target with some extras; what can't be read is left out."""
    environment = _environment(target)
    for line in requires_dist_of(metadata)[:_MOST_REQUIREMENTS]:
        with suppress(InvalidRequirement, UndefinedComparison, UndefinedEnvironmentName, ValueError, RecursionError):
            requirement = Requirement(line)
            marker = requirement.marker
            wanted = marker is None or any(marker.evaluate({**environment, "extra": one}) for one in ("", *extras))
            if wanted and not requirement.url:
                yield requirement


def newest(listed: tuple[ListedSdist, ...], specifier: SpecifierSet, python_version: str) -> ListedSdist | None:
    """The newest sdist that a resolver would take, listed oldest first: not yanked, no pre-release unless asked for."""
    for one in reversed(listed):
        version = Version(one.sdist.version)
        offered = one.yanked is False and (not version.is_prerelease or bool(specifier.prereleases))
        if offered and specifier.contains(version, prereleases=True) and _supports(one, python_version):
            return one
    return None


def _supports(listed: ListedSdist, python_version: str) -> bool:
    try:
        return SpecifierSet(listed.requires_python).contains(python_version, prereleases=True)
    except InvalidSpecifier:
        return True


@cache
def _environment(target: Target) -> dict[str, str]:
    return marker_environment(target)
