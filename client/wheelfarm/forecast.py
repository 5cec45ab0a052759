"""Forecasts: what the farm can tell of a build before it is made, from what it has seen and what the sdist states."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from wheelfarm.job import Failure, Sdist
from wheelfarm.wheel import BuiltWheel


class DurationSource(StrEnum):
    """Whose past builds a duration is the median of, on the same target."""

    VERSION = "this version"
    PROJECT = "other versions"
    BACKEND = "others of its backend and kind"
    TARGET = "others of its kind"
    NONE = "unknown"


@dataclass(frozen=True, kw_only=True, slots=True)
class Doubt:
    """Why a build may fail, in words, and what to do about it; `likely` where nothing speaks against it."""

    text: str
    likely: bool = False
    hint: str = ""

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Doubt":
        return cls(text=str(value["text"]), likely=bool(value["likely"]), hint=str(value["hint"]))


@dataclass(frozen=True, kw_only=True, slots=True)
class Forecast:
    """One sdist on one target.

    `wheel` is there when it has been built; `requires` and `constraints` are what its build environment would be
    resolved from, with what the backend asks for where it has been asked (`backend_asked`); `recipe` says why the farm
    has a recipe for it, `prebuilt` which wheel of upstream policy takes in its place, and why; `native` holds where it
    is seen to compile; `tools` are programs that its build needs and no build requirement brings.
    """

    sdist: Sdist
    job: str
    wheel: BuiltWheel | None = None
    backend: str = ""
    requires: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    recipe: str = ""
    prebuilt: str = ""
    backend_asked: bool = False
    native: bool = False
    tools: tuple[str, ...] = ()
    seconds: float | None = None
    seconds_from: DurationSource = DurationSource.NONE
    failure: Failure | None = None
    doubts: tuple[Doubt, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Forecast":
        seconds = value["seconds"]
        return cls(
            sdist=Sdist.from_json(value["sdist"]),
            job=str(value["job"]),
            wheel=BuiltWheel.from_json(value["wheel"]) if value["wheel"] else None,
            backend=str(value["backend"]),
            requires=tuple(map(str, value["requires"])),
            constraints=tuple(map(str, value["constraints"])),
            recipe=str(value["recipe"]),
            prebuilt=str(value.get("prebuilt", "")),
            backend_asked=bool(value["backend_asked"]),
            native=bool(value["native"]),
            tools=tuple(map(str, value["tools"])),
            seconds=None if seconds is None else float(seconds),
            seconds_from=DurationSource(value["seconds_from"]),
            failure=Failure.from_json(value["failure"]) if value["failure"] else None,
            doubts=tuple(map(Doubt.from_json, value["doubts"])),
        )
