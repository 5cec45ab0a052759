"""A request: what a client asks for, as it comes over the wire and as the store keeps it."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from wheelfarm.digest import SHA256
from wheelfarm.errors import InputError
from wheelfarm.job import DEFAULT_VIEW, LOCAL_VIEW, Job, JobKind, Sdist
from wheelfarm.target import TARGET_NAME

MOST_JOBS = 5000
USUAL_PRIORITY, LEAST_PRIORITY = 5, 99
_OF_A_CLIENT, _OF_THE_FARM = re.compile(r"[0-9a-f]{32}"), re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestTarget:
    """A target that jobs are asked for, in one of its revisions."""

    name: str
    revision: str

    @classmethod
    def from_json(cls, value: Any) -> "RequestTarget":
        """Raises InputError naming what is malformed."""
        name, revision = (str(value.get(part)) if isinstance(value, Mapping) else "" for part in cls.__slots__)
        if not TARGET_NAME.fullmatch(name) or not SHA256.fullmatch(revision):
            raise InputError("request: a target's 'name' must be one, and its 'revision' a sha256.")
        return cls(name=name, revision=revision)


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """A job of `kind` for each of `sdists` on each of `targets`. The client makes up the id, so that it may ask twice.

    Those whose sha256 is in `local` were sent by a client, as every tree was; of those in `hashed` the user gave the
    digest. `recipes` are the digests of the jobs' recipes, as they were when the farm accepted the request. One that
    was `cancelled` is kept until its client has seen it, a `detached` one for as long as it takes, whether anybody asks
    about it or not. `tenant` is whose it is; the lower its `priority`, the sooner its jobs are done. `farm` is the one
    that accepted it: embedded farms of several machines may share a bucket. `trace` is the traceparent of that moment.
    """

    id: str
    kind: JobKind
    targets: tuple[RequestTarget, ...]
    sdists: tuple[Sdist, ...]
    force: bool = False
    local: tuple[str, ...] = ()
    hashed: tuple[str, ...] = ()
    recipes: Mapping[str, str] = field(default_factory=dict)
    cancelled: bool = False
    detached: bool = False
    accepted_at: float = 0.0
    tenant: str = ""
    priority: int = USUAL_PRIORITY
    farm: str = ""
    trace: str = ""

    @classmethod
    def from_json(cls, value: Any) -> "Request":
        """Read a client's request off the wire. Raises InputError naming the field that is malformed."""
        if not isinstance(value, Mapping) or not _OF_A_CLIENT.fullmatch(str(value.get("id", ""))):
            raise InputError("request: an object is expected, with an 'id' of 32 hex digits.")
        return cls._read(value)

    @classmethod
    def from_store(cls, data: bytes) -> "Request":
        """Read what was written when the farm accepted the request."""
        value = json.loads(data)
        return replace(
            cls._read(value),
            recipes=dict(value.get("recipes", {})),
            cancelled=bool(value.get("cancelled", False)),
            accepted_at=float(value.get("accepted_at", 0.0)),
            tenant=str(value.get("tenant", "")),
            farm=str(value.get("farm", "")),
            trace=str(value.get("trace", "")),
        )

    @classmethod
    def _read(cls, value: Any) -> "Request":
        if not isinstance(value, Mapping) or not isinstance(value.get("sdists"), list):
            raise InputError("request: an object with a list of 'sdists' is expected.")
        if not is_request_id(str(value.get("id", ""))) or value.get("kind") not in list(JobKind):
            raise InputError("request: 'id' must be 32 hex digits and 'kind' a kind of job.")
        targets = _targets(value)
        if not 0 < len(value["sdists"]) * len(targets) <= MOST_JOBS:
            asked = f"{len(value['sdists'])} sdists on {len(targets)} targets"
            raise InputError(f"request: from 1 to {MOST_JOBS} jobs are accepted, not {asked}.")
        local, hashed = (_sha256s(value, name) for name in ("local", "hashed"))
        return cls(
            id=str(value["id"]),
            kind=JobKind(value["kind"]),
            targets=targets,
            sdists=tuple(Sdist.from_json(sdist) for sdist in value["sdists"]),
            force=bool(value.get("force", False)),
            local=local,
            hashed=hashed,
            priority=read_priority(value.get("priority", USUAL_PRIORITY)),
            detached=bool(value.get("detached", False)),
        )

    def to_json(self) -> bytes:
        """What `from_store` reads."""
        return json.dumps(asdict(self)).encode()

    def asks_for_same(self, other: "Request") -> bool:
        """Whether another one is this one, sent again."""
        mine, others = (
            replace(one, recipes={}, cancelled=False, accepted_at=0.0, force=False, priority=0, farm="", trace="")
            for one in (self, other)
        )
        return mine == others

    def is_local(self, sdist: Sdist) -> bool:
        return self.kind is JobKind.SDIST or sdist.sha256 in self.local

    def jobs(self, queues: Sequence[str]) -> list[Job]:
        """The jobs asked for: target by target, each of which has its queue, in the order of the sdists."""
        return [
            Job(
                kind=self.kind,
                target=target.name,
                target_revision=target.revision,
                queue=queue,
                sdist=sdist,
                recipe=self.recipes.get(_recipe_key(target.revision, sdist), ""),
                source_view=LOCAL_VIEW if self.is_local(sdist) else DEFAULT_VIEW,
            )
            for target, queue in zip(self.targets, queues, strict=True)
            for sdist in self.sdists
        ]

    def with_recipes_of(self, jobs: Iterable[Job]) -> "Request":
        """The request, its recipes those of its jobs."""
        recipes = {_recipe_key(job.target_revision, job.sdist): job.recipe for job in jobs if job.recipe}
        return replace(self, recipes=recipes)


def is_request_id(text: str) -> bool:
    """Whether that is the form of an id. Those that the farm makes up itself are longer: no client can take one."""
    return bool(_OF_A_CLIENT.fullmatch(text) or _OF_THE_FARM.fullmatch(text))


def read_priority(value: Any) -> int:
    """A priority off the wire. Raises InputError."""
    if type(value) not in (int, float) or not 0 <= value <= LEAST_PRIORITY or value % 1:  # 7.0 is one in JSON, too
        raise InputError(f"priority: a whole number from 0 to {LEAST_PRIORITY} is expected, the lower the sooner.")
    return int(value)


def _recipe_key(revision: str, sdist: Sdist) -> str:
    return f"{revision}/{sdist.sha256}"


def _targets(value: Mapping[str, Any]) -> tuple[RequestTarget, ...]:
    """The targets: a list of them or, where there is one, `target` and `target_revision`."""
    if "targets" not in value:
        alone = {"name": value.get("target"), "revision": value.get("target_revision")}
        return (RequestTarget.from_json(alone),)
    listed = value["targets"]
    if not isinstance(listed, list) or {"target", "target_revision"} & set(value):
        raise InputError("request: either a list of 'targets' is expected, or one 'target' and its 'target_revision'.")
    targets = tuple(map(RequestTarget.from_json, listed))
    if len(set(targets)) < len(targets):
        raise InputError("request: 'targets' names one of them twice.")
    return targets


def _sha256s(value: Mapping[str, Any], name: str) -> tuple[str, ...]:
    found = value.get(name, [])
    if not isinstance(found, list | tuple) or not all(isinstance(sha256, str) for sha256 in found):
        raise InputError(f"request: {name!r} must be a list of sha256s.")
    return tuple(found)
