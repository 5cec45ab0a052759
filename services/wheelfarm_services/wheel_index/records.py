"""What is recorded of a build: its plan, and the manifest by which it was committed."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from wheelfarm.job import LOCAL_VIEW, Sdist
from wheelfarm.revision import MetadataRevision
from wheelfarm.wheel import BuiltWheel


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedRequirement:
    """A build requirement of a plan: the sdist it was built from, and the wheel."""

    sdist: Sdist
    wheel: BuiltWheel


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What a build will use, exactly: its build requirements, sorted by name, and the key of everything that decides
    the wheel's bytes.

    `constraints` are those that the requirements were resolved under; `fallback` says why a first plan was given up.
    """

    build_key: str
    requirements: tuple[PlannedRequirement, ...]
    constraints: tuple[str, ...] = ()
    fallback: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Plan":
        requirements = tuple(
            PlannedRequirement(
                sdist=Sdist.from_json(requirement["sdist"]), wheel=BuiltWheel.from_json(requirement["wheel"])
            )
            for requirement in value["requirements"]
        )
        return cls(
            build_key=value["build_key"],
            requirements=requirements,
            constraints=tuple(value.get("constraints", ())),
            fallback=str(value.get("fallback", "")),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """The commit of one build: the wheel as published, the digest it had before it was stamped, and its provenance."""

    wheel: BuiltWheel
    unstamped_sha256: str
    metadata_sha256: str
    requires_python: str
    target: str
    provenance: dict[str, Any]

    @property
    def is_local(self) -> bool:
        """Whether it was built from what a client sent, and so stands on no index."""
        return bool(self.provenance.get("job", {}).get("source_view") == LOCAL_VIEW)

    @property
    def sources(self) -> tuple[Sdist, ...]:
        """What it was built from and with, as far as its provenance tells."""
        own, plan = self.provenance.get("job", {}).get("sdist"), self.provenance.get("plan", {})
        used = [Sdist.from_json(one["sdist"]) for one in plan.get("requirements", ())]
        return tuple([Sdist.from_json(own), *used] if own else used)

    @property
    def metadata_revision(self) -> MetadataRevision:
        """Which revision of its sdist's metadata the wheel agrees with."""
        return MetadataRevision.from_json(self.provenance.get("metadata"))

    def to_json(self) -> bytes:
        return json.dumps(asdict(self), sort_keys=True, indent=1).encode()

    @classmethod
    def from_json(cls, data: bytes) -> "Manifest":
        value = json.loads(data)
        return cls(**{**value, "wheel": BuiltWheel.from_json(value["wheel"])})
