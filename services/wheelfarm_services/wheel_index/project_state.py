"""What was said about a project since it was built: yanks (PEP 592), quarantine (PEP 792) and deletions.

A state is the list of what operators did, in order and each with its reason, so that nothing is undone without a
trace, and what follows from what upstream has yanked or removed.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any

from wheelfarm.errors import CorruptObject
from wheelfarm.index_change import Action
from wheelfarm_services.wheel_index.filenames import version_of

UPSTREAM = "upstream"
"""By whom it was done, where upstream was followed."""


class Status(StrEnum):
    """The status of a project on the index, in the words of PEP 792."""

    ACTIVE = "active"
    QUARANTINED = "quarantined"


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """One thing that was done, to a version or, where that is "", to the whole project; `at` is in ISO 8601, UTC.

    `filenames` are the files that a deletion took.
    """

    action: Action
    version: str
    reason: str
    at: str
    by: str
    filenames: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class ProjectState:
    """What stands of a project's events. `upstream` are the yanks and quarantines of versions that upstream has taken
    back, by version, for as long as it does; an operator's word on a version comes before them."""

    events: tuple[Event, ...] = ()
    upstream: Mapping[str, Event] = field(default_factory=dict)

    @property
    def status(self) -> Status:
        return Status.QUARANTINED if self._last("", Action.QUARANTINE, Action.RELEASE) else Status.ACTIVE

    @property
    def reason(self) -> str:
        """Why the project as a whole has its status."""
        found = self._last("", Action.QUARANTINE, Action.RELEASE)
        return found.reason if found else ""

    def yanked(self, version: str) -> str | None:
        """Why a version is yanked, "" without a reason; None where it is not. Operators have the last word."""
        for event in reversed(self.events):
            if event.version == version and event.action in (Action.YANK, Action.UNYANK):
                return event.reason if event.action is Action.YANK else None
        followed = self.upstream.get(version)
        return followed.reason if followed and followed.action is Action.YANK else None

    def quarantine(self, version: str) -> Event | None:
        """By what a version is quarantined, itself or with its project."""
        for told in ("", version):
            if event := self._last(told, Action.QUARANTINE, Action.RELEASE):
                return event
        followed = self.upstream.get(version)
        released = any(one.action is Action.RELEASE and one.version in ("", version) for one in self.events)
        return followed if followed and followed.action is Action.QUARANTINE and not released else None

    def deletion(self, filename: str) -> Event | None:
        """By what a file was deleted; what is built anew gets another name."""
        deletions = (one for one in self.events if one.action is Action.DELETE and filename in one.filenames)
        return next(deletions, None)

    def shows(self, filename: str) -> bool:
        """Whether a file may be on a page."""
        return self.quarantine(version_of(filename)) is None and self.deletion(filename) is None

    def after(self, event: Event) -> "ProjectState":
        """The state with one more event."""
        return replace(self, events=(*self.events, event))

    def to_json(self) -> bytes:
        return json.dumps(asdict(self), sort_keys=True, indent=1).encode()

    @classmethod
    def from_json(cls, data: bytes) -> "ProjectState":
        value = json.loads(data)
        upstream = {version: _followed(version, one) for version, one in value["upstream"].items()}
        return cls(events=tuple(map(_event, value["events"])), upstream=upstream)

    def _last(self, version: str, begins: Action, ends: Action) -> Event | None:
        """The event that began what has not been ended."""
        for event in reversed(self.events):
            if event.version == version and event.action in (begins, ends):
                return event if event.action is begins else None
        return None


def read_state(project: str, data: bytes | None) -> ProjectState:
    """A project's state as the store has it. Raises CorruptObject for what can't be read."""
    try:
        return ProjectState() if data is None else ProjectState.from_json(data)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptObject(
            f"What was said about {project} can't be read in the store: states/{project}.json has not the form that "
            "this version of the farm writes.",
            hint="Bring it back from a backup. Without it no wheel of the project counts as yanked, quarantined or "
            "deleted.",
        ) from error


def _followed(version: str, value: Mapping[str, Any] | str) -> Event:
    """What follows from what upstream did to a version; at first it was kept as the reason of a yank alone."""
    if isinstance(value, str):
        return Event(action=Action.YANK, version=version, reason=value, at="", by=UPSTREAM)
    return _event(value)


def _event(value: Mapping[str, Any]) -> Event:
    return Event(**{**value, "action": Action(value["action"]), "filenames": tuple(value["filenames"])})
