"""The fleet: which workers live and what they serve, as each says of itself, in Redis, for as long as it says so.

Nothing is decided by it that a crash could get wrong: jobs are held by leases, not by being listed here.
"""

import json
from collections.abc import Iterable

from redis import Redis
from redis.exceptions import RedisError

from wheelfarm.errors import FarmUnavailable, NoWorker
from wheelfarm.worker import LivingWorker, ServedTarget, WorkerRecord

_NAMES = "{wheelfarm}:workers"
_FORGOTTEN_S = 7 * 86400


class Fleet:
    """The workers of a farm; safe to use from several threads. Raises FarmUnavailable while Redis does not answer."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def tell(self, record: WorkerRecord, *, for_s: float) -> None:
        """List a worker, as living for `for_s` seconds from now."""
        entry = json.dumps({"for_s": for_s, "record": record.to_json()})
        try:
            with self._redis.pipeline(transaction=False) as pipeline:
                pipeline.set(_key(record.name), entry, px=round(for_s * 1000))
                pipeline.sadd(_NAMES, record.name)
                pipeline.expire(_NAMES, _FORGOTTEN_S)
                pipeline.execute()
        except RedisError as error:
            raise _unavailable(error) from error

    def leave(self, name: str) -> None:
        """Take a worker that has ended off the list."""
        try:
            self._redis.delete(_key(name))
            self._redis.srem(_NAMES, name)
        except RedisError as error:
            raise _unavailable(error) from error

    def workers(self) -> list[LivingWorker]:
        """The living workers, by name."""
        try:
            names = sorted(map(str, self._redis.smembers(_NAMES)))
            with self._redis.pipeline(transaction=False) as pipeline:
                for name in names:
                    pipeline.get(_key(name))
                    pipeline.pttl(_key(name))
                replies = pipeline.execute()
        except RedisError as error:
            raise _unavailable(error) from error
        pairs = zip(replies[::2], replies[1::2], strict=True)
        return [_living(json.loads(entry), left_ms / 1000) for entry, left_ms in pairs if entry and left_ms > 0]

    def require(self, name: str, revision: str) -> None:
        """Raise NoWorker, saying what is served, unless a living worker serves that target."""
        served = [target for worker in self.workers() for target in worker.record.targets]
        if not any((target.name, target.revision) == (name, revision) for target in served):
            raise no_worker(name, revision, served)


def no_worker(name: str, revision: str, served: Iterable[ServedTarget]) -> NoWorker:
    """The error for a target that nobody serves."""
    told = sorted({f"{target.name} (revision {target.revision[:12]})" for target in served})
    same = any(line.startswith(f"{name} ") for line in told)
    advice = (
        "The same interpreter is served with another toolchain (compiler, libc, -dev packages) than this machine's."
        if same
        else f"Start a worker on a machine of that kind: wheelfarm worker --target {_served_as(name)}"
    )
    return NoWorker(
        f"No worker serves the target {name} in revision {revision[:12]}. "
        f"Served: {', '.join(told) if told else 'nothing, for no worker lives'}.",
        hint=f"{advice}\nWhich workers live, and for what: wheelfarm status",
    )


def _served_as(name: str) -> str:
    return "host" if name.startswith("host-") else name


def _key(name: str) -> str:
    return f"{{wheelfarm}}:worker:{name}"


def _living(entry: dict[str, object], left_s: float) -> LivingWorker:
    record = WorkerRecord.from_json(entry["record"])  # type: ignore[arg-type]
    return LivingWorker(record=record, seen_s=max(0.0, float(str(entry["for_s"])) - left_s))


def _unavailable(error: RedisError) -> FarmUnavailable:
    return FarmUnavailable(f"Redis can't be asked for the workers ({type(error).__name__}).")
