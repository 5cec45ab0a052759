"""Stock clients against the index: what works with each is what docs/wheel-index.md says. Poetry's and PDM's columns
are found by tests/slow/test_index_clients.py."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import httpx
import pytest
from pypi_simple import DigestMismatchError, DistributionPackage, PyPISimple
from requests import HTTPError

from tests.support.ceph import Gateway
from tests.support.index_clients import Installed, Installer, Source
from tests.support.index_farm import TARGET, publish, served
from tests.support.index_shop import HEADING, NEVER, OLD, PAGE, ROWS, Place, shop
from tests.support.s3 import Bucket, make_bucket
from tests.support.tables import Table, cells_of, tables
from tests.support.values import make_target
from tests.support.waiting import PATIENCE_S
from tests.unit.test_api import TOKEN, Farm
from wheelfarm_services import layout
from wheelfarm_services.wheel_index import WheelIndex
from wheelfarm_services.wheel_index.page import SIMPLE_JSON

INSTALLERS = ("pip", "uv")


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory, gateway: Gateway) -> Iterator[Mapping[str, Place]]:
    with shop(tmp_path_factory.mktemp("farm"), make_bucket(gateway)) as found:
        yield found


@pytest.fixture(scope="module")
def findings(write_docs: bool) -> Iterator[Table]:
    """The table of the page; written at the end where that is asked for."""
    (table,) = tables(PAGE, [HEADING]).values()
    yield table
    if write_docs:
        table.write(ROWS)


@pytest.mark.parametrize("row", ROWS)
def test_what_works_with_pip_uv_and_a_strict_reader(
    places: Mapping[str, Place], findings: Table, tmp_path: Path, write_docs: bool, row: str
) -> None:
    where, check = ROWS[row]
    cells = []
    for name in INSTALLERS:
        home = tmp_path / name
        home.mkdir()
        cells.append(check(Installer(name=name, home=home), places[where]))
    cells.append(read_strictly(row, places[where], tmp_path))
    findings.add_cells(row, 1, *cells)
    assert write_docs or cells_of(findings.rows()[row])[1:4] == cells, "run this test with --write-docs"


def test_table_has_a_row_for_every_check_and_no_other(write_docs: bool) -> None:
    (table,) = tables(PAGE, [HEADING]).values()
    assert write_docs or list(table.rows()) == list(ROWS)


def read_strictly(row: str, place: Place, folder: Path) -> str:
    """What pypi-simple, which refuses what is not as the standards have it, makes of the pages; it chooses nothing."""
    check = next((check for what, check in READ.items() if row.startswith(f"{what} (")), None)
    if check is None or place.source.form != "index":
        return NEVER
    with PyPISimple(place.source.url) as reader:
        return "yes" if check(reader, place, folder) else "no"


def packages(reader: PyPISimple, project: str) -> dict[str, DistributionPackage]:
    return {package.filename: package for package in reader.get_project_page(project).packages}


def reads_versions(reader: PyPISimple, place: Place, folder: Path) -> bool:
    found = packages(reader, "app")
    (newest,) = (package for package in found.values() if package.version == "2.0")
    reader.download_package(newest, folder / "wheel")
    return len(found) == 2 and "Requires-Dist: dotted-name>=1.0" in reader.get_package_metadata(newest)


def reads_local_version(reader: PyPISimple, place: Place, folder: Path) -> bool:
    (package,) = packages(reader, "local").values()
    reader.download_package(package, folder / "wheel")
    return bool(package.version == "1.0+cc")


def reads_name(reader: PyPISimple, place: Place, folder: Path) -> bool:
    return list(packages(reader, "Dotted_Name")) == ["Dotted_Name-1.0-1-py3-none-any.whl"]


def reads_build_tags(reader: PyPISimple, place: Place, folder: Path) -> bool:
    return list(packages(reader, "lib")) == ["lib-1.0-1-py3-none-any.whl", "lib-1.0-2-py3-none-any.whl"]


def reads_yank(reader: PyPISimple, place: Place, folder: Path) -> bool:
    found = {package.version: package for package in packages(reader, "taken-back").values()}
    return not found["1.0"].is_yanked and found["2.0"].yanked_reason == "it deletes files"


def reads_quarantine(reader: PyPISimple, place: Place, folder: Path) -> bool:
    page = reader.get_project_page("held")
    return not page.packages and page.status == "quarantined"


def refuses_wrong_bytes(reader: PyPISimple, place: Place, folder: Path) -> bool:
    (package,) = packages(reader, "forged").values()
    with pytest.raises(DigestMismatchError):
        reader.download_package(package, folder / "wheel")
    return True


def reads_hashes(reader: PyPISimple, place: Place, folder: Path) -> bool:
    return {"sha256": place.known_sha256} in [package.digests for package in packages(reader, "app").values()]


def reads_times(reader: PyPISimple, place: Place, folder: Path) -> bool:
    found = {package.version: package.upload_time for package in packages(reader, "app").values()}
    return found["1.0"] == datetime.fromisoformat(OLD)


def reads_metadata(reader: PyPISimple, place: Place, folder: Path) -> bool:
    (package,) = packages(reader, "local").values()
    return package.has_metadata is True and "sha256" in (package.metadata_digests or {})


def is_refused_by_its_token(reader: PyPISimple, place: Place, folder: Path) -> bool:
    assert place.server
    url = place.server.url(f"/simple/{TARGET}/", user="__token__:wrong")
    with PyPISimple(url) as other, pytest.raises(HTTPError, match="401"):
        other.get_project_page("lib")
    return True


READ: dict[str, Callable[[PyPISimple, Place, Path], bool]] = {
    "the newest version, and what it requires": reads_versions,
    "versions with a local part (`+cc`)": reads_local_version,
    "names in any spelling": reads_name,
    "a rebuilt wheel is preferred": reads_build_tags,
    "a yanked version is passed over": reads_yank,
    "a quarantined project is not had": reads_quarantine,
    "wrong bytes are refused": refuses_wrong_bytes,
    "locks have hashes": reads_hashes,
    "cooldowns go by the sdist's time": reads_times,
    "resolving reads metadata alone": reads_metadata,
    "a wrong token is told of": is_refused_by_its_token,
}


def test_uv_installs_from_an_export_what_it_locked_by_the_farm(places: Mapping[str, Place], tmp_path: Path) -> None:
    uv = Installer(name="uv", home=tmp_path)
    lock = uv.lock(places["API"].source, "app")
    assert "--hash=sha256:" in lock
    done = uv.install(places["export"].source, locked=lock)
    assert done.wheels == {"app-2.0": "1", "dotted_name-1.0": "1"}, done.said


@pytest.mark.parametrize("name", INSTALLERS)
def test_bare_bucket_serves_its_flat_page_to_everybody_it_lets_read(bucket: Bucket, tmp_path: Path, name: str) -> None:
    store = bucket.store()
    publish(store, "app", requires=["local"])
    publish(store, "local", "1.0+cc")
    WheelIndex(store).pages.render_stale()
    bucket.publish_pages()

    page = f"{bucket.endpoint}/{bucket.name}/some/prefix/{layout.flat_page(TARGET)}"
    links = Source(base=page.removesuffix(f"/flat/{TARGET}/index.html"), form="links", page="index.html")
    done = Installer(name=name, home=tmp_path).install(links, "app")
    assert done.wheels == {"app-1.0": "1", "local-1.0+cc": "1"}, done.said
    answers = {key: httpx.get(page.replace(layout.flat_page(TARGET), key), timeout=PATIENCE_S) for key in PUBLIC}
    for key, media_type in PUBLIC.items():
        assert answers[key].headers["content-type"] == media_type
        assert answers[key].headers["cache-control"] == "no-cache"
    kept = next(iter(store.list("manifests/")))
    assert httpx.get(page.replace(layout.flat_page(TARGET), kept), timeout=PATIENCE_S).status_code == 403


PUBLIC = {
    layout.project_page(TARGET, "app", "html"): "text/html",
    layout.project_page(TARGET, "app", "json"): SIMPLE_JSON,
    layout.root_page(TARGET, "html"): "text/html",
    layout.flat_page(TARGET, "json"): SIMPLE_JSON,
}

OLDER = make_target("host-cp311")
NEWER = replace(make_target("host-cp312"), abi="cp312", python_version="3.12.1")
FAST = replace(make_target("host-cp311-avx2"))


def python_options(client: str, minor: int) -> list[str]:
    """How a client is told to install for another Python than its own."""
    if client == "uv":
        return ["--python-version", f"3.{minor}", "--python-platform", "linux"]
    return ["--python-version", f"3.{minor}", "--implementation", "cp", "--abi", f"cp3{minor}", "--abi", "none"]


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Of an API with targets for two Pythons and a variant for newer processors, each with a wheel of its own."""
    farm = Farm(tmp_path)
    for target, text in ((OLDER, "older"), (NEWER, "newer"), (FAST, "fast")):
        farm.requests.register(target)
        publish(farm.store, "app", text=text, target=target.name, tags=f"{target.abi}-{target.abi}-linux_x86_64")
    publish(farm.store, "fast-alone", target=FAST.name)
    with served(farm.app, user=f"__token__:{TOKEN}") as api:
        yield api.url("")


def module_of(done: Installed) -> str:
    return done.files.get("app.py", "").strip()


@pytest.mark.parametrize("name", INSTALLERS)
def test_one_url_of_two_targets_gives_each_python_its_own_wheel(address: str, tmp_path: Path, name: str) -> None:
    both = Source(base=address, form="combined", target=f"{OLDER.name},{NEWER.name}")
    for minor, text in ((11, "older"), (12, "newer")):
        done = Installer(name=name, home=tmp_path, options=python_options(name, minor)).install(both, "app")
        assert (done.code, module_of(done)) == (0, f"'{text}'"), done.said


@pytest.mark.parametrize("name", INSTALLERS)
def test_url_of_targets_that_build_alike_is_refused_for_every_client(address: str, tmp_path: Path, name: str) -> None:
    alike = Source(base=address, form="combined", target=f"{OLDER.name},{FAST.name}")
    done = Installer(name=name, home=tmp_path).install(alike, "app")
    assert done.code != 0
    assert not done.wheels


@pytest.mark.parametrize("name", INSTALLERS)
def test_client_of_one_variant_sees_no_wheel_of_the_other(address: str, tmp_path: Path, name: str) -> None:
    client = Installer(name=name, home=tmp_path, options=python_options(name, 11))
    for target, text in ((OLDER, "older"), (FAST, "fast")):
        done = client.install(Source(base=address, target=target.name), "app>=1.0", cached=True)
        assert (done.code, module_of(done)) == (0, f"'{text}'"), done.said
    assert client.install(Source(base=address, target=FAST.name), "fast-alone").wheels == {"fast_alone-1.0": "1"}
    assert client.install(Source(base=address, target=OLDER.name), "fast-alone").code != 0
