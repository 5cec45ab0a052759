"""What was said about a project since it was built: yanks (PEP 592), quarantine (PEP 792) and deletions.

A state is the list of what operators did, in order and each with its reason, so that nothing is undone without a
trace, and the versions that upstream has yanked or removed.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum

from wheelfarm.index_change import Action
from wheelfarm_services.wheel_index.filenames import version_of


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
    """What stands of a project's events. `upstream` are the versions that upstream has taken back, with its reason."""

    events: tuple[Event, ...] = ()
    upstream: Mapping[str, str] = field(default_factory=dict)

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
        return self.upstream.get(version)

    def quarantine(self, version: str) -> Event | None:
        """By what a version is quarantined, itself or with its project."""
        return self._last("", Action.QUARANTINE, Action.RELEASE) or self._last(
            version, Action.QUARANTINE, Action.RELEASE
        )

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
        events = (
            Event(**{**one, "action": Action(one["action"]), "filenames": tuple(one["filenames"])})
            for one in value["events"]
        )
        return cls(events=tuple(events), upstream=dict(value["upstream"]))

    def _last(self, version: str, begins: Action, ends: Action) -> Event | None:
        """The event that began what has not been ended."""
        for event in reversed(self.events):
            if event.version == version and event.action in (begins, ends):
                return event if event.action is begins else None
        return None
