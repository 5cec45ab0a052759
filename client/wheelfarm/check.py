"""A check of what a machine has: what was looked at, what was found, and what mends it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from wheelfarm.errors import WheelfarmError

_INSTALL = "apt-get install "


class CheckState(StrEnum):
    """MISSING keeps everything from working, OPTIONAL only what the check's detail names."""

    OK = "ok"
    OPTIONAL = "optional"
    MISSING = "missing"


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One thing that was looked at; `remedy` is the command or the advice that mends it."""

    name: str
    state: CheckState
    detail: str
    remedy: str = ""

    def to_json(self) -> dict[str, str]:
        return {name: str(value) for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Check":
        return cls(
            name=str(value["name"]),
            state=CheckState(value["state"]),
            detail=str(value["detail"]),
            remedy=str(value["remedy"]),
        )


def found(name: str, detail: str) -> Check:
    """A thing that is as it should be."""
    return Check(name=name, state=CheckState.OK, detail=detail)


def missing(name: str, detail: str, remedy: str) -> Check:
    """A thing without which nothing works."""
    return Check(name=name, state=CheckState.MISSING, detail=detail, remedy=remedy)


def optional(name: str, detail: str, remedy: str) -> Check:
    """A thing without which something works less well."""
    return Check(name=name, state=CheckState.OPTIONAL, detail=detail, remedy=remedy)


def failed(name: str, error: WheelfarmError) -> Check:
    """A thing whose use ended with an error."""
    return missing(name, error.message, error.hint)


def check_lines(checks: Sequence[Check]) -> list[str]:
    """Checks as people read them: a line each, the remedies of all that is installed by one command together last."""
    lines = [_line(check) for check in checks]
    for state, label in ((CheckState.MISSING, "needed"), (CheckState.OPTIONAL, "optional")):
        remedies = [check.remedy for check in checks if check.state is state]
        packages = [word for remedy in remedies for word in _packages(remedy)]
        if len(packages) > 1:
            lines.append(f"all that is {label}: {_INSTALL}{' '.join(dict.fromkeys(packages))}")
    return lines


def _packages(remedy: str) -> list[str]:
    return remedy.removeprefix(_INSTALL).split() if remedy.startswith(_INSTALL) else []


def _line(check: Check) -> str:
    remedy = f" -> {check.remedy}" if check.remedy else ""
    return f"{check.state:<9} {check.name:<16} {check.detail}{remedy}".rstrip()
