import json
import re
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier
from typing import Any, ClassVar

import pytest

from tests.support.values import make_built_wheel, make_job, make_sdist, make_target
from wheelfarm_services import layout
from wheelfarm_services.store import DirectoryStore
from wheelfarm_services.wheel_index import (
    Manifest,
    Plan,
    PlannedRequirement,
    WheelIndex,
    build_key,
    with_build_tag,
)

TARGET = make_target().name
KEY = "a1" * 32


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore.create(tmp_path / "store")


@pytest.fixture
def index(store: DirectoryStore) -> WheelIndex:
    return WheelIndex(store)


def manifest(
    name: str = "app", *, data: bytes = b"wheel", requires_python: str = ">=3.8", filename: str = ""
) -> Manifest:
    return Manifest(
        wheel=make_built_wheel(name, data=data, filename=filename),
        unstamped_sha256="0" * 64,
        metadata_sha256="1" * 64,
        requires_python=requires_python,
        target=TARGET,
        provenance={"driver": "x"},
    )


def publish(index: WheelIndex, folder: Path, entry: Manifest, *, key: str = KEY, data: bytes = b"wheel") -> Manifest:
    path = folder / entry.wheel.filename
    path.write_bytes(data)
    return index.publish(key, entry, path, b"Metadata-Version: 2.1\n")


def page(store: DirectoryStore) -> str:
    """The flat page, brought up to date as services do."""
    WheelIndex(store).pages.render_stale()
    return (store.get(layout.flat_page(TARGET)) or b"").decode()


def project_page_of(store: DirectoryStore, project: str = "app") -> Any:
    """A project's page as JSON; the HTML beside it says the same."""
    told = json.loads(store.get(layout.project_page(TARGET, project)) or b'{"files": []}')
    text = (store.get(layout.project_page(TARGET, project, "html")) or b"").decode()
    assert re.findall(r">([^<>]+\.whl)<", text) == [file["filename"] for file in told["files"]]
    return told


@pytest.mark.parametrize(
    ("filename", "stamped"),
    [
        ("app-1.0-py3-none-any.whl", "app-1.0-7-py3-none-any.whl"),
        ("app-1.0-3local-py3-none-any.whl", "app-1.0-7-py3-none-any.whl"),
        ("app-1.0+cc-cp311-cp311-linux_x86_64.whl", "app-1.0+cc-7-cp311-cp311-linux_x86_64.whl"),
    ],
)
def test_build_tag_stands_in_place_of_any_other(filename: str, stamped: str) -> None:
    assert with_build_tag(filename, 7) == stamped


def test_same_bytes_get_the_same_name_and_others_a_higher_tag(index: WheelIndex) -> None:
    filename = "app-1.0-py3-none-any.whl"
    first = index.claim_name(TARGET, filename, "a" * 64)
    assert first == ("app-1.0-1-py3-none-any.whl", 1)
    assert index.claim_name(TARGET, filename, "b" * 64) == ("app-1.0-2-py3-none-any.whl", 2)
    assert index.claim_name(TARGET, filename, "a" * 64) == first
    assert index.claim_name(TARGET, filename, "c" * 64)[1] == 3
    assert index.claim_name("another-target", filename, "b" * 64) == first


def test_names_claimed_at_once_are_claimed_by_one_each(index: WheelIndex) -> None:
    barrier = Barrier(8)

    def claim(number: int) -> tuple[str, int]:
        barrier.wait()
        return index.claim_name(TARGET, "app-1.0-py3-none-any.whl", f"{number}" * 64)

    with ThreadPoolExecutor(8) as pool:
        claimed = list(pool.map(claim, range(8)))
    assert sorted(tag for _, tag in claimed) == list(range(1, 9))
    assert len({name for name, _ in claimed}) == 8


def test_published_wheel_stands_with_its_metadata_manifest_entry_and_page(
    index: WheelIndex, store: DirectoryStore, tmp_path: Path
) -> None:
    entry = manifest()
    assert publish(index, tmp_path, entry) == entry
    wheel = entry.wheel
    assert store.get(layout.wheel(wheel.sha256, wheel.filename)) == b"wheel"
    assert store.get(layout.wheel_metadata(wheel.sha256, wheel.filename)) == b"Metadata-Version: 2.1\n"
    assert index.manifest(KEY) == entry
    assert index.entries(TARGET) == [entry]
    assert [file["filename"] for file in project_page_of(store)["files"]] == [wheel.filename]
    assert f">{wheel.filename}<" in page(store)


def test_publishing_twice_changes_nothing(index: WheelIndex, store: DirectoryStore, tmp_path: Path) -> None:
    publish(index, tmp_path, manifest())
    page(store)
    before = {key: store.get(key) for key in store.list("")}
    publish(index, tmp_path, manifest())
    assert {key: store.get(key) for key in store.list("")} == before


def test_of_two_builds_of_one_key_the_first_stands(index: WheelIndex, store: DirectoryStore, tmp_path: Path) -> None:
    first = publish(index, tmp_path, manifest())
    second = manifest(data=b"other", filename="app-1.0-2-py3-none-any.whl")
    assert publish(index, tmp_path, second, data=b"other") == first
    assert index.manifest(KEY) == first
    assert index.entries(TARGET) == [first]
    assert second.wheel.filename not in page(store)


@pytest.mark.parametrize("lost", ["entry", "page", "note"])
def test_publishing_goes_on_where_a_crash_ended_it(
    index: WheelIndex, store: DirectoryStore, tmp_path: Path, lost: str
) -> None:
    entry = publish(index, tmp_path, manifest())
    keys = {
        "entry": [layout.index_entry(TARGET, entry.wheel.filename), *store.list("stale/"), *store.list("simple/")],
        "note": [*store.list("stale/"), *store.list("simple/")],
        "page": list(store.list("simple/")),
    }
    for key in keys[lost]:
        store.delete(key)
    index.enlist(entry)
    assert index.entries(TARGET) == [entry]
    assert [file["filename"] for file in project_page_of(store)["files"]] == [entry.wheel.filename]
    assert f">{entry.wheel.filename}<" in page(store)


def test_eight_that_publish_at_once_lose_no_entry_of_the_page(
    index: WheelIndex, store: DirectoryStore, tmp_path: Path
) -> None:
    barrier = Barrier(8)
    entries = [[manifest(f"app{thread}-{number}") for number in range(5)] for thread in range(8)]

    def run(mine: list[Manifest]) -> None:
        barrier.wait()
        for entry in mine:
            publish(index, tmp_path, entry, key=build_key(name=entry.wheel.name))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(run, entries))
    names = {entry.wheel.filename for mine in entries for entry in mine}
    assert set(re.findall(r">([^<>]+\.whl)<", page(store))) == names
    assert len(names) == 40


def test_page_links_are_relative_with_one_hash_and_plus_quoted(index: WheelIndex, store: DirectoryStore) -> None:
    entry = manifest(filename="app-1.0+cc-1-py3-none-any.whl")
    index.enlist(entry)
    sha256 = entry.wheel.sha256
    for text, up in ((page(store), "../../"), (html_of(store), "../../../")):
        assert f'<a href="{up}wheels/{sha256}/app-1.0%2Bcc-1-py3-none-any.whl#sha256={sha256}"' in text
        assert f'data-core-metadata="sha256={entry.metadata_sha256}"' in text
        assert 'data-requires-python="&gt;=3.8"' in text
        assert ">app-1.0+cc-1-py3-none-any.whl</a>" in text


def html_of(store: DirectoryStore) -> str:
    return (store.get(layout.project_page(TARGET, "app", "html")) or b"").decode()


class CountingStore(DirectoryStore):
    """Counts what is done to it, and how many keys its listings gave."""

    counted: ClassVar[Counter[str]] = Counter()

    def get(self, key: str) -> bytes | None:
        self.counted["get"] += 1
        return super().get(key)

    def put_new(self, key: str, data: bytes) -> bool:
        self.counted["put"] += 1
        return super().put_new(key, data)

    def replace(self, key: str, data: bytes, etag: str | None) -> bool:
        self.counted["put"] += 1
        self.counted["bytes"] += len(data)
        return super().replace(key, data, etag)

    def list(self, prefix: str) -> Iterator[str]:
        found = [*super().list(prefix)]
        self.counted["listed"] += len(found)
        return iter(found)


def test_what_a_publish_costs_does_not_grow_with_the_index(tmp_path: Path) -> None:
    store = CountingStore.create(tmp_path / "store")
    costs = []
    for number in range(60):
        CountingStore.counted.clear()
        name = f"app{number:03}"
        publish(WheelIndex(store), tmp_path, manifest(name), key=build_key(name=name))
        costs.append(dict(CountingStore.counted))
        if number % 10 == 0:
            WheelIndex(store).pages.render_stale()
    assert costs[-1] == costs[1]


def plan(key: str = KEY) -> Plan:
    requirement = PlannedRequirement(sdist=make_sdist("tool"), wheel=make_built_wheel("tool"))
    return Plan(build_key=key, requirements=(requirement,))


def test_recorded_plan_is_found_by_its_job(index: WheelIndex) -> None:
    job = make_job()
    assert index.plan(job) is None
    assert index.find(job) is None
    assert index.record_plan(job, plan()) == plan()
    assert index.plan(job) == plan()
    assert index.find(job) is None


def test_plan_whose_wheel_was_committed_stands(index: WheelIndex, tmp_path: Path) -> None:
    job = make_job()
    index.record_plan(job, plan())
    entry = publish(index, tmp_path, manifest())
    assert index.record_plan(job, plan("b2" * 32)) == plan()
    assert index.find(job) == entry


def test_plan_whose_wheel_was_never_committed_gives_way(index: WheelIndex) -> None:
    job = make_job()
    index.record_plan(job, plan())
    later = plan("b2" * 32)
    assert index.record_plan(job, later) == later
    assert index.plan(job) == later


def test_jobs_of_another_sdist_have_another_plan(index: WheelIndex) -> None:
    index.record_plan(make_job(), plan())
    assert index.plan(make_job(make_sdist("other", data=b"other"))) is None


def test_build_key_depends_on_every_fact_and_not_on_their_order() -> None:
    assert build_key(a=1, b=[2]) == build_key(b=[2], a=1)
    assert len({build_key(a=1), build_key(a=2), build_key(a=1, b=None), build_key(b=1)}) == 4


def test_manifest_survives_the_store() -> None:
    entry = replace(manifest(), provenance={"job": {"a": [1, "ü"]}})
    assert Manifest.from_json(entry.to_json()) == entry


def test_commit_whose_wheel_is_lost_is_taken_back_and_another_build_takes_its_place(
    index: WheelIndex, store: DirectoryStore, tmp_path: Path
) -> None:
    job = make_job()
    index.record_plan(job, plan())
    lost = publish(index, tmp_path, manifest())
    kept = publish(index, tmp_path, manifest("other"), key=build_key(name="other"))
    store.delete(layout.wheel(lost.wheel.sha256, lost.wheel.filename))
    assert index.find(job) is None
    assert index.entries(TARGET) == [kept]
    assert lost.wheel.filename not in page(store)
    anew = manifest(data=b"built anew", filename="app-1.0-2-py3-none-any.whl")
    assert publish(index, tmp_path, anew, data=b"built anew") == anew
    assert index.find(job) == anew
    assert re.findall(r">([^<>]+\.whl)<", page(store)) == [anew.wheel.filename, kept.wheel.filename]


def test_local_commit_whose_wheel_is_lost_is_taken_back(
    index: WheelIndex, store: DirectoryStore, tmp_path: Path
) -> None:
    local = replace(manifest(), provenance={"job": {"source_view": "local"}})
    publish(index, tmp_path, local)
    store.delete(layout.wheel(local.wheel.sha256, local.wheel.filename))
    assert index.manifest(KEY) is None
    assert store.get(layout.local_wheel(local.wheel.sha256)) is None
