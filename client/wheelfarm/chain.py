"""The client's way from requirements to wheels: resolve, submit, follow, fetch, remember."""

import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress

from wheelfarm.errors import RequestFailed, WheelfarmError
from wheelfarm.farm import Farm, RequestStatus
from wheelfarm.job import JobKind, Sdist
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
) -> tuple[BuiltWheel, ...]:
    """The wheels of everything the requirements need, each built from its sdist, all of them in the wheelhouse.

    With `retry` failures that the farm remembers are forgotten.

    Raises RequestFailed when a build failed, and the reason when there is no resolution. An interrupted call gives up
    its request: what nobody else waits for is not built.
    """
    farm.register(target)
    resolution = _resolve(requirements, target, farm, settings, watch, retry)
    requirements.check_hashes(resolution.sdists)
    if not resolution.sdists:
        return ()
    status = _follow(farm, JobKind.WHEEL, resolution.sdists, target, watch, retry)
    wheels = tuple(status.wheels[job] for job in status.requested)
    for wheel in wheelhouse.missing(wheels):
        farm.download(wheel, wheelhouse.wheel(wheel))
    return wheels


def _resolve(
    requirements: Requirements, target: Target, farm: Farm, settings: Settings, watch: Watch, retry: bool
) -> Resolution:
    for _ in range(_ROUNDS):
        found = resolve(
            requirements.lines,
            target=target,
            farm=farm,
            cache_dir=settings.cache / "uv",
            constraints=requirements.constraints,
            retry=retry,
        )
        if not isinstance(found, MetadataPending):
            return found
        _follow(farm, JobKind.METADATA, found.sdists, target, watch, retry)
    raise WheelfarmError(f"The resolution still asked for metadata after {_ROUNDS} rounds.")


def _follow(
    farm: Farm, kind: JobKind, sdists: Sequence[Sdist], target: Target, watch: Watch, retry: bool
) -> RequestStatus:
    """Submit and wait for the end. Raises RequestFailed when a job has no result."""
    request_id = uuid.uuid4().hex
    try:
        status = farm.wait(farm.submit(kind, sdists, target, request_id=request_id, force=retry), watch)
    finally:
        with suppress(WheelfarmError):
            farm.close_request(request_id)
    if status.failed:
        raise RequestFailed(status.failed)
    return status
