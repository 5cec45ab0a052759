"""Curation: what becomes of wheels on the indexes after they were published, by operators and by upstream.

Every step is told of in the project's state, with its reason, before anything else happens; repeated after a crash it
goes on.
"""

import json
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from packaging.version import InvalidVersion, Version

from wheelfarm.errors import InputError, NotFound
from wheelfarm.index_change import Action, IndexChange
from wheelfarm.job import Sdist
from wheelfarm.policy import FollowUpstream, refused
from wheelfarm_services import layout
from wheelfarm_services.policy_book import PolicyBook
from wheelfarm_services.store import Store
from wheelfarm_services.upstreams import ProjectPage
from wheelfarm_services.wheel_index.filenames import project_of, version_of
from wheelfarm_services.wheel_index.project_state import UPSTREAM, Event, ProjectState, read_state
from wheelfarm_services.wheel_index.records import Manifest
from wheelfarm_services.wheel_index.renderer import Renderer

logger = logging.getLogger(__name__)

REMOVED = "removed from the upstream index"
_UNTOUCHED = ProjectState()
_AGE_S = 2.0
_REMEMBERED = 10_000


class Curation:
    """The states of projects, and the pages that show them."""

    def __init__(self, store: Store, pages: Renderer, *, now: Callable[[], float] = time.time) -> None:
        self._store = store
        self._pages = pages
        self._policies = PolicyBook(store)
        self._now = now
        self._recent: dict[str, tuple[float, ProjectState]] = {}

    def change(self, action: Action, project: str, version: str, reason: str, *, by: str) -> IndexChange:
        """Do something about a project's wheels on every index. Safe to repeat.

        Raises NotFound where no index has any of it.
        """
        files = self._files(project, version)
        if not files:
            what = f"{project} {version}".strip()
            raise NotFound(f"No index of the farm has a wheel of {what}.", hint="Look at the name and the version.")
        if action is not Action.QUARANTINE and action is not Action.RELEASE and not version:
            raise InputError(f"{action} needs a version of {project}.", hint=f"Write it as {project}==1.0")
        deleted = {name for names in files.values() for name in names} if action is Action.DELETE else ()
        named = {"version": version, "reason": reason, "at": self._time(), "by": by}
        event = Event(action=action, filenames=tuple(sorted(deleted)), **named)
        self._update(project, lambda state: state.after(event))
        self._show(project)
        for target, names in files.items() if deleted else ():
            for name in names:
                self._remove(target, name)
        return IndexChange(action=action, project=project, version=version, reason=reason, files=files)

    def follow(self, project: str, page: ProjectPage | None) -> None:
        """Take over what upstream has yanked or removed of a project that is on an index; None: it has it no more."""
        if not self._pages.targets_of(project):
            return
        known, follow = self._pages.state(project).upstream, self._policies.policy.follow_upstream
        taken_back = _taken_back(page, self._removed(project, page), follow, self._time()) if follow != "no" else ()
        upstream = {event.version: _as_known(known.get(event.version), event) for event in taken_back}
        if known != upstream:
            self._update(project, lambda state: replace(state, upstream=upstream))
            self._show(project)
            logger.info("upstream followed", extra={"project": project, "versions": sorted(upstream)})

    def _removed(self, project: str, page: ProjectPage | None) -> list[str]:
        """The versions on an index that upstream, which listed them once, lists no more."""
        listed = {*_normal(one.sdist.version for one in page.sdists), *_normal(page.without_sdist)} if page else set()
        files = [(target, name) for target, names in self._files(project, "").items() for name in names]
        gone = [(target, name) for target, name in files if version_of(name) not in listed]
        return sorted({version_of(name) for target, name in gone if self._is_of_upstream(target, name)})

    def _is_of_upstream(self, target: str, filename: str) -> bool:
        """Whether a wheel's sdist was listed here; that of one that was imported need not have been."""
        data = self._store.get(layout.index_entry(target, filename))
        sources = Manifest.from_json(data).sources if data is not None else ()
        return not sources or self._store.size(layout.sdist_record(sources[0].sha256)) is not None

    def require_served(self, filename: str) -> None:
        """Raises PolicyRefused for a quarantined wheel, NotFound for a deleted one, as of two seconds ago at most."""
        project, version = project_of(filename), version_of(filename)
        state = self._state(project)
        if state == _UNTOUCHED:
            return
        if event := state.quarantine(version):
            raise refused(Sdist(name=project, version=version, filename="", sha256=""), f"quarantined, {event.reason}")
        if event := state.deletion(filename):
            raise NotFound(f"{filename} was deleted: {event.reason}.")

    def _time(self) -> str:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._now()))

    def _state(self, project: str) -> ProjectState:
        known = self._recent.get(project)
        if known is None or time.monotonic() - known[0] > _AGE_S:
            if len(self._recent) >= _REMEMBERED:
                self._recent.clear()
            known = self._recent[project] = time.monotonic(), self._pages.state(project)
        return known[1]

    def _files(self, project: str, version: str) -> dict[str, tuple[str, ...]]:
        """The file names of a project's wheels, or of a version's, by target."""
        found = {}
        for target in self._pages.targets_of(project):
            entries = self._store.list(layout.index_entries(target, project))
            names = (entry.rpartition("/")[2].removesuffix(".json") for entry in entries)
            if chosen := tuple(name for name in names if version in ("", version_of(name))):
                found[target] = chosen
        return found

    def _update(self, project: str, change: Callable[[ProjectState], ProjectState]) -> None:
        key = layout.project_state(project)
        while True:
            found = self._store.get_with_etag(key)
            state = change(read_state(project, found[0] if found else None))
            if self._store.replace(key, state.to_json(), found[1] if found else None):
                self._recent.pop(project, None)
                return

    def _show(self, project: str) -> None:
        for target in self._pages.targets_of(project):
            self._pages.renew(target, project)

    def _remove(self, target: str, filename: str) -> None:
        """Remove a wheel that no page lists any more: its bytes, its commit, at last its entry, which leads to both."""
        entry = layout.index_entry(target, filename)
        data = self._store.get(entry)
        if data is None:
            return
        manifest = Manifest.from_json(data)
        self._store.delete(layout.wheel(manifest.wheel.sha256, filename))
        self._store.delete(layout.wheel_metadata(manifest.wheel.sha256, filename))
        if build_key := (manifest.provenance.get("plan") or {}).get("build_key"):
            committed = self._store.get(layout.manifest(build_key))
            if committed is not None and json.loads(committed)["wheel"]["filename"] == filename:
                self._store.delete(layout.manifest(build_key))
        self._store.delete(entry)


def _taken_back(page: ProjectPage | None, removed: list[str], follow: FollowUpstream, at: str) -> Iterator[Event]:
    """What follows from the versions that upstream has yanked, and from those that it has removed."""
    gone = Action.QUARANTINE if follow == "quarantine" else Action.YANK
    for version in removed:
        yield Event(action=gone, version=version, reason=REMOVED, at=at, by=UPSTREAM)
    for one in page.sdists if page else ():
        if one.yanked is not False:
            yield Event(action=Action.YANK, version=one.sdist.version, reason=one.yanked, at=at, by=UPSTREAM)


def _as_known(known: Event | None, event: Event) -> Event:
    """The event since when it is known."""
    return known if known and replace(known, at=event.at) == event else event


def _normal(versions: Iterator[str] | tuple[str, ...]) -> Iterator[str]:
    for version in versions:
        try:
            yield str(Version(version))
        except InvalidVersion:
            yield version
