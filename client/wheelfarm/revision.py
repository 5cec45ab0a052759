"""Revisions of an sdist's metadata: what a wheel told otherwise than its sdist had been taken to."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class MetadataRevision:
    """Which revision of its sdist's metadata a wheel agrees with: 0 is what was told first, by the sdist or a build.

    `differences` from that are lines such as `-Requires-Dist: a`, which is not true, and `+Requires-Dist: b`, which is.
    """

    revision: int = 0
    differences: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Any) -> "MetadataRevision":
        """Read what `to_json` wrote; what an older farm did not write counts as revision 0."""
        found = value if isinstance(value, Mapping) else {}
        revision, differences = found.get("revision"), found.get("differences")
        return cls(
            revision=revision if type(revision) is int else 0,
            differences=tuple(map(str, differences)) if isinstance(differences, list | tuple) else (),
        )
