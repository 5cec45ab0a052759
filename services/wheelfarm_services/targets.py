"""Targets: those that commands register with their own machine's farm, and those that a fleet's workers serve."""

import json
from dataclasses import replace
from typing import Protocol

from wheelfarm.errors import InputError
from wheelfarm.target import HOST_QUEUE, Target
from wheelfarm_services import layout
from wheelfarm_services.fleet import Fleet
from wheelfarm_services.store import Store


class Targets(Protocol):
    """What can be built for."""

    def register(self, target: Target) -> None:
        """A client names the target that it wants wheels for. Raises NoWorker for one that nobody ever served."""
        ...

    def known(self, name: str, revision: str) -> Target:
        """The target of that name and revision, with the queue of its jobs. Raises InputError where there is none."""
        ...

    def require_served(self, target: Target) -> None:
        """Raise NoWorker unless somebody can build for a target now."""
        ...

    def served(self) -> list[Target]:
        """The targets that clients may name because somebody serves them now, those of the latest workers first."""
        ...


class RegisteredTargets:
    """The targets of an embedded farm: its commands are run on its machine by its user, so they name what they like."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def register(self, target: Target) -> None:
        if self._store.size(layout.target(target.name, target.revision)) is None:
            define(self._store, target)

    def known(self, name: str, revision: str) -> Target:
        return replace(stored_target(self._store, name, revision), queue=HOST_QUEUE)

    def require_served(self, target: Target) -> None:
        """The farm's own worker, which its keeper sees to, serves them all."""

    def served(self) -> list[Target]:
        return []


class ServedTargets:
    """The targets of a fleet, defined by its workers alone: a client can but say which one it wants."""

    def __init__(self, store: Store, fleet: Fleet) -> None:
        self._store = store
        self._fleet = fleet

    def register(self, target: Target) -> None:
        if self._store.size(layout.target(target.name, target.revision)) is None:
            self.require_served(target)

    def known(self, name: str, revision: str) -> Target:
        target = stored_target(self._store, name, revision)
        return replace(target, queue=queue_of(target))

    def require_served(self, target: Target) -> None:
        self._fleet.require(target.name, target.revision)

    def served(self) -> list[Target]:
        workers = sorted(self._fleet.workers(), key=lambda worker: -worker.record.started_at)
        named = dict.fromkeys((one.name, one.revision) for worker in workers for one in worker.record.targets)
        return [stored_target(self._store, *name) for name in named]


def queue_of(target: Target) -> str:
    """The queue of a fleet's target: one for each revision, since a worker can build for its own alone."""
    return f"{target.name[:80]}.{target.revision[:16]}"


def define(store: Store, target: Target) -> None:
    """Put down a target as its worker defines it, whatever was there. Raises InputError where the index of that name
    has wheels of another kind."""
    key, data = layout.target(target.name, target.revision), json.dumps(target.to_json()).encode()
    if store.get(key) != data:
        _require_same_kind(store, target)
        store.put(key, data)


def _require_same_kind(store: Store, target: Target) -> None:
    """Native and portable wheels, and those of different variants or Pythons, never stand on one index."""
    for key in store.list(layout.target_definitions(target.name)):
        require_same_kind(target, Target.from_json(json.loads(store.get(key) or b"{}")))


def require_same_kind(target: Target, before: Target) -> None:
    """Raise InputError where a changed target's wheels can't stand on the index of what it was before."""
    own, other = _kind(target), _kind(before)
    if different := [name for name in own if own[name] != other[name]]:
        told = ", ".join(f"{name} {own[name] or 'none'} (not {other[name] or 'none'})" for name in different)
        raise InputError(
            f"The index of the target {target.name} has wheels of another kind than it asks for now: {told}.",
            hint="Give the changed target another name.",
        )


def _kind(target: Target) -> dict[str, str]:
    return {
        "tag policy": target.tag_policy,
        "variant": target.variant,
        "ABI": target.abi,
        "platform": target.platform,
    }


def stored_target(store: Store, name: str, revision: str) -> Target:
    """A target that was registered or defined. Raises InputError where none was."""
    data = store.get(layout.target(name, revision))
    if data is None:
        raise InputError(f"The farm knows no target {name!r} in revision {revision[:16]!r}.")
    return Target.from_json(json.loads(data))
