"""Explanations: what wheels of the farm were built from and with, and what was built with them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from packaging.utils import parse_wheel_filename

from wheelfarm.job import Sdist
from wheelfarm.requirement_path import Step, requirement_path
from wheelfarm.revision import MetadataRevision
from wheelfarm.target import Target
from wheelfarm.wheel import BuiltWheel


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildSystem:
    """How the sdist says that it is built, and what its backend asked for beyond that."""

    requires: tuple[str, ...] = ()
    backend: str = ""
    backend_path: tuple[str, ...] = ()
    asked: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Use:
    """A wheel in a build environment, and the way from the build requirements to it (() where it is not known).

    Among what a wheel was built with, `filename` is the one used; among what was built with it, the one built.
    """

    filename: str
    way: tuple[Step, ...] = ()


_TEXTS = ("url", "upload_time", "upstream", "fallback", "sandbox", "driver", "derived_root")


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """Where a wheel of the farm comes from, as its provenance tells; what an older farm did not write is empty.

    `prebuilt` is the policy's exception for a wheel that was not built but taken from upstream, with its `reason` and
    when it `expires`. `url`, `upload_time`, `upstream` and what was `passed_over` on the way to it are the source
    index's, `built_at` seconds since the epoch, `job` the id of the build.
    """

    wheel: BuiltWheel
    sdist: Sdist
    target: Target
    url: str = ""
    upload_time: str = ""
    upstream: str = ""
    passed_over: tuple[str, ...] = ()
    build_system: BuildSystem | None = None
    constraints: tuple[str, ...] = ()
    fallback: str = ""
    metadata: MetadataRevision = field(default_factory=MetadataRevision)
    recipe: Any = None
    prebuilt: Any = None
    fit: Any = None
    trial: Any = None
    sandbox: str = ""
    driver: str = ""
    derived_root: str = ""
    job: str = ""
    built_at: float | None = None
    duration_s: float | None = None
    built_with: tuple[Use, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Origin":
        system = value.get("build_system")
        texts = {name: str(value.get(name, "")) for name in _TEXTS}
        return cls(
            wheel=BuiltWheel.from_json(value["wheel"]),
            sdist=Sdist.from_json(value["sdist"]),
            target=Target.from_json(value["target"]),
            build_system=_build_system(system) if system else None,
            constraints=tuple(map(str, value.get("constraints", ()))),
            passed_over=tuple(map(str, value.get("passed_over", ()))),
            metadata=MetadataRevision.from_json(value.get("metadata")),
            recipe=value.get("recipe"),
            prebuilt=value.get("prebuilt"),
            fit=value.get("fit"),
            trial=value.get("trial"),
            job=str(value.get("job", "")),
            built_at=_number(value.get("built_at")),
            duration_s=_number(value.get("duration_s")),
            built_with=tuple(map(use_from_json, value.get("built_with", ()))),
            **texts,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Explanation:
    """One wheel explained, by file names of one target's index.

    `origins` holds the wheel and everything that it was built with, and so on; `used_by` maps the wheel, and whatever
    was built with it, and so on, to what was built with each; `others` are the project's other wheels. `earlier` is the
    target as the wheel was built for before, where that was another revision.
    """

    wheel: BuiltWheel
    origins: Mapping[str, Origin]
    used_by: Mapping[str, tuple[Use, ...]] = field(default_factory=dict)
    others: tuple[BuiltWheel, ...] = ()
    earlier: Target | None = None

    @property
    def origin(self) -> Origin:
        return self.origins[self.wheel.filename]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Explanation":
        return cls(
            wheel=BuiltWheel.from_json(value["wheel"]),
            origins={name: Origin.from_json(origin) for name, origin in value["origins"].items()},
            used_by={name: tuple(map(use_from_json, uses)) for name, uses in value["used_by"].items()},
            others=tuple(map(BuiltWheel.from_json, value["others"])),
            earlier=Target.from_json(value["earlier"]) if value.get("earlier") else None,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ResolvedSet:
    """What was asked for once, and what it resolved to: each project's wheel and its Requires-Dist lines."""

    asked: tuple[str, ...]
    resolved_at: float
    wheels: Mapping[str, BuiltWheel]
    requires_dist: Mapping[str, Sequence[str]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Bringing:
    """A way from something asked for to a wheel: through Requires-Dist to `runtime`'s end, and from there through
    build requirements, each the way within the environment of the wheel that is named."""

    resolved_at: float
    runtime: tuple[Step, ...]
    builds: tuple[tuple[str, tuple[Step, ...]], ...] = ()


def bringings(
    explanation: Explanation, sets: Sequence[ResolvedSet], environment: Mapping[str, str]
) -> Iterator[Bringing]:
    """The ways to the explained wheel: from each requirement asked for that leads to it at run time; where there is
    none, the shortest through build requirements. Sets are taken in their order, each question once."""
    found, asked_before = False, set()
    for resolved in sets:
        if resolved.asked not in asked_before and _holds(resolved, explanation.wheel.filename):
            asked_before.add(resolved.asked)
            for way in _ways(resolved, explanation.wheel.filename, environment):
                found = True
                yield Bringing(resolved_at=resolved.resolved_at, runtime=way)
    if not found:
        yield from _through_builds(explanation, sets, environment)


def _through_builds(
    explanation: Explanation, sets: Sequence[ResolvedSet], environment: Mapping[str, str]
) -> Iterator[Bringing]:
    chains: list[tuple[tuple[str, tuple[Step, ...]], ...]] = [()]
    seen = {explanation.wheel.filename}
    for chain in chains:  # grows on the way
        filename = chain[0][0] if chain else explanation.wheel.filename
        for resolved in sets if chain else ():
            if _holds(resolved, filename):
                for way in _ways(resolved, filename, environment)[:1]:
                    yield Bringing(resolved_at=resolved.resolved_at, runtime=way, builds=chain)
                    return
        for use in explanation.used_by.get(filename, ()):
            if use.filename not in seen:
                seen.add(use.filename)
                chains.append(((use.filename, use.way), *chain))


def _holds(resolved: ResolvedSet, filename: str) -> bool:
    return any(wheel.filename == filename for wheel in resolved.wheels.values())


def _ways(resolved: ResolvedSet, filename: str, environment: Mapping[str, str]) -> list[tuple[Step, ...]]:
    goal = str(parse_wheel_filename(filename)[0])
    ways = (requirement_path([line], resolved.requires_dist, goal, environment) for line in resolved.asked)
    return [way for way in ways if way]


def _build_system(value: Mapping[str, Any]) -> BuildSystem:
    lists = {name: tuple(map(str, value.get(name) or ())) for name in ("requires", "backend_path", "asked")}
    return BuildSystem(backend=str(value.get("backend", "")), **lists)


def use_from_json(value: Mapping[str, Any]) -> Use:
    way = tuple(Step(requirement=str(step["requirement"]), of=str(step["of"])) for step in value["way"])
    return Use(filename=str(value["filename"]), way=way)


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
