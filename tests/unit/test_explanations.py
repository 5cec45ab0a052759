import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.asgi import operations_client
from tests.support.projects import Project
from tests.support.values import make_built_wheel, make_job, make_sdist, make_target
from wheelfarm.errors import HashMismatch, InputError, NotFound
from wheelfarm.explanation import Explanation
from wheelfarm.wheel import BuiltWheel
from wheelfarm_services import layout
from wheelfarm_services.explanations import Explanations, explanation_operations
from wheelfarm_services.store import DirectoryStore
from wheelfarm_services.tenancy import Tenancy
from wheelfarm_services.wheel_index import Manifest, WheelIndex

TARGET = make_target().name


class Index:
    """A store with wheels on the index of a target, each built with others."""

    def __init__(self, folder: Path) -> None:
        self.store = DirectoryStore.create(folder / "store")
        self.explanations = Explanations(self.store)
        self.wheels: dict[str, BuiltWheel] = {}

    def add(
        self,
        name: str,
        *built_with: str,
        wheel: BuiltWheel | None = None,
        requires_dist: tuple[str, ...] = (),
        target: str = TARGET,
        **provenance: Any,
    ) -> BuiltWheel:
        wheel = wheel or make_built_wheel(name, data=name.encode())
        sdist = make_sdist(name, wheel.version)
        requirements = [
            {"sdist": asdict(make_sdist(other)), "wheel": self.wheels[other].to_json()} for other in built_with
        ]
        manifest = Manifest(
            wheel=wheel,
            unstamped_sha256="0" * 64,
            metadata_sha256="1" * 64,
            requires_python="",
            target=target,
            provenance={
                "job": make_job(sdist).to_json(),
                "plan": {"build_key": "2" * 64, "requirements": requirements},
                "target": make_target(target).to_json(),
                **provenance,
            },
        )
        metadata = "".join(f"Requires-Dist: {line}\n" for line in requires_dist)
        self.store.put(layout.wheel_metadata(wheel.sha256, wheel.filename), f"Name: {name}\n{metadata}".encode())
        self.store.put(layout.target(target, "e" * 64), b"{}")
        WheelIndex(self.store).enlist(manifest)
        self.wheels[name] = wheel
        return wheel


def asks(*requires: str, asked: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"build_system": {"requires": requires, "backend": "b", "backend_path": [], "asked": asked}}


@pytest.fixture
def index(tmp_path: Path) -> Index:
    return Index(tmp_path)


def test_wheel_is_explained_down_to_what_builds_itself_and_up_to_what_was_built_with_it(index: Index) -> None:
    index.add("backend")
    index.add("plugin", "backend", requires_dist=("backend>=1",), **asks("backend"))
    index.add("library", "plugin", "backend", **asks("plugin>2", asked=("unrelated",)))
    index.add("app", "plugin", "backend", **asks("plugin", asked=("backend<9",)))

    found = index.explanations.of_project(TARGET, "plugin")

    assert set(found.origins) == {index.wheels["plugin"].filename, index.wheels["backend"].filename}
    users = {use.filename: [step.requirement for step in use.way] for use in found.used_by[found.wheel.filename]}
    assert users == {index.wheels["library"].filename: ["plugin>2"], index.wheels["app"].filename: ["plugin"]}
    origin = index.explanations.of_project(TARGET, "library").origin
    ways = {use.filename: [(step.requirement, step.of) for step in use.way] for use in origin.built_with}
    assert ways[index.wheels["backend"].filename] == [("plugin>2", ""), ("backend>=1", "plugin")]


def test_fields_that_the_provenance_lacks_are_empty_and_the_build_system_is_the_sdists(index: Index) -> None:
    project = Project(name="app", build_requires=["tinybackend>=1"], backend="tinybackend")
    sdist = make_sdist("app")
    index.add("app")
    index.store.put(layout.sdist(sdist.sha256), project.sdist())
    index.store.put(layout.hook_requirements(sdist.sha256, make_job().target_revision), b'["helper"]')
    index.store.put(layout.sdist_record(sdist.sha256), json.dumps({"sdist": {}, "url": "http://x/app"}).encode())

    origin = index.explanations.of_project(TARGET, "app").origin

    assert origin.build_system is not None
    assert (origin.build_system.requires, origin.build_system.asked) == (("tinybackend>=1",), ("helper",))
    assert (origin.url, origin.built_at, origin.duration_s, origin.recipe) == ("http://x/app", None, None, None)


def test_recorded_provenance_is_told(index: Index) -> None:
    index.add("app", built_at=5.0, duration_s=2.5, sandbox="bubblewrap", driver="d" * 64, recipe={"a": 1})
    origin = index.explanations.of_project(TARGET, "app").origin
    assert (origin.built_at, origin.duration_s, origin.sandbox) == (5.0, 2.5, "bubblewrap")
    assert origin.recipe == {"a": 1}


def test_newest_wheel_that_satisfies_the_requirement_is_explained(index: Index) -> None:
    for version, tag in (("1.10", 1), ("1.9", 1), ("1.9", 2), ("2.0", 1)):
        filename = f"app-{version}-{tag}-py3-none-any.whl"
        index.add("app", wheel=make_built_wheel("app", version, filename=filename, data=filename.encode()))
    assert index.explanations.of_project(TARGET, "App<2").wheel.version == "1.10"
    found = index.explanations.of_project(TARGET, "app==1.9")
    assert found.wheel.filename == "app-1.9-2-py3-none-any.whl"
    assert len(found.others) == 3


def test_project_that_was_not_built_is_not_found_and_other_versions_are_named(index: Index) -> None:
    index.add("app")
    with pytest.raises(NotFound, match=r"no app==2 .*, but app 1\.0\."):
        index.explanations.of_project(TARGET, "app==2")
    with pytest.raises(NotFound, match=r"no other for"):
        index.explanations.of_project(TARGET, "other")
    with pytest.raises(InputError):
        index.explanations.of_project(TARGET, "not a requirement")


def test_file_is_found_on_the_index_of_another_target_by_its_name_and_hash(index: Index) -> None:
    wheel = index.add("app", target="host-other")
    assert index.explanations.of_file(TARGET, wheel.filename, wheel.sha256).origin.target.name == "host-other"
    assert index.explanations.of_file(TARGET, wheel.filename, "").wheel == wheel


def test_file_of_the_same_name_with_other_bytes_is_not_the_farms(index: Index) -> None:
    wheel = index.add("app")
    with pytest.raises(HashMismatch, match=wheel.sha256):
        index.explanations.of_file(TARGET, wheel.filename, "f" * 64)


def test_same_name_on_two_indexes_is_told_apart_by_the_hash(index: Index) -> None:
    index.add("app", wheel=make_built_wheel("app", data=b"one"))
    other = index.add("app", wheel=make_built_wheel("app", data=b"two"), target="host-other")
    assert index.explanations.of_file(TARGET, other.filename, other.sha256).origin.target.name == "host-other"


def test_build_requirement_that_left_the_index_leaves_the_rest_explained(index: Index) -> None:
    index.wheels["gone"] = replace(make_built_wheel("gone"))
    index.add("app", "gone", **asks("gone"))
    found = index.explanations.of_project(TARGET, "app")
    assert set(found.origins) == {found.wheel.filename}
    assert [use.filename for use in found.origin.built_with] == [index.wheels["gone"].filename]


def test_route_answers_what_the_client_reads(index: Index) -> None:
    wheel = index.add("app")
    client = operations_client(explanation_operations(index.store, Tenancy(index.store)))
    by_name = client.get(f"/explanations/{TARGET}", params={"requirement": "app"})
    by_file = client.get(f"/explanations/{TARGET}", params={"filename": wheel.filename, "sha256": wheel.sha256})
    assert Explanation.from_json(by_name.json()) == Explanation.from_json(by_file.json())
    assert Explanation.from_json(by_name.json()).wheel == wheel
