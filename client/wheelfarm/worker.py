"""Workers as the farm knows them: what each serves, how many builds it runs at once, and whether it takes new ones."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class ServedTarget:
    """A target that a worker builds for, in the one revision that its machine has. `queue` carries its jobs."""

    name: str
    revision: str
    queue: str
    python_version: str
    platform: str

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "ServedTarget":
        return cls(**{name: str(value[name]) for name in cls.__slots__})


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerRecord:
    """A worker by its own account. `started_at` is in seconds since the epoch; one that `drains` takes no new jobs.

    `targets` is empty for the worker of an embedded farm, which builds for whatever interpreter of its machine.
    """

    name: str
    host: str
    pid: int
    targets: tuple[ServedTarget, ...]
    slots: int
    sandbox: str
    version: str
    started_at: float
    drains: bool = False

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "WorkerRecord":
        return cls(
            name=str(value["name"]),
            host=str(value["host"]),
            pid=int(value["pid"]),
            targets=tuple(map(ServedTarget.from_json, value["targets"])),
            slots=int(value["slots"]),
            sandbox=str(value["sandbox"]),
            version=str(value["version"]),
            started_at=float(value["started_at"]),
            drains=bool(value["drains"]),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class LivingWorker:
    """A worker that was heard of not long ago: `seen_s` seconds."""

    record: WorkerRecord
    seen_s: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "LivingWorker":
        return cls(record=WorkerRecord.from_json(value["record"]), seen_s=float(value["seen_s"]))
