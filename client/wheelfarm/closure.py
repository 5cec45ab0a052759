"""Whether a set of wheels is closed: whatever its wheels require for a target is in it, in a version that will do.

What is resolved is closed. A lock that somebody else made is built as it stands, and its wheels may tell otherwise.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from packaging.requirements import Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet

from wheelfarm.errors import SetNotClosed
from wheelfarm.names import normalized
from wheelfarm.requirement_path import applies
from wheelfarm.target import Target
from wheelfarm.target_markers import marker_environment
from wheelfarm.wheel import BuiltWheel
from wheelfarm.wheel_metadata import WheelMetadata


@dataclass(frozen=True, kw_only=True, slots=True)
class Unsatisfied:
    """Something that a wheel requires and does not get, and what is the case instead."""

    wheel: BuiltWheel
    requirement: str
    instead: str

    def __str__(self) -> str:
        return f"{self.wheel.name}=={self.wheel.version} requires {self.requirement}, and {self.instead}"


def unsatisfied(metadata: Mapping[BuiltWheel, WheelMetadata], target: Target) -> list[Unsatisfied]:
    """What wheels of a set require on a target and do not find in it, in the set's order.

    Extras count where another wheel of the set wants them: which ones were asked for besides, a lock does not tell.
    """
    environment = marker_environment(target)
    wheels = {wheel.name: wheel for wheel in metadata}
    found = [lacking for wheel, told in metadata.items() for lacking in _python(wheel, told, target)]
    reached = [(wheel, "") for wheel in metadata]
    for wheel, extra in reached:  # grows on the way
        for line in metadata[wheel].requires_dist:
            if not applies(line, extra, environment):
                continue
            requirement = Requirement(line)
            other = wheels.get(normalized(requirement.name))
            if other is None or not requirement.specifier.contains(other.version, prereleases=True):
                instead = f"the set has {other.name}=={other.version}" if other else "it is not in the set"
                found.append(Unsatisfied(wheel=wheel, requirement=line, instead=instead))
                continue
            wanted = ((other, normalized(name)) for name in sorted(requirement.extras))
            reached += [one for one in wanted if one not in reached]
    return list(dict.fromkeys(found))


def not_closed(lock: object, lacking: Iterable[Unsatisfied]) -> SetNotClosed:
    """The error for a lock whose wheels require what it has not."""
    told = "".join(f"\n  {one}" for one in lacking)
    return SetNotClosed(
        f"{lock} was built as it stands, and its wheels require what it does not have:{told}",
        hint="Lock anew what the lock was made from: wheelfarm lock resolves by what built wheels tell. "
        "Or take the set as it is (overridden requirements, packages of other sources): --allow-unclosed",
    )


def _python(wheel: BuiltWheel, told: WheelMetadata, target: Target) -> Iterator[Unsatisfied]:
    try:
        fits = SpecifierSet(told.requires_python).contains(target.python_version, prereleases=True)
    except InvalidSpecifier:
        return  # resolvers pass over what can't be read, too
    if not fits:
        instead = f"{target.name} has {target.python_version}"
        yield Unsatisfied(wheel=wheel, requirement=f"Python {told.requires_python}", instead=instead)
