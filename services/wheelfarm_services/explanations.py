"""Explanations of wheels: from the index entries of a target, whose manifests hold each wheel's provenance."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import Version
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response

from wheelfarm.digest import SHA256
from wheelfarm.errors import HashMismatch, InputError, NotFound, WheelfarmError
from wheelfarm.explanation import BuildSystem, Explanation, Origin, Use
from wheelfarm.job import Job, Sdist
from wheelfarm.requirement_path import requirement_path, requires_dist_of
from wheelfarm.target import Target
from wheelfarm.target_markers import marker_environment
from wheelfarm.wheel import BuiltWheel
from wheelfarm_services import layout
from wheelfarm_services.access import principal_of
from wheelfarm_services.build_system import read_build_system
from wheelfarm_services.operation import Answer, Operation, Parameter
from wheelfarm_services.parameters import TARGET
from wheelfarm_services.sdist_head import read_head
from wheelfarm_services.sdist_records import sdist_record
from wheelfarm_services.store import Store
from wheelfarm_services.tenancy import Tenancy, Thing
from wheelfarm_services.wheel_index import Manifest, Plan, WheelIndex


def explanation_operations(store: Store, tenancy: Tenancy) -> list[Operation]:
    """`/explanations/TARGET?requirement=REQ`, or `?filename=NAME&sha256=HEX` for one file, of any target."""

    def explain(http: HttpRequest) -> Response:
        target, query = http.path_params["target"], http.query_params
        principal = principal_of(http)
        explanations = Explanations(store, sees=lambda sha256: tenancy.sees(principal, Thing.WHEEL, sha256))
        if "filename" in query:
            found = explanations.of_file(target, query["filename"], query.get("sha256", ""))
        else:
            found = explanations.of_project(target, query.get("requirement", ""))
        return JSONResponse(found.to_json())

    query = {
        "requirement": "A requirement, whose newest wheel is explained.",
        "filename": "The file name of a wheel, instead.",
        "sha256": "The digest of the wheel of that file name.",
    }
    return [
        Operation(
            name="explanation",
            path="/explanations/{target}",
            endpoint=explain,
            told="What a wheel was built from and with, and what was built with it.",
            parameters=(TARGET, *(Parameter(name=name, told=told, place="query") for name, told in query.items())),
            answers={200: Answer(told="The explanation.", shape=Explanation)},
            errors=(404, 422),
        )
    ]


class Explanations:
    """Explains wheels of one store to somebody who `sees` those of certain sha256s."""

    def __init__(self, store: Store, *, sees: Callable[[str], bool] = lambda _: True) -> None:
        self._sees = sees
        self._store = store
        self._metadata: dict[str, tuple[str, ...]] = {}
        self._stated: dict[str, BuildSystem | None] = {}

    def of_project(self, target: str, text: str) -> Explanation:
        """The newest wheel on a target's index that satisfies a requirement. Raises NotFound, InputError."""
        try:
            requirement = Requirement(text)
        except InvalidRequirement as error:
            raise InputError(f"{text!r} is not a requirement.") from error
        name = canonicalize_name(requirement.name)
        entries = self._entries(target)
        found = [entry for entry in entries if entry.wheel.name == name]
        suited = [entry for entry in found if requirement.specifier.contains(entry.wheel.version, prereleases=True)]
        if not suited:
            others = ", ".join(sorted({entry.wheel.version for entry in found}))
            raise NotFound(
                f"The farm has built no {text} for {target}" + (f", but {name} {others}." if others else "."),
                hint=f"Name another interpreter with --python, or see what it takes: wheelfarm plan '{text}'",
            )
        return self._explained(max(suited, key=_newness), entries)

    def of_file(self, target: str, filename: str, sha256: str) -> Explanation:
        """The wheel of that file name, and of that sha256 where it is given, on `target`'s index or else another's, or
        the local one of that sha256.

        Raises NotFound, HashMismatch where the farm's file of that name has other bytes.
        """
        found = [entry for name in self._targets(target) if (entry := self._entry(name, filename)) is not None]
        found = [entry for entry in (*found, *self._local(sha256)) if self._sees(entry.wheel.sha256)]
        if not found:
            raise NotFound(
                f"No index of the farm has a wheel {filename}.",
                hint="A wheel of a local tree stands on none: name the file itself, by its path.",
            )
        same = [entry for entry in found if sha256 in ("", entry.wheel.sha256)]
        if not same:
            raise HashMismatch(
                f"{filename} has sha256 {sha256}, but the farm's wheel of that name has {found[0].wheel.sha256}.",
                hint="The file was built elsewhere or changed: the farm can't tell where it comes from.",
            )
        return self._explained(same[0], self._entries(same[0].target))

    def _entries(self, target: str) -> list[Manifest]:
        return [entry for entry in WheelIndex(self._store).entries(target) if self._sees(entry.wheel.sha256)]

    def _targets(self, first: str) -> list[str]:
        others = {key.split("/")[1] for key in self._store.list("targets/")} - {first}
        return [first, *sorted(others)]

    def _entry(self, target: str, filename: str) -> Manifest | None:
        data = self._store.get(layout.index_entry(target, filename))
        return None if data is None else Manifest.from_json(data)

    def _local(self, sha256: str) -> list[Manifest]:
        data = self._store.get(layout.local_wheel(sha256)) if SHA256.fullmatch(sha256) else None
        return [] if data is None else [Manifest.from_json(data)]

    def _explained(self, manifest: Manifest, entries: Sequence[Manifest]) -> Explanation:
        index = {entry.wheel.filename: entry for entry in entries}
        wheel = manifest.wheel
        return Explanation(
            wheel=wheel,
            origins=self._origins(manifest, index),
            used_by=self._used_by(wheel.filename, entries),
            others=tuple(entry.wheel for entry in entries if entry.wheel.name == wheel.name and entry.wheel != wheel),
            earlier=_earlier(manifest, entries),
        )

    def _origins(self, manifest: Manifest, index: Mapping[str, Manifest]) -> dict[str, Origin]:
        """The origins of a wheel, of what it was built with, and so on; a wheel that left the index has none."""
        origins: dict[str, Origin] = {}
        todo = [manifest]
        for entry in todo:  # grows on the way
            if entry.wheel.filename not in origins:
                origin = self._origin(entry)
                origins[entry.wheel.filename] = origin
                todo += [index[use.filename] for use in origin.built_with if use.filename in index]
        return origins

    def _used_by(self, filename: str, entries: Iterable[Manifest]) -> dict[str, tuple[Use, ...]]:
        users: dict[str, list[Manifest]] = {}
        for entry in entries:
            for wheel in _environment(entry):
                users.setdefault(wheel.filename, []).append(entry)
        used_by: dict[str, tuple[Use, ...]] = {}
        todo = [filename]
        for used in todo:  # grows on the way
            if used in users and used not in used_by:
                used_by[used] = tuple(self._use_of(used, entry) for entry in users[used])
                todo += [entry.wheel.filename for entry in users[used]]
        return used_by

    def _origin(self, manifest: Manifest) -> Origin:
        provenance = manifest.provenance
        job, target = Job.from_json(provenance["job"]), Target.from_json(provenance["target"])
        listed = sdist_record(self._store, job.sdist)
        source = provenance.get("source") or listed
        texts = {name: str(provenance.get(name) or "") for name in ("sandbox", "driver", "derived_root")}
        return Origin(
            wheel=manifest.wheel,
            sdist=job.sdist,
            target=target,
            url=str(listed.get("url") or ""),
            upload_time=str(listed.get("upload_time") or ""),
            upstream=str(source.get("upstream") or ""),
            passed_over=tuple(map(str, source.get("passed_over") or ())),
            build_system=self._build_system(manifest, job.sdist),
            constraints=tuple(map(str, provenance["plan"].get("constraints") or ())),
            fallback=str(provenance["plan"].get("fallback") or ""),
            metadata=manifest.metadata_revision,
            recipe=provenance.get("recipe"),
            prebuilt=provenance.get("prebuilt"),
            fit=provenance.get("fit"),
            trial=provenance.get("trial"),
            job=job.id,
            built_at=provenance.get("built_at"),
            duration_s=provenance.get("duration_s"),
            built_with=self._built_with(manifest),
            **texts,
        )

    def _built_with(self, manifest: Manifest) -> tuple[Use, ...]:
        uses = [(wheel.filename, self._use_of(wheel.filename, manifest)) for wheel in _environment(manifest)]
        return tuple(replace(use, filename=filename) for filename, use in uses)

    def _use_of(self, filename: str, manifest: Manifest) -> Use:
        """The use of a wheel in the build of another, with the way from the latter's build requirements."""
        job = Job.from_json(manifest.provenance["job"])
        system = self._build_system(manifest, job.sdist)
        lines = (*system.requires, *system.asked) if system else ()
        wheels = {wheel.name: self._requires_dist(wheel) for wheel in _environment(manifest)}
        environment = marker_environment(Target.from_json(manifest.provenance["target"]))
        goal = str(parse_wheel_filename(filename)[0])
        return Use(filename=manifest.wheel.filename, way=requirement_path(lines, wheels, goal, environment))

    def _build_system(self, manifest: Manifest, sdist: Sdist) -> BuildSystem | None:
        """The build system as the provenance tells it, or else as the sdist does; None where neither can."""
        told = manifest.provenance.get("build_system")
        if isinstance(told, Mapping):
            lists = {name: tuple(map(str, told.get(name) or ())) for name in ("requires", "backend_path", "asked")}
            return BuildSystem(backend=str(told.get("backend", "")), **lists)
        if sdist.is_prebuilt:
            return None
        if sdist.sha256 not in self._stated:
            self._stated[sdist.sha256] = self._stated_build_system(manifest, sdist)
        return self._stated[sdist.sha256]

    def _stated_build_system(self, manifest: Manifest, sdist: Sdist) -> BuildSystem | None:
        file = self._store.open(layout.sdist(sdist.sha256))
        if file is None:
            return None
        try:
            with file:
                read = read_build_system(sdist, read_head(sdist, file))
        except WheelfarmError:
            return None
        revision = Job.from_json(manifest.provenance["job"]).target_revision
        asked = self._store.get(layout.hook_requirements(sdist.sha256, revision))
        return BuildSystem(
            requires=read.requires,
            backend=read.backend,
            backend_path=read.backend_path,
            asked=tuple(json.loads(asked)) if asked is not None else (),
        )

    def _requires_dist(self, wheel: BuiltWheel) -> tuple[str, ...]:
        if wheel.sha256 not in self._metadata:
            data = self._store.get(layout.wheel_metadata(wheel.sha256, wheel.filename)) or b""
            self._metadata[wheel.sha256] = requires_dist_of(data)
        return self._metadata[wheel.sha256]


def _environment(manifest: Manifest) -> list[BuiltWheel]:
    """The wheels that a build environment held."""
    return [requirement.wheel for requirement in Plan.from_json(manifest.provenance["plan"]).requirements]


def _earlier(manifest: Manifest, entries: Iterable[Manifest]) -> Target | None:
    """The target of the last wheel of that version before, unless it had the same revision."""
    wheel = manifest.wheel
    same = [entry for entry in entries if (entry.wheel.name, entry.wheel.version) == (wheel.name, wheel.version)]
    before = max((entry for entry in same if _newness(entry) < _newness(manifest)), key=_newness, default=manifest)
    first, last = (Target.from_json(one.provenance["target"]) for one in (before, manifest))
    return first if first.revision != last.revision else None


def _newness(manifest: Manifest) -> tuple[Version, int]:
    _, version, build_tag, _ = parse_wheel_filename(manifest.wheel.filename)
    return version, build_tag[0] if build_tag else 0
