"""The client's way from requirements to wheels: resolve, submit, follow, fetch, remember."""

import uuid
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from wheelfarm.errors import InputError, RequestFailed, WheelfarmError
from wheelfarm.farm import Farm, RequestStatus
from wheelfarm.job import JobKind, JobStatus, Sdist
from wheelfarm.requirements import Requirements
from wheelfarm.resolution import MetadataPending, Resolution, estimate, metadata_unsettled, resolve
from wheelfarm.settings import Settings
from wheelfarm.target import Target
from wheelfarm.traces import span
from wheelfarm.wheel import BuiltWheel
from wheelfarm.wheelhouse import Wheelhouse

if TYPE_CHECKING:
    from wheelfarm.local_source import LocalSource
    from wheelfarm.packing import PackedSource


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalSdist:
    """The sdist of a local source, and the extras that are wanted of it."""

    sdist: Sdist
    extras: tuple[str, ...]

    @property
    def requirement(self) -> str:
        """The requirement line by which it takes part in a resolution."""
        extras = f"[{','.join(self.extras)}]" if self.extras else ""
        return f"{self.sdist.name}{extras}=={self.sdist.version}"


Watch = Callable[[RequestStatus], None]
_ROUNDS = 1000
_GATHERED_S = 0.5
_RESOLVED_AGAIN_S = 60.0
"""For how long a resolution that nobody answers is begun anew, unless the farm is given longer."""
_METADATA_ROUNDS = 10
_INTERRUPTED_S = 2.0
"""How long a user who interrupts a command waits for the farm to hear of it."""


class Chain:
    """One command's way through a farm, for one target: its steps share whom they ask, who watches, what is done about
    failures, and the requests that are open.

    With `retry` failures that the farm remembers are forgotten; to `keep_going` is to build what can be built all the
    same after a failure. What a chain has asked for, and nobody else, is not built any more when it is left, however
    that happens.
    """

    def __init__(
        self,
        farm: Farm,
        target: Target,
        *,
        settings: Settings,
        watch: Watch,
        retry: bool = False,
        keep_going: bool = False,
    ) -> None:
        self.farm = farm
        self.target = target
        self.settings = settings
        self.watch = watch
        self.retry = retry
        self.keep_going = keep_going
        self.local: tuple[LocalSdist, ...] = ()
        self._requests = ExitStack()

    def __enter__(self) -> Self:
        self.farm.register(self.target)
        return self

    def __exit__(self, *ended_by: Any) -> None:
        self._requests.__exit__(*ended_by)

    def take_local(self, sources: "Sequence[PackedSource]") -> tuple[LocalSdist, ...]:
        """The sdists of local sources, which are wanted from now on: trees are sent to the farm and their sdists made
        there, or were before.

        Raises RequestFailed when one could not be made, InputError when two are of one project or one is of another
        project than was said.
        """
        sdists = {source.tree.sha256: _sent(source, self.farm) for source in sources}
        trees = {source.tree.sha256: source.tree for source in sources if sdists[source.tree.sha256] is None}
        if trees:
            status = self.follow(JobKind.SDIST, list(trees.values()))
            if status.failed:
                raise RequestFailed(status.failed)
            sdists |= {tree: status.sdists[job] for tree, job in zip(trees, status.requested, strict=True)}
        made = [(source.source, sdist) for source in sources if (sdist := sdists[source.tree.sha256]) is not None]
        _require_distinct(made)
        self.local = tuple(LocalSdist(sdist=sdist, extras=source.extras) for source, sdist in made)
        return self.local

    def build(self, requirements: Requirements, wheelhouse: Wheelhouse) -> tuple[BuiltWheel, ...]:
        """The wheels of everything that the requirements and the local sdists need, each built from its sdist, all of
        them in the wheelhouse.

        Raises RequestFailed when a build failed, with the wheels that are there all the same when it keeps going, and
        the reason when there is no resolution.
        """
        status, failed = self.settle(requirements)
        if status is None:
            return ()
        self._requests.close()
        wheels = _fetched(status, self.farm, wheelhouse, keep_going=self.keep_going)
        return _whole(wheels, [*failed, *status.failed], keep_going=self.keep_going)

    def leave(self, requirements: Requirements) -> RequestStatus | None:
        """Ask for the same by a request that goes on when nobody asks about it; None where nothing is needed. What has
        to be built to resolve is waited for.

        Raises what `build` raises for want of a resolution.
        """
        sdists, hashed, _ = self.pin(requirements)
        return self.submit(JobKind.WHEEL, sdists, hashed=hashed, detached=True) if sdists else None

    @property
    def sent(self) -> frozenset[str]:
        """The sha256s of the local sdists."""
        return frozenset(one.sdist.sha256 for one in self.local)

    @property
    def _local_sdists(self) -> tuple[Sdist, ...]:
        """The local sdists, each once, whatever extras are wanted of it."""
        return tuple(dict.fromkeys(one.sdist for one in self.local))

    def settle(self, requirements: Requirements) -> tuple[RequestStatus | None, list[JobStatus]]:
        """Resolve and build until every wheel tells the metadata that it was resolved with, so that the set is closed;
        None where nothing is needed. What a lock names is built as it stands.

        Raises MetadataUnsettled after some rounds, and what `resolve` raises.
        """
        known: dict[str, int] = {}
        for _ in range(_METADATA_ROUNDS):
            sdists, hashed, failed = self.pin(requirements)
            if not sdists:
                return None, failed
            status = self.follow(JobKind.WHEEL, sdists, hashed=hashed)
            revised = {job: one.revision for job, one in status.revisions.items()}
            if requirements.lock is not None or revised.items() <= known.items():
                return status, failed
            known |= revised
        raise metadata_unsettled([str(status.jobs[job].sdist) for job in revised], _METADATA_ROUNDS)

    def pin(self, requirements: Requirements) -> tuple[Sequence[Sdist], list[str], list[JobStatus]]:
        """The sdists that are to be built, the sha256s of those that the user gave the digest of, and the jobs for want
        of whose metadata requirements were left out. Raises what `resolve` raises, and where a digest is another."""
        resolution, failed = self.resolve(requirements)
        requirements.check_hashes([sdist for sdist in resolution.sdists if sdist.sha256 not in self.sent])
        hashed = [sdist.sha256 for sdist in resolution.sdists if requirements.vouches_for(sdist)]
        return resolution.sdists, hashed, failed

    @span("resolve")
    def resolve(self, requirements: Requirements) -> tuple[Resolution, list[JobStatus]]:
        """The pinned sdists; metadata that only builds can tell is computed on the way.

        To keep going is to leave requirements out whose own metadata can't be computed: those jobs come second. Raises
        RequestFailed when nothing is left, or when what is left needs such a project.
        """
        if requirements.lock is not None:
            return Resolution(sdists=requirements.lock.sdists(self.target)), []
        failed: dict[str, JobStatus] = {}
        for _ in range(_ROUNDS):
            found = resolve(
                (*requirements.lines, *(one.requirement for one in self.local)),
                target=self.target,
                farm=self.farm,
                cache_dir=self.settings.cache / "uv",
                constraints=requirements.constraints,
                local=self._local_sdists,
                preferred=requirements.preferred,
                prerelease=requirements.prerelease,
                retry=self.retry or self.keep_going,
                patience_s=max(_RESOLVED_AGAIN_S, self.farm.outage_s),
            )
            if not isinstance(found, MetadataPending):
                return found, list(failed.values())
            self.submit(JobKind.WHEEL, found.sdists)  # it tells its metadata, and is most probably wanted
            submitted = self.submit(JobKind.METADATA, found.sdists)
            self.look_ahead(requirements, found.sdists)
            status = self.farm.wait(submitted, self.watch, keep_going=self.keep_going, until=_some_ended)
            failed |= {job.id: job for job in status.failed}
            rest = requirements.without({job.sdist.name for job in status.failed})
            if status.failed and not (self.keep_going and rest.lines and rest != requirements):
                raise RequestFailed(list(failed.values()))
            requirements = rest
        raise WheelfarmError(f"The resolution still asked for metadata after {_ROUNDS} rounds.")

    def look_ahead(self, requirements: Requirements, pending: Sequence[Sdist]) -> None:
        """Have built what will probably be wanted once the metadata of `pending` is known: much can be told without.

        What turns out not to be wanted is given up with its request; nothing that is installed depends on it.
        """
        with suppress(WheelfarmError):
            guess = estimate(
                (*requirements.lines, *(one.requirement for one in self.local)),
                target=self.target,
                farm=self.farm,
                cache_dir=self.settings.cache / "uv",
                constraints=requirements.constraints,
                local=self._local_sdists,
                preferred=requirements.preferred,
                prerelease=requirements.prerelease,
            )
            others = [sdist for sdist in guess.sdists if sdist not in pending]
            if others:
                self.submit(JobKind.WHEEL, others, force=False)  # or what failed would be built again each time

    def follow(self, kind: JobKind, sdists: Sequence[Sdist], *, hashed: Sequence[str] = ()) -> RequestStatus:
        """Submit, and wait for the end or for the first failure."""
        with span("build", kind=kind, jobs=len(sdists)):
            return self.farm.wait(self.submit(kind, sdists, hashed=hashed), self.watch, keep_going=self.keep_going)

    def submit(
        self,
        kind: JobKind,
        sdists: Sequence[Sdist],
        *,
        hashed: Sequence[str] = (),
        detached: bool = False,
        force: bool | None = None,
    ) -> RequestStatus:
        """Open a request; the sha256s `hashed` were given by who asks, not by an index. A `detached` one stays open;
        unless it is to `force`, failures are remembered."""
        request_id = uuid.uuid4().hex
        if not detached:
            self._requests.push(partial(self._close, request_id))
        local = [sdist.sha256 for sdist in sdists if sdist.sha256 in self.sent]
        return self.farm.submit(
            kind,
            sdists,
            [self.target],
            request_id=request_id,
            local=local,
            hashed=hashed,
            force=self.retry if force is None else force,
            detached=detached,
        )

    def _close(self, request_id: str, ended_by: type[BaseException] | None, *_: object) -> None:
        within_s = 20.0 if ended_by is None or issubclass(ended_by, Exception) else _INTERRUPTED_S
        with suppress(WheelfarmError):
            self.farm.close_request(request_id, within_s=within_s)


def await_wheels(
    status: RequestStatus, *, farm: Farm, wheelhouse: Wheelhouse, watch: Watch, keep_going: bool = False
) -> tuple[BuiltWheel, ...]:
    """The wheels of a request once all are there, in the wheelhouse, and the request is closed.

    Raises RequestFailed as `Chain.build` does.
    """
    status = farm.wait(status, watch, keep_going=keep_going)
    wheels = _fetched(status, farm, wheelhouse, keep_going=keep_going)
    if status.final:
        with suppress(WheelfarmError):  # its wheels are here, and who asks again finds them
            farm.close_request(status.id)
    return _whole(wheels, status.failed, keep_going=keep_going)


@span("fetch")
def _fetched(status: RequestStatus, farm: Farm, wheelhouse: Wheelhouse, *, keep_going: bool) -> tuple[BuiltWheel, ...]:
    """The wheels of a request that are there, brought into the wheelhouse unless a failure makes them useless."""
    wheels = tuple(status.wheels[job] for job in status.requested if job in status.wheels)
    if keep_going or not status.failed:
        for wheel in wheelhouse.missing(wheels):
            farm.download(wheel, wheelhouse.wheel(wheel))
    return wheels


def _whole(wheels: tuple[BuiltWheel, ...], failed: Sequence[JobStatus], *, keep_going: bool) -> tuple[BuiltWheel, ...]:
    """The wheels, where nothing has failed."""
    if failed:
        raise RequestFailed(failed, wheels if keep_going else ())
    return wheels


def _some_ended(status: RequestStatus) -> bool:
    """Whether some of the jobs asked for have ended, and no other one for a while: a resolution need not wait for the
    longest build to find out what else is missing."""
    ended = [job.finished_at for job in map(status.jobs.__getitem__, status.requested) if job.state.final]
    return bool(ended) and status.now - max(ended) > _GATHERED_S


def _sent(source: "PackedSource", farm: Farm) -> Sdist | None:
    """Send a source; the sdist that it is, None for a tree."""
    filename = "" if source.is_tree else source.tree.filename
    return farm.send(source.archive, source.tree.sha256, filename=filename)


def _require_distinct(made: "Sequence[tuple[LocalSource, Sdist]]") -> None:
    """Raise InputError where sources name other projects than they are, or two are of one."""
    found: dict[str, tuple[LocalSource, Sdist]] = {}
    for source, sdist in made:
        if source.name not in ("", sdist.name):
            raise InputError(f"{source.shown} is the project {sdist.name}, and {source.name} was asked for.")
        other, known = found.setdefault(sdist.name, (source, sdist))
        if known.sha256 != sdist.sha256:
            raise InputError(f"{other.shown} and {source.shown} are both the project {sdist.name}.")
