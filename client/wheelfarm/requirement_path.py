"""Which requirement brought a project: the shortest way to it, through the Requires-Dist of a resolved set."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from packaging.markers import UndefinedComparison, UndefinedEnvironmentName
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from wheelfarm.wheel_metadata import wheel_metadata


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """A requirement as it is written, and the project whose Requires-Dist it is ("" for one that was asked for)."""

    requirement: str
    of: str = ""


def requirement_path(
    asked: Sequence[str], requires_dist: Mapping[str, Sequence[str]], goal: str, environment: Mapping[str, str]
) -> tuple[Step, ...]:
    """The shortest way from what was asked for to the project `goal`, markers and extras evaluated; () for none.

    `requires_dist` maps each project of the set, by its normalised name, to its Requires-Dist lines.
    """
    ways: list[tuple[Step, ...]] = [(Step(requirement=line),) for line in asked if applies(line, "", environment)]
    seen: set[tuple[str, str]] = set()
    for way in ways:  # grows on the way
        requirement = Requirement(way[-1].requirement)
        name = canonicalize_name(requirement.name)
        if name == goal:
            return way
        for extra in ("", *sorted(requirement.extras)):
            if (name, extra) not in seen:
                seen.add((name, extra))
                lines = (line for line in requires_dist.get(name, ()) if applies(line, extra, environment))
                ways += [(*way, Step(requirement=line, of=name)) for line in lines]
    return ()


def requires_dist_of(metadata: bytes) -> tuple[str, ...]:
    """The Requires-Dist lines of a METADATA file."""
    return wheel_metadata(metadata).requires_dist


def applies(line: str, extra: str, environment: Mapping[str, str]) -> bool:
    """Whether a requirement counts on a target where its project is wanted with that extra ("": with none).

    What can't be read counts not: metadata is foreign text.
    """
    try:
        marker = Requirement(line).marker
        return marker.evaluate({**environment, "extra": extra}) if marker else not extra
    except (InvalidRequirement, UndefinedComparison, UndefinedEnvironmentName, ValueError, RecursionError):
        return False
