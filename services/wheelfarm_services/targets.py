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


class RegisteredTargets:
    """The targets of an embedded farm: its commands are run on its machine by its user, so they name what they like."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def register(self, target: Target) -> None:
        self._store.put_new(layout.target(target.name, target.revision), json.dumps(target.to_json()).encode())

    def known(self, name: str, revision: str) -> Target:
        return replace(stored_target(self._store, name, revision), queue=HOST_QUEUE)

    def require_served(self, target: Target) -> None:
        """The farm's own worker, which its keeper sees to, serves them all."""


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


def queue_of(target: Target) -> str:
    """The queue of a fleet's target: one for each revision, since a worker can build for its own alone."""
    return f"{target.name[:80]}.{target.revision[:16]}"


def define(store: Store, target: Target) -> None:
    """Put down a target as its worker defines it, whatever was there."""
    key, data = layout.target(target.name, target.revision), json.dumps(target.to_json()).encode()
    if store.get(key) != data:
        store.put(key, data)


def stored_target(store: Store, name: str, revision: str) -> Target:
    """A target that was registered or defined. Raises InputError where none was."""
    data = store.get(layout.target(name, revision))
    if data is None:
        raise InputError(f"The farm knows no target {name!r} in revision {revision[:16]!r}.")
    return Target.from_json(json.loads(data))
