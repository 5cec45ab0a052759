"""The client's way from requirements to wheels: resolve, submit, follow, fetch, remember."""

import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from wheelfarm.errors import RequestFailed, WheelfarmError
from wheelfarm.farm import Farm, RequestStatus
from wheelfarm.job import JobKind, JobStatus, Sdist
from wheelfarm.requirements import Requirements
from wheelfarm.resolution import MetadataPending, Resolution, resolve
from wheelfarm.settings import Settings
from wheelfarm.target import Target
from wheelfarm.wheel import BuiltWheel
from wheelfarm.wheelhouse import Wheelhouse

Watch = Callable[[RequestStatus], None]
_ROUNDS = 100


def build(
    requirements: Requirements,
    target: Target,
    *,
    farm: Farm,
    settings: Settings,
    wheelhouse: Wheelhouse,
    watch: Watch,
    retry: bool = False,
    keep_going: bool = False,
) -> tuple[BuiltWheel, ...]:
    """The wheels of everything the requirements need, each built from its sdist, all of them in the wheelhouse.

    With `retry` failures that the farm remembers are forgotten. Raises RequestFailed when a build failed, and the
    reason when there is no resolution. To `keep_going` is to build what can be built all the same; the exception names
    those wheels, which are in the wheelhouse, too. An interrupted call gives up its request: what nobody else waits for
    is not built.
    """
    farm.register(target)
    chain = _Chain(farm=farm, target=target, settings=settings, watch=watch, retry=retry, keep_going=keep_going)
    resolution, failed = chain.resolve(requirements)
    requirements.check_hashes(resolution.sdists)
    if not resolution.sdists:
        return ()
    status = chain.follow(JobKind.WHEEL, resolution.sdists)
    failed += status.failed
    wheels = tuple(status.wheels[job] for job in status.requested if job in status.wheels)
    if keep_going or not failed:
        for wheel in wheelhouse.missing(wheels):
            farm.download(wheel, wheelhouse.wheel(wheel))
    if failed:
        raise RequestFailed(failed, wheels if keep_going else ())
    return wheels


@dataclass(frozen=True, kw_only=True, slots=True)
class _Chain:
    """What the steps share: whom they ask, for which target, who watches, and what is done about failures."""

    farm: Farm
    target: Target
    settings: Settings
    watch: Watch
    retry: bool
    keep_going: bool

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
                requirements.lines,
                target=self.target,
                farm=self.farm,
                cache_dir=self.settings.cache / "uv",
                constraints=requirements.constraints,
                prerelease=requirements.prerelease,
                retry=self.retry or self.keep_going,
            )
            if not isinstance(found, MetadataPending):
                return found, list(failed.values())
            status = self.follow(JobKind.METADATA, found.sdists)
            failed |= {job.id: job for job in status.failed}
            rest = requirements.without({job.sdist.name for job in status.failed})
            if status.failed and not (self.keep_going and rest.lines and rest != requirements):
                raise RequestFailed(list(failed.values()))
            requirements = rest
        raise WheelfarmError(f"The resolution still asked for metadata after {_ROUNDS} rounds.")

    def follow(self, kind: JobKind, sdists: Sequence[Sdist]) -> RequestStatus:
        """Submit, and wait for the end or for the first failure; what then nobody else wants is not built."""
        request_id = uuid.uuid4().hex
        try:
            submitted = self.farm.submit(kind, sdists, self.target, request_id=request_id, force=self.retry)
            return self.farm.wait(submitted, self.watch, keep_going=self.keep_going)
        finally:
            with suppress(WheelfarmError):
                self.farm.close_request(request_id)
