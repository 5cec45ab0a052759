"""The index as those see it who build and publish: plans, manifests, names and entries in the store."""

import json
import logging
from pathlib import Path
from typing import Any

from wheelfarm.digest import digest_of
from wheelfarm.job import Job
from wheelfarm.policy import Policy
from wheelfarm.wheel import BuiltWheel
from wheelfarm_services import layout
from wheelfarm_services.policy_book import PolicyBook
from wheelfarm_services.store import Store
from wheelfarm_services.wheel_index.filenames import project_of, with_build_tag
from wheelfarm_services.wheel_index.records import Manifest, Plan
from wheelfarm_services.wheel_index.renderer import Renderer

logger = logging.getLogger(__name__)


class WheelIndex:
    """Plans, manifests, names and pages in the store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._policies = PolicyBook(store)
        self.pages = Renderer(store, self._policies)

    def plan(self, job: Job) -> Plan | None:
        """The plan recorded for a job's request key, unless policy refuses a build requirement of it now."""
        data = self._store.get(layout.plan(job.request_key))
        plan = None if data is None else Plan.from_json(json.loads(data))
        return plan if plan and self._policies.lets_stand(one.sdist for one in plan.requirements) else None

    def record_plan(self, job: Job, plan: Plan) -> Plan:
        """Record the plan and return the one that stands: an earlier one does where its wheel was committed."""
        data = json.dumps(plan.to_json()).encode()
        if not self._store.put_new(layout.plan(job.request_key), data):
            earlier = self.plan(job)
            if earlier is not None and self.manifest(earlier.build_key) is not None:
                return earlier
            self._store.put(layout.plan(job.request_key), data)
        return plan

    def manifest(self, build_key: str) -> Manifest | None:
        """The manifest of a build; None while it has not been committed, or where its wheel is gone from the store."""
        data = self._store.get(layout.manifest(build_key))
        manifest = None if data is None else Manifest.from_json(data)
        if manifest is not None and not self.has(manifest.wheel):
            self._retract(build_key, manifest)
            return None
        return manifest

    def find(self, job: Job) -> Manifest | None:
        """What was built for a job, by its recorded plan."""
        plan = self.plan(job)
        return self.manifest(plan.build_key) if plan else None

    def claim_name(self, target: str, filename: str, unstamped_sha256: str) -> tuple[str, int]:
        """The file name, with the lowest free build tag, under which these bytes may be published; and that tag.

        The same bytes get the same name again, unless it was deleted; other bytes never do (PEP 427 build tags; uv and
        pip prefer the higher).
        """
        tag = 1
        while True:
            stamped = with_build_tag(filename, tag)
            if self.claim(target, stamped, unstamped_sha256):
                return stamped, tag
            tag += 1

    def claim(self, target: str, filename: str, unstamped_sha256: str) -> bool:
        """Whether these bytes may be published under this very name, which from then on is theirs until it is
        deleted."""
        claim = json.dumps({"unstamped_sha256": unstamped_sha256}).encode()
        key = layout.name_claim(target, filename)
        mine = self._store.put_new(key, claim) or self._store.get(key) == claim
        return mine and self.pages.state(project_of(filename)).deletion(filename) is None

    def publish(self, build_key: str, manifest: Manifest, wheel: Path, metadata: bytes) -> Manifest:
        """Publish a wheel; safe to repeat. Of two builds of one key the first to commit stands, and is returned."""
        built = manifest.wheel
        self._store.put_file(layout.wheel(built.sha256, built.filename), wheel)
        self._store.put(layout.wheel_metadata(built.sha256, built.filename), metadata)
        self._store.put_new(layout.manifest(build_key), manifest.to_json())
        committed = self.manifest(build_key) or manifest
        self.enlist(committed)
        return committed

    def enlist(self, manifest: Manifest) -> None:
        """See to it that a committed wheel stands on its target's index; does nothing when it does. A local one
        is found by its digest instead."""
        if manifest.is_local:
            self._store.put_new(layout.local_wheel(manifest.wheel.sha256), manifest.to_json())
            return
        filename = manifest.wheel.filename
        entry = layout.index_entry(manifest.target, filename)
        if not self._store.put_new(entry, manifest.to_json()) and self._is_refused(entry):
            self._store.put(entry, manifest.to_json())  # the same bytes, of what may stand
        self.pages.add(manifest.target, filename)

    def is_enlisted(self, manifest: Manifest) -> bool:
        """Whether a committed wheel stands where `enlist` puts it: a crash may have come between."""
        wheel = manifest.wheel
        entry = layout.index_entry(manifest.target, wheel.filename)
        return self._store.size(layout.local_wheel(wheel.sha256) if manifest.is_local else entry) is not None

    def _is_refused(self, entry: str) -> bool:
        data = self._store.get(entry) if self._policies.policy != Policy() else None
        return data is not None and not self._policies.lets_stand(Manifest.from_json(data).sources)

    def has(self, wheel: BuiltWheel) -> bool:
        """Whether a wheel's bytes are in the store."""
        return self._store.size(layout.wheel(wheel.sha256, wheel.filename)) is not None

    def _retract(self, build_key: str, manifest: Manifest) -> None:
        """Take back a commit whose wheel was lost, so that it is built anew. Its name stays taken: other bytes get
        another one."""
        logger.warning("wheel lost, its commit retracted", extra={"wheel": manifest.wheel.filename})
        filename = manifest.wheel.filename
        if manifest.is_local:
            self._store.delete(layout.local_wheel(manifest.wheel.sha256))
        else:
            self._store.delete(layout.index_entry(manifest.target, filename))
            self.pages.renew(manifest.target, project_of(filename))
        self._store.delete(layout.manifest(build_key))

    def entries(self, target: str) -> list[Manifest]:
        """Everything on a target's index, by file name."""
        found = (self._store.get(key) for key in self._store.list(layout.index_entries(target)))
        return [Manifest.from_json(data) for data in found if data is not None]


def build_key(**facts: Any) -> str:
    """The digest of everything that decides a wheel's bytes; wheels are reused by it."""
    return digest_of(["build", facts])
