import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from tests.support.projects import Project
from tests.support.upstreams import upstreams_of
from tests.support.values import make_target
from wheelfarm.errors import BadSdist, HashMismatch, InputError, NotFound, UpstreamError
from wheelfarm.job import Sdist
from wheelfarm.revision import MetadataRevision
from wheelfarm_services import layout
from wheelfarm_services.sdist_metadata import SdistMetadata
from wheelfarm_services.source_index import SourceIndex
from wheelfarm_services.store import DirectoryStore

STATIC = Project(name="app", requires_dist=["b>1"])
DYNAMIC = Project(name="app", version="2.0", static=False)
REVISION = make_target().revision


class FakeIndex:
    """An upstream of some projects, as a transport."""

    def __init__(self, *projects: Project) -> None:
        self.files = {project.filename: project.sdist() for project in projects}
        self.promised = {name: hashlib.sha256(data).hexdigest() for name, data in self.files.items()}
        self.asked: list[str] = []
        self.status = 200

    def __call__(self, request: httpx.Request) -> httpx.Response:
        name = request.url.path.rstrip("/").rpartition("/")[2]
        self.asked.append(name)
        if name in self.files:
            return httpx.Response(self.status, stream=httpx.ByteStream(self.files[name]))
        files = [
            {"filename": filename, "url": f"/files/{filename}", "hashes": {"sha256": self.promised[filename]}}
            for filename in self.files
            if filename.startswith(f"{name}-")
        ]
        if not files:
            return httpx.Response(404)
        page = {"meta": {"api-version": "1.1"}, "name": name, "files": files}
        return httpx.Response(self.status, headers={"content-type": "application/vnd.pypi.simple.v1+json"}, json=page)

    def sdist(self, project: Project) -> Sdist:
        filename = project.filename
        return Sdist(name=project.name, version=project.version, filename=filename, sha256=self.promised[filename])


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore.create(tmp_path / "store")


@pytest.fixture
def index() -> FakeIndex:
    return FakeIndex(STATIC, DYNAMIC)


def source(
    store: DirectoryStore, index: FakeIndex, clock: Callable[[], float] = lambda: 0.0, most_known: int = 100
) -> SourceIndex:
    return SourceIndex(store, upstreams_of(store, httpx.MockTransport(index)), clock=clock, most_known=most_known)


def test_page_is_kept_for_ten_minutes(store: DirectoryStore, index: FakeIndex) -> None:
    now = [0.0]
    sources = source(store, index, lambda: now[0])
    for moment, asked in ((0.0, 1), (599.0, 1), (601.0, 2)):
        now[0] = moment
        page = sources.page("app")
        assert page is not None
        assert len(index.asked) == asked


def test_names_that_were_made_up_do_not_fill_the_memory(store: DirectoryStore, index: FakeIndex) -> None:
    sources = source(store, index, most_known=3)
    for number in range(4):
        assert sources.page(f"made-up-{number}") is None
    assert sources.page("made-up-3") is None
    assert sources.page("made-up-0") is None  # forgotten, so that upstream is asked again
    assert [index.asked.count(f"made-up-{number}") for number in (0, 3)] == [2, 1]


def test_failure_of_upstream_is_not_kept(store: DirectoryStore, index: FakeIndex) -> None:
    sources = source(store, index)
    index.status = 403
    with pytest.raises(UpstreamError):
        sources.page("app")
    index.status = 200
    assert sources.page("app") is not None


def test_mirrored_sdist_lies_in_the_store_with_its_record(store: DirectoryStore, index: FakeIndex) -> None:
    sdist = index.sdist(STATIC)
    sources = source(store, index)
    sources.mirror(sdist)
    sources.mirror(sdist)
    assert store.get(layout.sdist(sdist.sha256)) == STATIC.sdist()
    record = json.loads(store.get(layout.sdist_record(sdist.sha256)) or b"")
    assert Sdist.from_json(record["sdist"]) == sdist
    assert index.asked == ["app", STATIC.filename]


@pytest.mark.parametrize(
    "change",
    [
        {"version": "3.0"},
        {"sha256": "0" * 64},
        {"filename": "app-1.0.zip"},
        {"name": "absent"},
    ],
)
def test_what_the_index_does_not_list_is_not_mirrored(
    store: DirectoryStore, index: FakeIndex, change: dict[str, str]
) -> None:
    sdist = replace(index.sdist(STATIC), **change)
    with pytest.raises(InputError, match="does not list"):
        source(store, index).mirror(sdist)
    assert store.get(layout.sdist(sdist.sha256)) is None


def test_mirrored_sdist_is_not_given_out_under_another_name(store: DirectoryStore, index: FakeIndex) -> None:
    sources = source(store, index)
    sources.mirror(index.sdist(STATIC))
    with pytest.raises(InputError, match=r"is app-1\.0\.tar\.gz"):
        sources.mirror(replace(index.sdist(STATIC), name="other"))


def test_sdist_with_other_bytes_than_promised_leaves_no_trace(store: DirectoryStore, index: FakeIndex) -> None:
    sdist = index.sdist(STATIC)
    index.files[STATIC.filename] += b"!"
    with pytest.raises(HashMismatch):
        source(store, index).mirror(sdist)
    assert list(store.list("sdists/")) == []


def test_static_metadata_is_read_off_the_sdist_once(store: DirectoryStore, index: FakeIndex) -> None:
    sdist = index.sdist(STATIC)
    metadata = source(store, index).metadata(sdist, REVISION)
    assert metadata is not None
    assert b"Requires-Dist: b>1\n" in metadata
    asked = len(index.asked)
    assert source(store, index).metadata(sdist, "f" * 64) == metadata
    assert len(index.asked) == asked


def test_dynamic_metadata_is_none_until_a_job_has_computed_it(store: DirectoryStore, index: FakeIndex) -> None:
    sdist = index.sdist(DYNAMIC)
    sources = source(store, index)
    assert sources.metadata(sdist, REVISION) is None
    store.put(layout.built_metadata(sdist.sha256, REVISION), b"Metadata-Version: 2.1\n")
    assert sources.metadata(sdist, REVISION) == b"Metadata-Version: 2.1\n"
    assert sources.metadata(sdist, "f" * 64) is None


def test_metadata_about_another_project_is_refused(store: DirectoryStore) -> None:
    index = FakeIndex(STATIC)
    index.files["app-1.0.tar.gz"] = Project(name="other").sdist()
    index.promised["app-1.0.tar.gz"] = hashlib.sha256(index.files["app-1.0.tar.gz"]).hexdigest()
    with pytest.raises(BadSdist, match="PKG-INFO is about"):
        source(store, index).metadata(index.sdist(STATIC), REVISION)


def test_listed_sdist_is_found_by_its_digest_and_project(store: DirectoryStore, index: FakeIndex) -> None:
    sources = source(store, index)
    assert sources.find("app", index.sdist(DYNAMIC).sha256) == index.sdist(DYNAMIC)
    for name, sha256 in (("app", "0" * 64), ("absent", index.sdist(DYNAMIC).sha256)):
        with pytest.raises(NotFound):
            sources.find(name, sha256)


def test_head_of_an_sdist_that_was_not_mirrored_is_not_found(store: DirectoryStore, index: FakeIndex) -> None:
    with pytest.raises(NotFound):
        source(store, index).head(index.sdist(STATIC))


def test_revised_metadata_is_given_by_its_number(store: DirectoryStore, index: FakeIndex) -> None:
    sdist, sources = index.sdist(STATIC), source(store, index)
    first = sources.metadata(sdist, REVISION)
    built = b"Metadata-Version: 2.1\nName: app\nVersion: 1.0\n"
    settled = SdistMetadata(store).settle(sdist, REVISION, stated=first, built=built)
    assert settled == MetadataRevision(revision=1, differences=("-Requires-Dist: b>1",))
    assert sources.metadata(sdist, REVISION) == first
    assert sources.metadata(sdist, REVISION, 1) == built
    assert sources.metadata(sdist, REVISION, 2) is None


def test_mirrored_sdist_is_found_after_it_left_its_page(store: DirectoryStore, index: FakeIndex) -> None:
    sdist = index.sdist(STATIC)
    source(store, index).mirror(sdist)
    index.files.clear()
    sources = source(store, index)
    assert sources.page("app") is None
    assert sources.find("app", sdist.sha256) == sdist
    for name, sha256 in (("other", sdist.sha256), ("app", "0" * 64), ("app", "../sdists/" + sdist.sha256)):
        with pytest.raises(NotFound):
            sources.find(name, sha256)
    store.delete(layout.sdist(sdist.sha256))
    with pytest.raises(NotFound):
        sources.find("app", sdist.sha256)


def test_bytes_that_an_index_lists_under_a_second_name_are_not_taken_away_from_the_first(
    store: DirectoryStore, index: FakeIndex
) -> None:
    for filename in ("thief-1.0.tar.gz", "thief-2.0.zip", "app-3.0.tar.gz"):
        index.files[filename], index.promised[filename] = STATIC.sdist(), index.promised[STATIC.filename]
        name, version = filename.split("-")[0], filename.split("-")[1][:3]
        stolen = Sdist(name=name, version=version, filename=filename, sha256=index.promised[filename])
        with pytest.raises(BadSdist):
            source(store, index).mirror(stolen)
        with pytest.raises(BadSdist):
            source(store, index).metadata(stolen, REVISION)
    assert list(store.list("sdists/")) == []
    source(store, index).mirror(index.sdist(STATIC))


def test_head_of_a_brought_sdist_is_read_once(store: DirectoryStore, index: FakeIndex) -> None:
    sources, sdist = source(store, index), index.sdist(STATIC)
    sources.mirror(sdist)
    store.delete(layout.sdist(sdist.sha256))
    first = sources.head(sdist)
    assert first.pkg_info is not None
    assert sources.head(sdist) is first
    assert source(store, index).head(sdist) == first


@pytest.mark.parametrize("damaged", [b"", b"{", b"[]", b'{"PKG-INFO": 1}', b'{"PKG-INFO": "x"}'])
def test_head_that_is_kept_damaged_is_read_from_the_archive(
    store: DirectoryStore, index: FakeIndex, damaged: bytes
) -> None:
    sources, sdist = source(store, index), index.sdist(STATIC)
    sources.mirror(sdist)
    store.put(layout.sdist_head(sdist.sha256), damaged)
    assert source(store, index).head(sdist) == sources.head(sdist)
