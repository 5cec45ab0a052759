"""Upstreams together: who is asked, what is kept, and what holds offline."""

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from tests.support.upstreams import upstreams_of
from wheelfarm.errors import HashMismatch, InputError, UpstreamError
from wheelfarm.job import Sdist
from wheelfarm_services import layout
from wheelfarm_services.store import DirectoryStore
from wheelfarm_services.upstreams import ListedSdist, ProjectPage, Routes, Upstreams, UpstreamSettings
from wheelfarm_services.upstreams.credentials import credentials_of

DATA = b"an sdist"
SHA256 = hashlib.sha256(DATA).hexdigest()
FIRST = UpstreamSettings(name="first", url="https://first.example/simple/")
SECOND = UpstreamSettings(name="second", url="https://second.example/simple/")
JSON = "application/vnd.pypi.simple.v1+json"


class Network:
    """Indexes by host: a status where they answer with one, else a page of `app`."""

    def __init__(self, **statuses: int) -> None:
        self.statuses = statuses
        self.headers: dict[str, str] = {}
        self.asked: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        status = self.statuses.get(request.url.host.partition(".")[0], 200)
        if status != 200:
            return httpx.Response(status)
        if self.headers.get("etag", "none") == request.headers.get("if-none-match"):
            return httpx.Response(304)
        file = {"filename": "app-1.0.tar.gz", "url": "/app-1.0.tar.gz", "hashes": {"sha256": SHA256}}
        page = {"meta": {"api-version": "1.1"}, "name": "app", "files": [file]}
        return httpx.Response(200, headers={"content-type": JSON, **self.headers}, json=page)

    @property
    def hosts(self) -> list[str]:
        return [request.url.host.partition(".")[0] for request in self.asked]


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore.create(tmp_path / "store")


def ask(store: DirectoryStore, network: Network, *settings: UpstreamSettings) -> ProjectPage | None:
    return upstreams_of(store, httpx.MockTransport(network), *settings).page("app")


def test_first_upstream_that_has_the_project_is_the_one(store: DirectoryStore) -> None:
    network = Network()
    page = ask(store, network, FIRST, SECOND)
    assert page is not None
    assert page.sdists[0].upstream == "first"
    assert network.hosts == ["first"]


def test_next_upstream_is_asked_after_404(store: DirectoryStore) -> None:
    network = Network(first=404)
    page = ask(store, network, FIRST, SECOND)
    assert page is not None
    assert (page.sdists[0].upstream, page.sdists[0].passed_over) == ("second", ())
    assert network.hosts == ["first", "second"]


@pytest.mark.parametrize("status", [401, 403, 407, 500, 503])
def test_next_upstream_is_not_asked_after_anything_else(store: DirectoryStore, status: int) -> None:
    network = Network(first=status)
    with pytest.raises(UpstreamError, match=r"first\.example"):
        ask(store, network, FIRST, SECOND)
    assert set(network.hosts) == {"first"}


def test_error_that_is_configured_to_be_ignored_is_recorded(store: DirectoryStore) -> None:
    page = ask(store, Network(first=403), replace(FIRST, ignore_error_codes=(403,)), SECOND)
    assert page is not None
    assert page.sdists[0].passed_over == ("first answered 403",)


def test_page_that_is_known_is_not_read_again(store: DirectoryStore) -> None:
    network = Network()
    network.headers = {"etag": '"1"'}
    first = ask(store, network, FIRST)
    assert ask(store, network, FIRST) == first
    assert network.asked[1].headers["if-none-match"] == '"1"'


def test_page_that_is_fresh_is_not_asked_about(store: DirectoryStore) -> None:
    network = Network()
    network.headers = {"cache-control": "max-age=300"}
    first = ask(store, network, FIRST)
    assert ask(store, network, FIRST) == first
    assert len(network.asked) == 1


def test_absence_is_kept_where_another_upstream_has_the_project_or_the_page_was_there_before(
    store: DirectoryStore,
) -> None:
    assert ask(store, Network(first=404), FIRST) is None
    assert list(store.list("upstreams/")) == []  # anybody can ask for any name
    page = ask(store, Network(first=404), FIRST, SECOND)
    assert page is not None
    assert len(list(store.list("upstreams/"))) == 2
    found = offline(store, FIRST, SECOND).page("app")
    assert found is not None
    assert found.without_sdist == page.without_sdist
    assert ask(store, Network(first=404, second=404), FIRST, SECOND) is None
    assert offline(store, FIRST, SECOND).page("app") is None


@pytest.mark.parametrize("kept", [b"", b"[]", b'{"form": 1}', b'{"form": 0, "page": null}'])
def test_page_that_was_kept_in_another_form_is_read_anew(store: DirectoryStore, kept: bytes) -> None:
    page = ask(store, Network(), FIRST)
    (key,) = store.list("upstreams/")
    store.put(key, kept)
    assert ask(store, Network(), FIRST) == page


def offline(store: DirectoryStore, *settings: UpstreamSettings) -> Upstreams:
    routes = Routes(upstreams=settings or (FIRST,))

    def make(_: UpstreamSettings) -> None:
        raise AssertionError("an upstream is asked")

    return Upstreams(lambda: routes, store, offline=True, make=make)  # type: ignore[arg-type]


def test_offline_page_lists_what_is_here(store: DirectoryStore) -> None:
    page = ask(store, Network(), FIRST)
    assert page is not None
    without = offline(store).page("app")
    assert without is not None
    assert (without.sdists, without.remarks) == ((), ("1 sdists of app are not here, and the farm is offline",))
    store.put(layout.sdist_record(SHA256), b"{}")
    found = offline(store).page("app")
    assert found is not None
    assert found.sdists == page.sdists


def test_offline_nothing_is_known_of_what_was_never_asked(store: DirectoryStore) -> None:
    with pytest.raises(UpstreamError, match="Nothing is known of app"):
        offline(store).page("app")


def test_offline_nothing_is_fetched(store: DirectoryStore, tmp_path: Path) -> None:
    page = ask(store, Network(), FIRST)
    assert page is not None
    with pytest.raises(UpstreamError, match="offline"):
        offline(store).fetch(page.sdists[0], tmp_path / "sdist")


@pytest.mark.parametrize("place", ["", "app/", "App/"])
def test_directory_lists_its_sdists(store: DirectoryStore, tmp_path: Path, place: str) -> None:
    folder = tmp_path / "sdists"
    (folder / place).mkdir(parents=True)
    (folder / place / "app-1.0.tar.gz").write_bytes(DATA)
    (folder / place / "app-extra-1.0.tar.gz").write_bytes(DATA)
    (folder / place / "app-1.0-py3-none-any.whl").write_bytes(DATA)
    settings = UpstreamSettings(name="here", url=folder.as_uri(), kind="directory")
    upstreams = Upstreams(lambda: Routes(upstreams=(settings,)), store)
    page = upstreams.page("app")
    assert page is not None
    (listed,) = page.sdists
    assert (listed.sdist.filename, listed.sdist.sha256, listed.upstream) == ("app-1.0.tar.gz", SHA256, "here")
    upstreams.fetch(listed, tmp_path / "fetched")
    assert (tmp_path / "fetched").read_bytes() == DATA
    assert upstreams.page("other") is None
    (folder / place / "app-1.0.tar.gz").write_bytes(b"changed")
    with pytest.raises(HashMismatch):
        upstreams.fetch(listed, tmp_path / "fetched")


def test_directory_that_is_not_there_is_an_error(store: DirectoryStore, tmp_path: Path) -> None:
    settings = UpstreamSettings(name="here", url=(tmp_path / "absent").as_uri(), kind="directory")
    with pytest.raises(UpstreamError, match="can't be read"):
        Upstreams(lambda: Routes(upstreams=(settings,)), store).page("app")


def test_sdist_of_an_upstream_that_is_gone_is_told(store: DirectoryStore, tmp_path: Path) -> None:
    sdist = Sdist(name="app", version="1.0", filename="app-1.0.tar.gz", sha256=SHA256)
    with pytest.raises(UpstreamError, match="'gone'"):
        upstreams_of(store, httpx.MockTransport(Network()), FIRST).fetch(
            ListedSdist(sdist=sdist, url="https://first.example/app-1.0.tar.gz", upstream="gone"), tmp_path / "sdist"
        )


SECRET = "p@ss/w%rd:x"  # noqa: S105


def test_credentials_are_taken_as_they_are(tmp_path: Path) -> None:
    expected = httpx.BasicAuth("u@corp.example", SECRET)._auth_header
    of_variable = replace(FIRST, username="u@corp.example", password_env="CORP_PASSWORD")  # noqa: S106
    (tmp_path / "password").write_text(SECRET + "\n")
    of_file = replace(FIRST, username="u@corp.example", password_file=tmp_path / "password")
    (tmp_path / "netrc").write_text(f"machine first.example login u@corp.example password {SECRET}\n")
    (tmp_path / "netrc").chmod(0o600)
    of_netrc = replace(FIRST, netrc=tmp_path / "netrc")
    of_url = replace(FIRST, url="https://u%40corp.example:p%40ss%2Fw%25rd%3Ax@first.example/simple/")
    for settings in (of_variable, of_file, of_netrc, of_url):
        found = credentials_of(settings, {"CORP_PASSWORD": SECRET})
        assert found.auth is not None
        assert found.auth._auth_header == expected
        assert SECRET not in found.told


def test_keyring_is_asked_by_its_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = tmp_path / "keyring"
    command.write_text(f"#!/bin/sh\necho \"$@\" > {tmp_path}/asked\necho '{SECRET}'\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    found = credentials_of(replace(FIRST, username="u", keyring=True))
    assert found.auth is not None
    assert found.auth._auth_header == httpx.BasicAuth("u", SECRET)._auth_header
    assert (tmp_path / "asked").read_text() == f"get {FIRST.url} u\n"


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (replace(FIRST, username="u", password_env="NOT_SET"), "NOT_SET"),  # noqa: S106
        (replace(FIRST, username="u", password_file=Path("/absent")), "/absent"),
        (replace(FIRST, netrc=Path("/absent")), "/absent"),
    ],
)
def test_credentials_that_are_not_there_are_told(settings: UpstreamSettings, told: str) -> None:
    with pytest.raises(InputError, match=told):
        credentials_of(settings, {})
