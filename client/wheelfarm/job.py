"""Jobs: what the farm is asked to make, and the digests that make equal questions one job."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from wheelfarm.digest import SHA256, digest_of
from wheelfarm.errors import InputError
from wheelfarm.target import TARGET_NAME

SALT = "1"
"""Part of every request key; raised when the farm itself must build everything anew."""

PROJECT_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
SDIST_VERSION = re.compile(r"[a-z0-9!.+-]{1,200}")
SDIST_FILENAME = re.compile(r"[A-Za-z0-9._!+-]{1,250}\.(tar\.gz|zip|whl)")

DEFAULT_VIEW = "default"
"""The source view of the farm's upstream."""

LOCAL_VIEW = "local"
"""The source view of what a client sent itself, which is on no index."""

TREE_VERSION = "0+tree"
"""Stands for the version of a tree, which nobody knows before its sdist is made."""


class JobKind(StrEnum):
    """What a job makes of an sdist: its wheel, or the metadata that only its build backend can tell; or of a tree that
    a client sent: its sdist."""

    WHEEL = "wheel"
    METADATA = "metadata"
    SDIST = "sdist"


class JobState(StrEnum):
    """Where a job is. DONE, FAILED and CANCELLED are final."""

    WAITING = "waiting"
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        return self in (JobState.DONE, JobState.FAILED, JobState.CANCELLED)


class FailureClass(StrEnum):
    """Why a job failed; decides what is retried and how long the answer is remembered (architecture, rule 8)."""

    INFRASTRUCTURE = "infrastructure"
    WORKER_LOST = "worker_lost"
    LIMIT = "limit"
    DEPENDENCY = "dependency"
    MISSING = "missing"
    """A header, library or tool that the target lacks."""
    BUILD = "build"
    INPUT = "input"
    CANCELLED = "cancelled"


@dataclass(frozen=True, kw_only=True, slots=True)
class Sdist:
    """One sdist of the source index: normalised name, normalised version, file name and sha256 (lower-case hex).

    A packed tree is told as one, too, with TREE_VERSION, and so is a prebuilt wheel that policy takes in its place.
    """

    name: str
    version: str
    filename: str
    sha256: str

    def __str__(self) -> str:
        return f"{self.name}=={self.version}" if self.version != TREE_VERSION else f"{self.name} (tree)"

    @property
    def is_prebuilt(self) -> bool:
        """Whether it is a wheel of upstream, which enters by an exception of the policy alone."""
        return self.filename.endswith(".whl")

    @classmethod
    def from_json(cls, value: Any) -> "Sdist":
        """Read what `asdict` wrote; every field is checked, for this comes over the wire. Raises InputError."""
        if not isinstance(value, Mapping):
            raise InputError(f"job: 'sdist' must be an object, not {value!r}")
        return cls(
            name=_checked(value, "name", PROJECT_NAME),
            version=_checked(value, "version", SDIST_VERSION),
            filename=_checked(value, "filename", SDIST_FILENAME),
            sha256=_checked(value, "sha256", SHA256),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """What to make (`kind`) of which sdist, for which target in which revision, with which recipe.

    A `replica` above 0 is a rebuild that must not find the first result.
    """

    kind: JobKind
    sdist: Sdist
    target: str
    target_revision: str
    queue: str
    recipe: str = ""
    source_view: str = DEFAULT_VIEW
    replica: int = 0

    @property
    def request_key(self) -> str:
        """The digest that leads to the recorded plan: everything known before planning that decides the wheel."""
        return digest_of(
            [
                "request",
                SALT,
                self.sdist.sha256,
                self.target,
                self.target_revision,
                self.recipe,
                self.source_view,
            ]
        )

    @property
    def is_local(self) -> bool:
        """Whether its sdist was sent by a client: what is made of it stands on no index."""
        return self.source_view == LOCAL_VIEW

    @property
    def id(self) -> str:
        """The digest of (kind, request key, replica): equal questions are one job."""
        return digest_of(["job", self.kind, self.request_key, self.replica])

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Job":
        """Read what `to_json` wrote; raises InputError naming the field that is malformed."""
        if value.get("kind") not in list(JobKind):
            raise InputError(f"job: 'kind' must be one of {', '.join(JobKind)}, not {value.get('kind')!r}")
        replica = value.get("replica", 0)
        if type(replica) is not int or not 0 <= replica < 1000:
            raise InputError(f"job: 'replica' must be a small whole number, not {replica!r}")
        return cls(
            kind=JobKind(value["kind"]),
            sdist=Sdist.from_json(value.get("sdist")),
            target=_checked(value, "target", TARGET_NAME),
            target_revision=_checked(value, "target_revision", SHA256),
            queue=_checked(value, "queue", TARGET_NAME),
            recipe=_checked(value, "recipe", re.compile(r"|[0-9a-f]{64}")),
            source_view=_checked(value, "source_view", TARGET_NAME),
            replica=replica,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """Why a job ended badly: `error` is the `code` of a class of `wheelfarm.errors`, `cause` the id of the job that
    really failed when this one only depended on it, `log_tail` the last lines of its build log."""

    failure_class: FailureClass
    error: str
    message: str
    hint: str = ""
    cause: str = ""
    log_tail: str = ""

    def to_json(self) -> dict[str, str]:
        return {name: str(value) for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Failure":
        known = {name: str(value.get(name, "")) for name in ("error", "message", "hint", "cause", "log_tail")}
        return cls(failure_class=FailureClass(value["failure_class"]), **known)


@dataclass(frozen=True, kw_only=True, slots=True)
class JobStatus:
    """A job as the farm reports it; times are seconds since the epoch, 0 when it has not come to that."""

    id: str
    kind: JobKind
    sdist: Sdist
    state: JobState
    attempt: int = 0
    queued_at: float = 0.0
    started_at: float = 0.0
    finished_at: float = 0.0
    waits_for: tuple[str, ...] = field(default=())
    failure: Failure | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "JobStatus":
        failure = value.get("failure")
        return cls(
            id=str(value["id"]),
            kind=JobKind(value["kind"]),
            sdist=Sdist.from_json(value["sdist"]),
            state=JobState(value["state"]),
            attempt=int(value["attempt"]),
            queued_at=float(value["queued_at"]),
            started_at=float(value["started_at"]),
            finished_at=float(value["finished_at"]),
            waits_for=tuple(value["waits_for"]),
            failure=Failure.from_json(failure) if failure else None,
        )


def _checked(value: Mapping[str, Any], name: str, pattern: re.Pattern[str]) -> str:
    found = value.get(name, "")
    if not isinstance(found, str) or not pattern.fullmatch(found):
        raise InputError(f"job: {name!r} is malformed: {found!r} (accepted: {pattern.pattern})")
    return found
