"""Garbage of a farm's store: the rules by which it may go, and the report of what went."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from wheelfarm.errors import InputError, ProtocolError

_MOST_DAYS = 36500


@dataclass(frozen=True, kw_only=True, slots=True)
class GarbageRules:
    """What may go: what nothing leads to and nobody asked for in `unused_days`; of what clients sent, the oldest beyond
    `local_mib` (0: no bound); and all that was built for the targets that are to be forgotten.

    Nothing goes that is younger than `grace_days`.
    """

    unused_days: float = 30.0
    grace_days: float = 1.0
    local_mib: int = 0
    forgotten_targets: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "GarbageRules":
        """Raises InputError: nothing is removed by rules that were not understood whole."""
        try:
            rules = cls(**{**value, "forgotten_targets": tuple(map(str, value.get("forgotten_targets", ())))})
            days = (rules.unused_days, rules.grace_days)
            if not all(isinstance(number, int | float) for number in (*days, rules.local_mib)):
                raise TypeError
        except TypeError as error:
            raise InputError(
                "Rules of garbage that are none.", hint="Update wheelfarm, here or at the farm."
            ) from error
        if rules.local_mib < 0:
            raise InputError(f"A quota of {rules.local_mib} MiB is not accepted.", hint="Accepted: 0 MiB or more.")
        if not 1 <= rules.grace_days <= rules.unused_days <= _MOST_DAYS:
            raise InputError(
                f"Nothing younger than a day is removed: {rules.unused_days:g} days are not accepted.",
                hint=f"Accepted: from 1 to {_MOST_DAYS} days.",
            )
        return rules


@dataclass(frozen=True, kw_only=True, slots=True)
class Removed:
    """How many objects of a kind went, and their bytes."""

    objects: int
    bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class GarbageReport:
    """What went, or with `dry_run` would go, by kind; and the writes that were cleaned up since their writers died."""

    dry_run: bool
    removed: dict[str, Removed]
    unfinished_writes: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "GarbageReport":
        try:
            removed = {str(kind): Removed(**counts) for kind, counts in value["removed"].items()}
            return cls(**{**value, "removed": removed})
        except (LookupError, TypeError, AttributeError) as error:
            raise ProtocolError("The farm answered with no report of garbage.") from error
