import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import cast

import httpx
import pytest

from tests.support.archives import make_zip
from tests.support.asgi import asgi_client, operations_client
from tests.support.projects import Project, make_tar_gz
from tests.support.values import make_built_wheel, make_job, make_sdist, make_target
from tests.unit.test_api import DYNAMIC, RESOLUTION, SOURCE, TOKEN, VIRTUAL, Farm, basic
from wheelfarm.errors import BadSdist, HashMismatch, NotFound
from wheelfarm.farm import RequestStatus
from wheelfarm.job import LOCAL_VIEW, TREE_VERSION, JobKind, Sdist
from wheelfarm_services import layout
from wheelfarm_services.accounts import Accounts
from wheelfarm_services.local_routes import local_operations
from wheelfarm_services.local_sources import LocalSources
from wheelfarm_services.request import Request
from wheelfarm_services.sdist_head import read_head
from wheelfarm_services.store import DirectoryStore
from wheelfarm_services.wheel_index import Manifest, WheelIndex

OTHER = "cd" * 16
MINE = Project(name="my-lib", version="1.5.dev0", requires_dist=["first"])


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[Farm]:
    farm = Farm(tmp_path)
    with farm.client:
        farm.requests.register(make_target())
        yield farm


def send(farm: Farm, data: bytes, filename: str = "", sha256: str = "") -> httpx.Response:
    return farm.client.put(f"/local/{sha256 or digest(data)}", content=data, params={"filename": filename})


def sent_sdist(farm: Farm, project: Project = MINE) -> Sdist:
    sdist = Sdist.from_json(send(farm, project.sdist(), "anything.tar.gz").json()["sdist"])
    assert farm.client.put(f"/resolutions/{RESOLUTION}/local", json=[asdict(sdist)]).status_code == 204
    return sdist


def test_sdist_that_is_sent_is_known_by_what_its_pkg_info_says(farm: Farm) -> None:
    data = MINE.sdist()
    answer = send(farm, data, "renamed.tar.gz")
    expected = {"name": "my-lib", "version": "1.5.dev0", "filename": "my_lib-1.5.dev0.tar.gz", "sha256": digest(data)}
    assert answer.json() == {"sdist": expected}
    assert farm.store.get(layout.local_archive(digest(data))) == data
    assert farm.store.get(layout.sdist(digest(data))) is None


def test_zipped_sdist_stays_one(farm: Farm) -> None:
    data = make_zip({f"x/{name}": text for name, text in MINE.files().items()})
    assert send(farm, data, "x.zip").json()["sdist"]["filename"] == "my_lib-1.5.dev0.zip"


def test_archive_without_pkg_info_is_a_tree(farm: Farm) -> None:
    data = make_tar_gz({f"x/{name}": text for name, text in MINE.files().items() if name != "PKG-INFO"})
    assert send(farm, data, "x.tar.gz").json() == {"sdist": None}
    assert send(farm, MINE.sdist()).json() == {"sdist": None}


def test_bytes_with_another_digest_are_not_kept(farm: Farm) -> None:
    answer = send(farm, b"data", sha256="0" * 64)
    assert (answer.status_code, answer.json()["error"]) == (422, "hash-mismatch")
    assert list(farm.store.list("local/")) == []


@pytest.mark.parametrize("path", ["/local/short", f"/local/{'G' * 64}"])
def test_what_is_no_digest_is_refused(farm: Farm, path: str) -> None:
    assert farm.client.put(path, content=b"data").status_code == 400


@pytest.mark.parametrize(
    "data",
    [
        b"no archive",
        make_tar_gz({"x/PKG-INFO": b"Name: ../up\nVersion: 1\n"}),
        make_tar_gz({"x/PKG-INFO": b"Name: a\nVersion: one\n"}),
        make_tar_gz({"x/PKG-INFO": b"nothing"}),
    ],
)
def test_archive_that_can_be_no_sdist_is_refused(farm: Farm, data: bytes) -> None:
    answer = send(farm, data, "x.tar.gz")
    assert (answer.status_code, answer.json()["error"]) == (422, "bad-sdist")


def test_upload_is_bounded(tmp_path: Path) -> None:
    farm = Farm(tmp_path)
    accounts = farm.accounts
    operations = local_operations(farm.store, cast(Accounts, accounts), farm.tenancy, most_bytes=1 << 20)
    with operations_client(operations) as client:
        assert client.put(f"/local/{'0' * 64}", content=b"x" * ((1 << 20) + 1)).status_code == 413
    assert list(farm.store.list("local/")) == []


def test_resolution_sees_of_a_local_project_nothing_but_the_local_sdist(farm: Farm) -> None:
    sdist = sent_sdist(farm, Project(name="app", version="0.1"))
    page = farm.client.get(f"{SOURCE}app/").json()
    assert page["versions"] == ["0.1"]
    assert {entry["filename"] for entry in page["files"]} == {"app-0.1.tar.gz", "app-0.1-0-py3-none-any.whl"}
    metadata = farm.client.get(f"{VIRTUAL}app/{sdist.sha256}/app-0.1-0-py3-none-any.whl.metadata")
    assert metadata.status_code == 200
    assert "Version: 0.1" in metadata.text


def test_other_resolutions_see_nothing_of_it(farm: Farm) -> None:
    sdist = sent_sdist(farm)
    other = asgi_client(farm.app, Authorization=basic(OTHER, TOKEN))
    with other:
        assert other.get(f"{SOURCE}my-lib/").status_code == 404
        path = f"{VIRTUAL}my-lib/{sdist.sha256}/my_lib-1.5.dev0-0-py3-none-any.whl.metadata"
        assert other.get(path).status_code == 404
    assert farm.client.get(f"{SOURCE}my-lib/").status_code == 200


def test_dynamic_metadata_of_a_local_sdist_is_pending_until_a_local_job_has_it(farm: Farm) -> None:
    sdist = sent_sdist(farm, DYNAMIC)
    path = f"{VIRTUAL}app/{sdist.sha256}/app-2.0-0-py3-none-any.whl.metadata"
    assert farm.client.get(path).status_code == 425
    assert (RESOLUTION, "pending", sdist) in farm.accounts.notes
    farm.store.put(layout.built_metadata(sdist.sha256, make_target().revision), b"Name: app\n")
    assert farm.client.get(path).text == "Name: app\n"


@pytest.mark.parametrize("change", [{"name": "other"}, {"sha256": "0" * 64}, {"version": "2"}])
def test_resolution_cannot_be_made_to_see_what_nobody_sent(farm: Farm, change: dict[str, str]) -> None:
    sdist = sent_sdist(farm)
    answer = farm.client.put(f"/resolutions/{OTHER}/local", json=[asdict(replace(sdist, **change))])
    assert answer.status_code == 400
    assert farm.accounts.local(OTHER, sdist.name) is None


def submit(farm: Farm, kind: JobKind, sdist: Sdist, *, local: bool) -> httpx.Response:
    body = {
        "id": "0" * 32,
        "kind": kind,
        "target": make_target().name,
        "target_revision": make_target().revision,
        "sdists": [asdict(sdist)],
        "local": [sdist.sha256] if local else [],
    }
    return farm.client.post("/requests", json=body)


def test_local_sdist_is_built_only_where_it_is_said_to_be_local(farm: Farm) -> None:
    sdist = sent_sdist(farm)
    assert submit(farm, JobKind.WHEEL, sdist, local=False).status_code == 400
    status = RequestStatus.from_json(submit(farm, JobKind.WHEEL, sdist, local=True).json())
    job = replace(make_job(sdist), source_view=LOCAL_VIEW)
    assert status.requested == (job.id,)
    assert job.id != make_job(sdist).id


def test_what_was_not_sent_is_not_built(farm: Farm) -> None:
    for kind in JobKind:
        answer = submit(farm, kind, make_sdist(), local=True)
        assert (answer.status_code, answer.json()["error"]) == (400, "input")


def test_sdist_that_was_made_of_a_tree_is_found_again(tmp_path: Path, farm: Farm) -> None:
    archive = tmp_path / "made"
    archive.write_bytes(MINE.sdist())
    tree = make_sdist("my-lib", TREE_VERSION, data=b"tree")
    assert send(farm, b"tree").status_code == 200
    first = RequestStatus.from_json(submit(farm, JobKind.SDIST, tree, local=False).json())
    assert first.sdists == {}

    job = replace(make_job(tree, kind=JobKind.SDIST), source_view=LOCAL_VIEW)
    made = Sdist(
        name="my-lib", version="1.5.dev0", filename="my_lib-1.5.dev0.tar.gz", sha256=digest(archive.read_bytes())
    )
    with archive.open("rb") as file:
        LocalSources(farm.store).keep_made(job, made, read_head(made, file), archive)

    second = RequestStatus.from_json(submit(farm, JobKind.SDIST, tree, local=False).json())
    assert second.sdists == {job.id: made}


def test_request_for_local_sdists_survives_its_way_to_the_store() -> None:
    body = {
        "id": "0" * 32,
        "kind": "wheel",
        "target": "t",
        "target_revision": "0" * 64,
        "sdists": [asdict(make_sdist())],
        "local": [make_sdist().sha256],
    }
    request = Request.from_json(body)
    assert Request.from_store(json.dumps(asdict(request)).encode()) == request
    assert request.jobs(["host"])[0].is_local


def test_local_wheel_is_committed_and_never_enlisted(tmp_path: Path) -> None:
    store = DirectoryStore.create(tmp_path / "store")
    job = replace(make_job(), source_view=LOCAL_VIEW)
    manifest = Manifest(
        wheel=make_built_wheel(),
        unstamped_sha256="0" * 64,
        metadata_sha256="1" * 64,
        requires_python="",
        target=job.target,
        provenance={"job": job.to_json()},
    )
    wheel = tmp_path / "app.whl"
    wheel.write_bytes(b"wheel")
    index = WheelIndex(store)
    index.publish("key", manifest, wheel, b"Name: app\n")
    assert index.manifest("key") == manifest
    assert list(store.list("index/")) == list(store.list("flat/")) == []
    index.enlist(replace(manifest, provenance={"job": make_job().to_json()}))
    assert len(list(store.list("index/"))) == 1


def test_archive_that_nobody_sent_is_not_found(tmp_path: Path) -> None:
    sources = LocalSources(DirectoryStore.create(tmp_path / "store"))
    with pytest.raises(NotFound):
        sources.as_sdist("0" * 64, "x.tar.gz")
    (tmp_path / "file").write_bytes(b"data")
    with pytest.raises(HashMismatch):
        sources.take("0" * 64, tmp_path / "file")
    sources.take(digest(b"data"), tmp_path / "file")
    with pytest.raises(BadSdist):
        sources.as_sdist(digest(b"data"), "x.tar.gz")
