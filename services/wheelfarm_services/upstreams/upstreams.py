"""All upstreams of a source view together: who is asked for what, what they said last, and what is here of it."""

import json
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol

from packaging.utils import is_normalized_name

from wheelfarm.digest import digest_of
from wheelfarm.errors import InputError, UpstreamError
from wheelfarm.job import Sdist
from wheelfarm_services import layout
from wheelfarm_services.store import Store
from wheelfarm_services.upstreams.directory import DirectoryIndex
from wheelfarm_services.upstreams.http_index import HttpIndex, PageAnswer, Seen
from wheelfarm_services.upstreams.listing import ListedSdist, ProjectPage, Sidecar
from wheelfarm_services.upstreams.settings import Routes, UpstreamSettings

_FORM = 1
"""The form in which pages are kept; one of another form is read anew."""


class Index(Protocol):
    """One upstream."""

    name: str
    url: str

    def page(self, name: str, seen: Seen | None = None, *, wheels: bool = False) -> PageAnswer: ...

    def fetch(self, listed: ListedSdist, path: Path) -> None: ...

    def sidecar(self, sidecar: Sidecar) -> bytes: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class _Answer:
    """What an upstream said of a project: its page, or none, perhaps for an error that is configured to be `ignored`;
    and what is to be kept of that, and where ("" for nothing new)."""

    page: ProjectPage | None
    ignored: str = ""
    key: str = ""
    text: str = ""


class Upstreams:
    """The upstreams of a farm; `routes` gives them when they are asked first. `offline`, nobody is asked, and what was
    said last holds as far as its sdists are in the store."""

    def __init__(
        self,
        routes: Callable[[], Routes],
        store: Store,
        *,
        offline: bool = False,
        make: Callable[[UpstreamSettings], Index] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._find_routes = routes
        self._store = store
        self._offline = offline
        self._make = make or index_of
        self._clock = clock
        self._indexes: dict[str, Index] = {}
        self._guard = threading.Lock()

    def page(self, name: str, *, wheels: bool = False) -> ProjectPage | None:
        """The page of the first upstream, of those that may be asked for the project, that has it, with `wheels` those
        listed, too; None where all of them answer that it is absent.

        Raises UpstreamError for every other answer of one that is asked: no other is asked then.
        """
        if not is_normalized_name(name):
            return None
        passed_over: list[str] = []
        absences: list[_Answer] = []
        for settings in self._routes.asked_for(name):
            answer = self._answer_of(settings, name, wheels)
            if answer.page is not None:
                for absence in absences:
                    self._keep(absence)
                return _signed(answer.page, settings.name, tuple(passed_over))
            passed_over += [answer.ignored] if answer.ignored else []
            absences.append(answer)
        return None

    def fetch(self, listed: ListedSdist, path: Path) -> None:
        """Write the bytes of a listed sdist to `path`. Raises HashMismatch, UpstreamError."""
        if self._offline:
            raise UpstreamError(
                f"{listed.sdist.filename} was never brought here, and the farm is offline.",
                hint="Ask for it once without --offline; what was brought then stays.",
            )
        self._index(self._settings(listed.upstream)).fetch(listed, path)

    def trusted_metadata(self, page: ProjectPage, sdist: Sdist) -> bytes | None:
        """What the page's upstream, where its metadata is trusted, says of a version: that of a wheel (PEP 658)."""
        fitting = [one for one in page.sidecars if one.version == sdist.version]
        listed = next((one for one in page.sdists if one.sdist == sdist), None)
        if not fitting or listed is None:
            return None
        best = min(fitting, key=lambda one: (not one.url.endswith("-none-any.whl.metadata"), one.url))
        return self._index(self._settings(listed.upstream)).sidecar(best)

    def _answer_of(self, settings: UpstreamSettings, name: str, wheels: bool) -> "_Answer":
        """What one upstream says of a project. A page is kept; that there is none only where one was kept before, for
        anybody can ask for any name: what a farm that is offline has to know is kept once another upstream has it."""
        if settings.kind == "directory":
            return _Answer(page=self._index(settings).page(name, wheels=wheels).page)
        key = layout.upstream_page(digest_of([settings.url, settings.trust_metadata, wheels])[:16], name)
        known = self._known(key)
        if self._offline:
            return _Answer(page=self._offline_page(settings, name, known))
        if known is not None and self._clock() < known[2]:
            return _Answer(page=known[0])
        said = self._index(settings).page(name, known[1] if known else None, wheels=wheels)
        if said.ignored:
            return _Answer(page=None, ignored=said.ignored)
        page = known[0] if said.unchanged and known else said.page
        kept = {"form": _FORM, "page": page and page.to_json(), "seen": asdict(said.seen)}
        changed = not said.unchanged or said.fresh_s
        text = json.dumps({**kept, "fresh_until": self._clock() + said.fresh_s}) if changed else ""
        answer = _Answer(page=page, key=key, text=text)
        if page is not None or known is not None:
            self._keep(answer)
        return answer

    def _keep(self, answer: "_Answer") -> None:
        if answer.text:
            self._store.put(answer.key, answer.text.encode())

    def _known(self, key: str) -> tuple[ProjectPage | None, Seen, float] | None:
        """What an upstream said of a project last, how it is told from what it says now, and how long it holds."""
        data = self._store.get(key)
        with suppress(ValueError, LookupError, TypeError, AttributeError, InputError):
            value = json.loads(data) if data is not None else {}
            if value.get("form") == _FORM:
                page = ProjectPage.from_json(value["page"]) if value["page"] else None
                return page, Seen(**value["seen"]), float(value["fresh_until"])
        return None

    def _offline_page(
        self, settings: UpstreamSettings, name: str, known: tuple[ProjectPage | None, Seen, float] | None
    ) -> ProjectPage | None:
        if known is None:
            raise UpstreamError(
                f"Nothing is known of {name} from the upstream {settings.name!r}, and the farm is offline.",
                hint="Ask for it once without --offline; what was brought then stays.",
            )
        page = known[0]
        if page is None:
            return None
        here = tuple(one for one in page.sdists if self._store.size(layout.sdist_record(one.sdist.sha256)) is not None)
        absent = len(page.sdists) - len(here)
        remark = (f"{absent} sdists of {name} are not here, and the farm is offline",) if absent else ()
        return replace(page, sdists=here, sidecars=(), remarks=(*page.remarks, *remark))

    @cached_property
    def _routes(self) -> Routes:
        return self._find_routes()

    def _settings(self, name: str) -> UpstreamSettings:
        for settings in self._routes.upstreams:
            if settings.name == name:
                return settings
        raise UpstreamError(f"The upstream {name!r} is none of this farm any more.", hint="Resolve again.")

    def _index(self, settings: UpstreamSettings) -> Index:
        with self._guard:
            if settings.name not in self._indexes:
                self._indexes[settings.name] = self._make(settings)
            return self._indexes[settings.name]


def _signed(page: ProjectPage, upstream: str, passed_over: tuple[str, ...]) -> ProjectPage:
    """The page with where it is from in each of its sdists, which keep that in their records."""
    signed = {"upstream": upstream, "passed_over": passed_over}
    sdists = tuple(replace(one, **signed) for one in page.sdists)  # type: ignore[arg-type]
    wheels = tuple(replace(one, **signed) for one in page.wheels)  # type: ignore[arg-type]
    return replace(page, sdists=sdists, wheels=wheels)


def index_of(settings: UpstreamSettings) -> Index:
    """The client of one upstream."""
    return DirectoryIndex(settings) if settings.kind == "directory" else HttpIndex(settings)
