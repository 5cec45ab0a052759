import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from tests.support.values import make_built_wheel, make_job, make_sdist, make_target
from tests.support.wheels import METADATA, wheel_bytes
from wheelfarm.errors import BadWheel, Conflict, HashMismatch, InputError, NotFound, WheelfarmError
from wheelfarm.job import LOCAL_VIEW
from wheelfarm.wheel import BuiltWheel
from wheelfarm_services import layout
from wheelfarm_services.imports import Imports
from wheelfarm_services.store import DirectoryStore
from wheelfarm_services.wheel_index import Manifest, WheelIndex

TARGET = make_target().name
DATA = wheel_bytes()
WHEEL = make_built_wheel(data=DATA)


def manifest_of(wheel: BuiltWheel = WHEEL, *, build_key: str = "2" * 64, metadata: bytes = METADATA) -> dict[str, Any]:
    manifest = Manifest(
        wheel=wheel,
        unstamped_sha256="0" * 64,
        metadata_sha256=hashlib.sha256(metadata).hexdigest(),
        requires_python="",
        target=TARGET,
        provenance={
            "job": make_job(make_sdist()).to_json(),
            "plan": {"build_key": build_key, "requirements": []},
            "target": make_target().to_json(),
        },
    )
    value: dict[str, Any] = json.loads(json.dumps(asdict(manifest)))
    return value


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore.create(tmp_path / "store")


def take_in(
    store: DirectoryStore, folder: Path, value: dict[str, Any], *, wheel: BuiltWheel = WHEEL, data: bytes = DATA
) -> BuiltWheel:
    imports = Imports(store, WheelIndex(store))
    path = folder / "sent"
    path.write_bytes(data)
    imports.take(wheel.sha256, wheel.filename, path)
    return imports.enlist(wheel.sha256, wheel.filename, value)


def listed(store: DirectoryStore) -> list[str]:
    return [entry.wheel.filename for entry in WheelIndex(store).entries(TARGET)]


def test_wheel_is_taken_in_once(store: DirectoryStore, tmp_path: Path) -> None:
    for _ in range(2):
        assert take_in(store, tmp_path, manifest_of()) == WHEEL
    assert listed(store) == [WHEEL.filename]
    assert store.get(layout.wheel_metadata(WHEEL.sha256, WHEEL.filename)) == METADATA
    found = WheelIndex(store).find(make_job(make_sdist()))
    assert found is not None, "and is not built again for the same request"
    assert found.wheel == WHEEL


def test_other_bytes_than_told_are_refused(store: DirectoryStore, tmp_path: Path) -> None:
    with pytest.raises(HashMismatch, match=WHEEL.filename):
        take_in(store, tmp_path, manifest_of(), data=DATA + b"x")
    with pytest.raises(NotFound, match="was not sent"):
        Imports(store, WheelIndex(store)).enlist(WHEEL.sha256, WHEEL.filename, manifest_of())
    assert listed(store) == []


@pytest.mark.parametrize(
    ("path", "value", "error"),
    [
        (["wheel", "sha256"], "1" * 64, InputError),
        (["wheel", "size"], len(DATA) + 1, InputError),
        (["wheel", "version"], "1.1", InputError),
        (["wheel", "name"], "../x", InputError),
        (["metadata_sha256"], "1" * 64, HashMismatch),
        (["unstamped_sha256"], "no digest", InputError),
        (["requires_python"], 3, InputError),
        (["target"], "other", InputError),
        (["provenance"], None, InputError),
        (["provenance", "job"], {}, InputError),
        (["provenance", "job", "sdist", "name"], "other", InputError),
        (["provenance", "job", "target"], "other", InputError),
        (["provenance", "job", "source_view"], LOCAL_VIEW, InputError),
        (["provenance", "plan", "build_key"], "../../x", InputError),
        (["provenance", "target", "name"], "../x", InputError),
    ],
)
def test_manifest_that_is_not_consistent_is_refused(
    store: DirectoryStore, tmp_path: Path, path: list[str], value: object, error: type[WheelfarmError]
) -> None:
    told = manifest_of()
    place = told
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(error):
        take_in(store, tmp_path, told)
    assert listed(store) == []


def test_file_name_without_a_build_tag_is_refused(store: DirectoryStore, tmp_path: Path) -> None:
    wheel = make_built_wheel(data=DATA, filename="app-1.0-py3-none-any.whl")
    with pytest.raises(InputError, match="file name"):
        take_in(store, tmp_path, manifest_of(wheel), wheel=wheel)


def test_name_of_other_bytes_is_not_given_twice(store: DirectoryStore, tmp_path: Path) -> None:
    take_in(store, tmp_path, manifest_of())
    other = wheel_bytes(METADATA + b"Summary: other\n")
    wheel = make_built_wheel(data=other)
    told = manifest_of(wheel, build_key="3" * 64, metadata=METADATA + b"Summary: other\n")
    with pytest.raises(Conflict, match="another file"):
        take_in(store, tmp_path, told, wheel=wheel, data=other)
    assert [entry.wheel.sha256 for entry in WheelIndex(store).entries(TARGET)] == [WHEEL.sha256]


def test_what_the_farm_has_built_itself_stands(store: DirectoryStore, tmp_path: Path) -> None:
    take_in(store, tmp_path, manifest_of())
    other = make_built_wheel(data=DATA, filename="app-1.0-7-py3-none-any.whl")
    assert take_in(store, tmp_path, manifest_of(other), wheel=other) == WHEEL
    assert listed(store) == [WHEEL.filename]


def test_file_that_is_no_wheel_is_refused(store: DirectoryStore, tmp_path: Path) -> None:
    wheel = make_built_wheel(data=b"no zip")
    with pytest.raises(BadWheel):
        take_in(store, tmp_path, manifest_of(wheel), wheel=wheel, data=b"no zip")
