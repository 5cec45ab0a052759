"""What operators do about wheels that are on the farm's indexes already, and what it came to."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Action(StrEnum):
    """What can be done: a yank (PEP 592), a quarantine (PEP 792), a deletion, and the end of the first two."""

    YANK = "yank"
    UNYANK = "unyank"
    QUARANTINE = "quarantine"
    RELEASE = "release"
    DELETE = "delete"


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexChange:
    """One action and the files that it was about, by target. `version` is "" for a whole project."""

    action: Action
    project: str
    version: str
    reason: str
    files: Mapping[str, tuple[str, ...]]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "IndexChange":
        files = {str(target): tuple(map(str, names)) for target, names in value["files"].items()}
        named = {name: str(value[name]) for name in ("project", "version", "reason")}
        return cls(action=Action(value["action"]), files=files, **named)
