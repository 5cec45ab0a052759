"""The wheel index: what was built, under which name, and the page per target that installers read.

Publishing goes wheel, metadata, manifest (the commit), index entry, page; a crash between any two leaves nothing half
told, and publishing again goes on from there. Names are claimed for ever: a file name never means two contents.
"""

import html
import json
import logging
import random
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from wheelfarm.digest import digest_of
from wheelfarm.job import LOCAL_VIEW, Job, Sdist
from wheelfarm.policy import Policy
from wheelfarm.revision import MetadataRevision
from wheelfarm.wheel import BuiltWheel
from wheelfarm_services import layout
from wheelfarm_services.policy_book import PolicyBook
from wheelfarm_services.store import Store

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedRequirement:
    """A build requirement of a plan: the sdist it was built from, and the wheel."""

    sdist: Sdist
    wheel: BuiltWheel


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What a build will use, exactly: its build requirements, sorted by name, and the key of everything that decides
    the wheel's bytes.

    `constraints` are those that the requirements were resolved under; `fallback` says why a first plan was given up.
    """

    build_key: str
    requirements: tuple[PlannedRequirement, ...]
    constraints: tuple[str, ...] = ()
    fallback: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Plan":
        requirements = tuple(
            PlannedRequirement(
                sdist=Sdist.from_json(requirement["sdist"]), wheel=BuiltWheel.from_json(requirement["wheel"])
            )
            for requirement in value["requirements"]
        )
        return cls(
            build_key=value["build_key"],
            requirements=requirements,
            constraints=tuple(value.get("constraints", ())),
            fallback=str(value.get("fallback", "")),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """The commit of one build: the wheel as published, the digest it had before it was stamped, and its provenance."""

    wheel: BuiltWheel
    unstamped_sha256: str
    metadata_sha256: str
    requires_python: str
    target: str
    provenance: dict[str, Any]

    @property
    def is_local(self) -> bool:
        """Whether it was built from what a client sent, and so stands on no index."""
        return bool(self.provenance.get("job", {}).get("source_view") == LOCAL_VIEW)

    @property
    def sources(self) -> tuple[Sdist, ...]:
        """What it was built from and with, as far as its provenance tells."""
        own, plan = self.provenance.get("job", {}).get("sdist"), self.provenance.get("plan", {})
        used = [Sdist.from_json(one["sdist"]) for one in plan.get("requirements", ())]
        return tuple([Sdist.from_json(own), *used] if own else used)

    @property
    def metadata_revision(self) -> MetadataRevision:
        """Which revision of its sdist's metadata the wheel agrees with."""
        return MetadataRevision.from_json(self.provenance.get("metadata"))

    def to_json(self) -> bytes:
        return json.dumps(asdict(self), sort_keys=True, indent=1).encode()

    @classmethod
    def from_json(cls, data: bytes) -> "Manifest":
        value = json.loads(data)
        return cls(**{**value, "wheel": BuiltWheel.from_json(value["wheel"])})


class WheelIndex:
    """Plans, manifests, names and pages in the store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._links: dict[str, tuple[str, tuple[Sdist, ...]]] = {}
        self._policies = PolicyBook(store)

    def plan(self, job: Job) -> Plan | None:
        """The plan recorded for a job's request key, unless policy refuses a build requirement of it now."""
        data = self._store.get(layout.plan(job.request_key))
        plan = None if data is None else Plan.from_json(json.loads(data))
        return plan if plan and self._may_stand(one.sdist for one in plan.requirements) else None

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

        The same bytes get the same name again, other bytes never do (PEP 427 build tags; uv and pip prefer the higher).
        """
        claim = json.dumps({"unstamped_sha256": unstamped_sha256}).encode()
        tag = 1
        while True:
            stamped = with_build_tag(filename, tag)
            key = layout.name_claim(target, stamped)
            if self._store.put_new(key, claim) or self._store.get(key) == claim:
                return stamped, tag
            tag += 1

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
        self.render(manifest.target, lambda page: f">{html.escape(filename)}<".encode() in page)

    def render(self, target: str, done: Callable[[bytes], bool] = lambda page: False) -> None:
        """Write the target's flat page from its entries, unless it is as it should be; of several renderers at once
        none loses an entry, for each lists the entries after it has read the tag that its writing is bound to."""
        key = layout.flat_page(target)
        pause = 0.01
        while True:
            current = self._store.get_with_etag(key)
            if current is not None and done(current[0]):
                return
            links = [self._link_of(entry) for entry in self._store.list(layout.index_entries(target))]
            page = _flat_page(target, [link for link in links if link])
            if self._store.replace(key, page, current[1] if current else None):
                return
            time.sleep(pause * random.random())  # noqa: S311  (no secret; who lost often finds its own work done)
            pause = min(1.0, pause * 2)

    def render_all(self) -> None:
        """Write every target's page anew: what policy lets in has changed."""
        for key in list(self._store.list(layout.flat_pages())):
            self.render(key.split("/")[1])

    def _link_of(self, key: str) -> str:
        """The line of an entry, which never changes, remembered; nothing where it is gone, or policy refuses it or what
        it was built with."""
        known = self._links.get(key)
        if known is None or not self._may_stand(known[1]):  # then another build of the same bytes may have replaced it
            data = self._store.get(key)
            if data is None:
                return ""
            manifest = Manifest.from_json(data)
            known = self._links[key] = _link(manifest), manifest.sources
        return known[0] if self._may_stand(known[1]) else ""

    def _is_refused(self, entry: str) -> bool:
        data = self._store.get(entry) if self._policies.policy != Policy() else None
        return data is not None and not self._may_stand(Manifest.from_json(data).sources)

    def _may_stand(self, sdists: Iterable[Sdist]) -> bool:
        policy, now = self._policies.policy, self._policies.now()
        return policy == Policy() or not any(policy.lasting_refusal(sdist, now) for sdist in sdists)

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
            self.render(manifest.target, lambda page: f">{html.escape(filename)}<".encode() not in page)
        self._store.delete(layout.manifest(build_key))

    def entries(self, target: str) -> list[Manifest]:
        """Everything on a target's index, by file name."""
        found = (self._store.get(key) for key in self._store.list(layout.index_entries(target)))
        return [Manifest.from_json(data) for data in found if data is not None]


def with_build_tag(filename: str, tag: int) -> str:
    """The wheel's file name with that build tag in place of whatever it had."""
    parts = filename.removesuffix(".whl").split("-")
    return "-".join([*parts[:2], str(tag), *parts[-3:]]) + ".whl"


def build_key(**facts: Any) -> str:
    """The digest of everything that decides a wheel's bytes; wheels are reused by it."""
    return digest_of(["build", facts])


def render_flat_page(target: str, entries: list[Manifest]) -> bytes:
    """The find-links page: relative links, one sha256 each, `+` written as `%2B` (pip and uv then agree)."""
    return _flat_page(target, [_link(entry) for entry in entries])


def _flat_page(target: str, links: Sequence[str]) -> bytes:
    title = f"Wheels for {html.escape(target)}"
    head = f'<meta charset="utf-8"><meta name="pypi:repository-version" content="1.4"><title>{title}</title>'
    body = "\n".join(links)
    return f"<!DOCTYPE html>\n<html><head>{head}</head>\n<body>\n{body}\n</body></html>\n".encode()


def _link(entry: Manifest) -> str:
    wheel = entry.wheel
    attributes = f'data-core-metadata="sha256={entry.metadata_sha256}"'
    if entry.requires_python:
        attributes += f' data-requires-python="{html.escape(re.sub(r"[^ -~]", "", entry.requires_python))}"'
    href = f"../../{layout.wheel(wheel.sha256, quote(wheel.filename))}#sha256={wheel.sha256}"
    return f'<a href="{html.escape(href)}" {attributes}>{html.escape(wheel.filename)}</a><br>'
