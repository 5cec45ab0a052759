"""Stock pip and uv against the index: what works with each is what docs/wheel-index.md says."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.support.index_farm import TARGET, Client, Served, publish, served, static_files
from tests.support.s3 import Bucket
from tests.support.tables import Table, tables
from tests.unit.test_api import TOKEN, Farm
from wheelfarm.index_change import Action
from wheelfarm_services import layout
from wheelfarm_services.wheel_index import WheelIndex
from wheelfarm_services.wheel_index.curation import Curation
from wheelfarm_services.wheel_index.page import SIMPLE_JSON

PAGE = "wheel-index.md"
HEADING = "What works with which client"
CLIENTS = ("pip", "uv")


@dataclass(frozen=True, kw_only=True)
class Place:
    """Somewhere to install from, by one client: the API, or a web server with the store's pages."""

    server: Served
    path: str
    client: Client
    known_sha256: str
    """Of the one wheel of app 1.0."""

    def source(self, *, user: str | None = None) -> list[str]:
        url = self.server.url(self.path, user=user)
        return ["--no-index", "--find-links", url] if "flat" in self.path else self.client.index(url)

    def gets(self, *requirements: str, options: tuple[str, ...] = (), wheels: dict[str, str] | None = None) -> str:
        """Whether these requirements lead to these wheels, each with its build tag, and none where none are given."""
        done = self.client.install([*self.source(), *options], *requirements)
        right = done.wheels == (wheels or {}) and (done.code == 0) is bool(wheels)
        return "yes" if right else f"no: {' '.join(sorted(done.wheels)) or 'nothing'}"


def project_by_name(place: Place) -> str:
    return place.gets("app", wheels={"app-2.0": "1", "lib-1.0": "2"})


def any_spelling(place: Place) -> str:
    return place.gets("Dotted_Name", wheels={"dotted_name-1.0": "1"})


def local_version(place: Place) -> str:
    return place.gets("local>=1.0", wheels={"local-1.0+cc": "1"})


def rebuilt(place: Place) -> str:
    return place.gets("lib==1.0", wheels={"lib-1.0": "2"})


def yanked_is_passed_over(place: Place) -> str:
    return place.gets("taken-back", wheels={"taken_back-1.0": "1"})


def yanked_is_had_by_its_version(place: Place) -> str:
    return place.gets("taken-back==2.0", wheels={"taken_back-2.0": "1"})


def quarantined_is_not_had(place: Place) -> str:
    return place.gets("held")


def wrong_bytes_are_refused(place: Place) -> str:
    return place.gets("forged")


def cooldown(place: Place) -> str:
    return place.gets("app", options=tuple(place.client.cooldown("2025-01-01T00:00:00Z")), wheels={"app-1.0": "1"})


def lock_has_hashes(place: Place) -> str:
    told = place.client.lock(place.source(), "app==1.0")
    return "yes" if place.known_sha256 in told else "no"


def metadata_alone_is_read(place: Place) -> str:
    before = len(place.server.seen)
    place.client.lock(place.source(), "app==2.0")
    files = [path for _, path, _ in place.server.seen[before:] if ".whl" in path]
    return "yes" if files and all(path.endswith(".metadata") for path in files) else "no"


def page_is_asked_for_once_more(place: Place) -> str:
    place.client.install(place.source(), "dotted-name", cached=True)
    before = len(place.server.seen)
    done = place.client.install(place.source(), "dotted-name", cached=True)
    answers = [(path, status) for _, path, status in place.server.seen[before:]]
    return "yes" if done.wheels and [status for _, status in answers] == [304] else f"no: {answers}"


def nobody_is_let_in(place: Place) -> str:
    done = place.client.install(place.source(user="__token__:wrong"), "lib")
    return "yes" if done.code != 0 and "401" in done.said + str(place.server.seen[-1]) else "no"


Check = Callable[[Place], str]
EVERYWHERE: dict[str, Check] = {
    "the newest version, and what it requires": project_by_name,
    "versions with a local part (`+cc`)": local_version,
    "a yanked version is passed over": yanked_is_passed_over,
    "wrong bytes are refused": wrong_bytes_are_refused,
}
BY_PROJECT: dict[str, Check] = {
    **EVERYWHERE,
    "names in any spelling": any_spelling,
    "a rebuilt wheel is preferred": rebuilt,
    "a yanked version is had when it is asked for exactly": yanked_is_had_by_its_version,
    "a quarantined project is not had": quarantined_is_not_had,
    "cooldowns go by the sdist's time": cooldown,
    "locks have hashes": lock_has_hashes,
    "resolving reads metadata alone": metadata_alone_is_read,
    "a second run asks for the page alone, which is unchanged": page_is_asked_for_once_more,
    "a wrong token is told of": nobody_is_let_in,
}
FLAT = {what: EVERYWHERE[what] for what in (*EVERYWHERE,) if "version" in what and "local" not in what}
PLACES: dict[str, tuple[str, dict[str, Check]]] = {
    "API": (f"/simple/{TARGET}/", BY_PROJECT),
    "flat page of the API": (f"/flat/{TARGET}/", FLAT),
    "web server": (f"/simple/{TARGET}/", EVERYWHERE),
}
ROWS = [f"{what} ({place})" for place, (_, checks) in PLACES.items() for what in checks]


@dataclass(frozen=True, kw_only=True)
class Shop:
    """Everything that checks install, where it is served."""

    servers: dict[str, Served]
    known_sha256: str


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    farm = Farm(tmp_path_factory.mktemp("farm"))
    store = farm.store
    known = publish(store, "app", "1.0")
    publish(store, "app", "2.0", requires=["lib>=1.0"], uploaded="2026-01-01T00:00:00Z")
    for text in ("first", "second"):
        publish(store, "lib", text=text)
    publish(store, "Dotted.Name")
    publish(store, "local", "1.0+cc")
    for version in ("1.0", "2.0"):
        publish(store, "taken-back", version)
    publish(store, "held")
    forged = publish(store, "forged")
    store.put(layout.wheel(forged.sha256, forged.filename), b"not the bytes that the page promises")
    pages = WheelIndex(store).pages
    curation = Curation(store, pages)
    curation.change(Action.YANK, "taken-back", "2.0", "it deletes files", by="tests")
    curation.change(Action.QUARANTINE, "held", "", "malware", by="tests")
    pages.render_stale()
    with served(farm.app, user=f"__token__:{TOKEN}") as api, static_files(store.root) as web:
        yield Shop(servers={"API": api, "flat page of the API": api, "web server": web}, known_sha256=known.sha256)


@pytest.fixture(scope="module")
def findings(write_docs: bool) -> Iterator[Table]:
    """The table of the page; written at the end where that is asked for."""
    (table,) = tables(PAGE, [HEADING]).values()
    yield table
    if write_docs:
        table.write(ROWS)


@pytest.mark.parametrize("row", ROWS)
def test_what_works_with_which_client(shop: Shop, findings: Table, tmp_path: Path, write_docs: bool, row: str) -> None:
    place, what = next((name, row.removesuffix(f" ({name})")) for name in PLACES if row.endswith(f" ({name})"))
    path, checks = PLACES[place]
    cells = []
    for name in CLIENTS:
        home = tmp_path / name
        home.mkdir()
        client = Client(name=name, home=home)
        cells.append(
            checks[what](Place(server=shop.servers[place], path=path, client=client, known_sha256=shop.known_sha256))
        )
    findings.add(row, *cells)
    assert write_docs or findings.rows().get(row) == findings.found[row], "run this test with --write-docs"


def test_table_has_a_row_for_every_check_and_no_other(write_docs: bool) -> None:
    (table,) = tables(PAGE, [HEADING]).values()
    assert write_docs or list(table.rows()) == ROWS


@pytest.mark.parametrize("name", CLIENTS)
def test_bare_bucket_serves_its_flat_page_to_everybody_it_lets_read(bucket: Bucket, tmp_path: Path, name: str) -> None:
    store = bucket.store()
    publish(store, "app", requires=["local"])
    publish(store, "local", "1.0+cc")
    WheelIndex(store).pages.render_stale()
    readable = [f"arn:aws:s3:::{bucket.name}/some/prefix/{folder}/*" for folder in ("flat", "simple", "wheels")]
    rule = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": readable}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [rule]})
    bucket.client.put_bucket_policy(Bucket=bucket.name, Policy=policy)

    page = f"{bucket.endpoint}/{bucket.name}/some/prefix/{layout.flat_page(TARGET)}"
    done = Client(name=name, home=tmp_path).install(["--no-index", "--find-links", page], "app")
    assert done.wheels == {"app-1.0": "1", "local-1.0+cc": "1"}, done.said
    answers = {key: httpx.get(page.replace(layout.flat_page(TARGET), key)) for key in PUBLIC}
    for key, media_type in PUBLIC.items():
        assert answers[key].headers["content-type"] == media_type
        assert answers[key].headers["cache-control"] == "no-cache"
    assert httpx.get(page.replace("flat/", "manifests/")).status_code == 403


PUBLIC = {
    layout.project_page(TARGET, "app", "html"): "text/html",
    layout.project_page(TARGET, "app", "json"): SIMPLE_JSON,
    layout.root_page(TARGET, "html"): "text/html",
    layout.flat_page(TARGET, "json"): SIMPLE_JSON,
}
