"""The renderer: pages in the store, written from the entries, the states and the policy.

No entry is lost, for who writes a page reads its tag before the entries, and replaces no other (`If-Match`): whatever
page is replaced was written before the entries were listed. A serial number keeps two versions from having one tag.
What is read as absent is absent: every other failure to read ends the rendering.

A publish touches pages of its project alone, and leaves a note that the flat page is behind. Whoever needs that page,
and the services now and then, bring it up to date with all the notes at once, so that what a publish costs does not
grow with the index.
"""

import json
import random
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

from wheelfarm.job import Sdist
from wheelfarm_services import layout
from wheelfarm_services.policy_book import PolicyBook
from wheelfarm_services.store import Store
from wheelfarm_services.wheel_index.filenames import project_of
from wheelfarm_services.wheel_index.page import (
    File,
    Page,
    file_of,
    files_of,
    flat_page,
    from_below,
    project_page,
    root_page,
    serial_of,
    to_html,
    to_json,
    without_serial,
)
from wheelfarm_services.wheel_index.project_state import ProjectState, read_state
from wheelfarm_services.wheel_index.records import Manifest

_READERS = 8
_REMEMBERED = 100_000


class Renderer:
    """Writes the pages of every target."""

    def __init__(self, store: Store, policies: PolicyBook) -> None:
        self._store = store
        self._policies = policies
        self._files: dict[str, tuple[File, tuple[Sdist, ...]]] = {}

    def add(self, target: str, filename: str) -> None:
        """See to it that a file, whose entry was written, is on its project's page, and will be on the flat one."""
        project = project_of(filename)
        page = self._read(layout.project_page(target, project))
        if all(file["filename"] != filename for file in files_of(page)):
            self.renew(target, project)

    def renew(self, target: str, project: str) -> None:
        """Bring a project's page up to date, and note that the flat one is behind.

        The note is written first: whoever finds the page as it should be knows that one was.
        """
        self._store.put_new(layout.project_target(project, target), b"")
        self._store.put_new(layout.stale_note(target, project, uuid4().hex), b"")
        self.render_project(target, project)

    def render_project(self, target: str, project: str) -> Page:
        """Write a project's page unless it is as it should be; what it says."""
        key = layout.project_page(target, project)

        def rendered(serial: int) -> Page:
            state = self.state(project)
            files = from_below(self._files_of(target, project), 3)
            return project_page(project, files, state, serial=serial)

        page = self._replace(key, rendered)
        self._derive(key, layout.project_page(target, project, "html"), lambda page: _html(page, project))
        return page

    def render_target(self, target: str, *, projects: Collection[str] = ()) -> None:
        """Bring the flat page and the list of projects up to date, with what is noted or with these projects."""
        key = layout.flat_page(target, "json")
        notes: list[str] = []
        for _ in _turns():
            found = self._store.get_with_etag(key)
            notes = list(self._store.list(layout.stale_notes(target)))
            behind = {_noted_project(note) for note in notes} | set(projects)
            if found is not None and not behind:
                return
            known = json.loads(found[0]) if found else None
            files = [file for file in files_of(known) if project_of(file["filename"]) not in behind]
            for project in behind:
                files += from_below(files_of(self.render_project(target, project)), 2)
            page = flat_page(target, files, serial=_next_serial(known))
            if self._store.replace(key, to_json(page), found[1] if found else None):
                break
        self._derive(key, layout.flat_page(target), lambda page: _html(page, target))
        for form, write in (("json", to_json), ("html", lambda page: to_html(page, f"Projects of {target}"))):
            self._derive(key, layout.root_page(target, form), _listing(write))
        for note in notes:
            self._store.delete(note)

    def render_stale(self) -> int:
        """Bring every target's flat page up to date that is behind; how many were."""
        behind = {note.split("/")[1] for note in self._store.list(layout.stale_notes())}
        for target in behind:
            self.render_target(target)
        return len(behind)

    def render_all(self) -> None:
        """Write every page anew: what policy lets in has changed."""
        for target in self.targets():
            entries = self._store.list(layout.index_entries(target))
            self.render_target(target, projects={entry.split("/")[2] for entry in entries})

    def is_stale(self, target: str) -> bool:
        """Whether a target's flat page is behind."""
        return next(iter(self._store.list(layout.stale_notes(target))), None) is not None

    def targets_of(self, project: str) -> list[str]:
        """The targets whose indexes a project has been on."""
        return [key.rpartition("/")[2] for key in self._store.list(layout.project_targets(project))]

    def targets(self) -> list[str]:
        """The targets that have an index."""
        folders = (layout.flat_pages(), layout.stale_notes())
        return sorted({key.split("/")[1] for folder in folders for key in self._store.list(folder)})

    def state(self, project: str) -> ProjectState:
        """What was said about a project's wheels."""
        return read_state(project, self._store.get(layout.project_state(project)))

    def _replace(self, key: str, rendered: Callable[[int], Page]) -> Page:
        """Have an object hold the page that is rendered after its tag was read."""
        for _ in _turns():
            found = self._store.get_with_etag(key)
            known = json.loads(found[0]) if found else None
            page = rendered(_next_serial(known))
            if known is not None and without_serial(known) == without_serial(page):
                return page
            if self._store.replace(key, to_json(page), found[1] if found else None):
                return page
        raise AssertionError  # pragma: no cover  (turns never end)

    def _derive(self, source: str, key: str, rendered: Callable[[Page], bytes]) -> None:
        """Have an object hold what is made of the page in another one, unless it holds that of a newer one."""
        for _ in _turns():
            found = self._store.get_with_etag(key)
            page = self._read(source)
            if page is None or (found is not None and _serial(found[0]) >= page["_serial"]):
                return
            if self._store.replace(key, rendered(page), found[1] if found else None):
                return

    def _read(self, key: str) -> Page | None:
        data = self._store.get(key)
        page: Page | None = None if data is None else json.loads(data)
        return page

    def _files_of(self, target: str, project: str) -> list[File]:
        """A project's files that policy lets stand, from their entries."""
        entries = list(self._store.list(layout.index_entries(target, project)))
        if len(entries) == 1:
            found = [self._file_of(entries[0])]
        else:
            with ThreadPoolExecutor(_READERS) as pool:
                found = list(pool.map(self._file_of, entries))
        return [file for file in found if file is not None]

    def _file_of(self, key: str) -> File | None:
        """The file of an entry, remembered; None where it is gone, or policy refuses it or what it was built with.

        An entry is replaced only by another build of the same bytes, when policy refuses what it was built with.
        """
        known = self._files.get(key)
        if known is None or not self._policies.lets_stand(known[1]):
            data = self._store.get(key)
            if data is None:
                return None
            manifest = Manifest.from_json(data)
            if len(self._files) >= _REMEMBERED:
                self._files.clear()
            known = self._files[key] = file_of(manifest), manifest.sources
        return known[0] if self._policies.lets_stand(known[1]) else None


def _html(page: Page, name: str) -> bytes:
    return to_html(page, f"Wheels of {name}")


def _listing(write: Callable[[Any], bytes]) -> Callable[[Page], bytes]:
    """The list of projects on a flat page, written so."""
    return lambda page: write(
        root_page((project_of(file["filename"]) for file in files_of(page)), serial=page["_serial"])
    )


def _noted_project(note: str) -> str:
    return note.rpartition("/")[2].partition(".")[0]


def _serial(data: bytes) -> int:
    """The serial number of a page that was written, as JSON or HTML."""
    return int(json.loads(data)["_serial"]) if data.startswith(b"{") else serial_of(data)


def _next_serial(known: Page | None) -> int:
    """Larger than the last one, and than that of a page that was there and is gone."""
    return max(time.time_ns() // 1000, known["_serial"] + 1 if known else 0)


def _turns() -> Iterator[None]:
    """A turn for each try: who lost often waits longer, for others do the work meanwhile."""
    pause = 0.01
    while True:
        yield
        time.sleep(pause * random.random())  # noqa: S311  (no secret)
        pause = min(1.0, pause * 2)
