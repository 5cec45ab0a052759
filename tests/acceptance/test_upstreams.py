"""Upstreams that misbehave, through the command: what they do, and what becomes of it."""

import base64
import hashlib
import json
import os
import re
import shutil
import socket
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from urllib.parse import quote

import httpx
import pytest

from tests.acceptance.conftest import PATIENCE_S, Done, Home, held_farm, open_home
from tests.support.projects import Project
from tests.support.quirks import JSON, QUIRKS, Quirk, QuirkyIndex
from tests.support.tables import Table, cells_of, tables
from tests.support.upstream import Upstream

PAGE = "upstream-behaviour.md"
SECOND_VERSION = "9.9"
"""The version that a second index has of every project: one that nobody should get unless the first has none."""


@pytest.fixture(scope="module")
def first() -> Iterator[QuirkyIndex]:
    with QuirkyIndex() as index:
        yield index


@pytest.fixture(scope="module")
def second() -> Iterator[Upstream]:
    with Upstream() as upstream:
        upstream.add(
            *(Project(name=quirk.name, version=SECOND_VERSION) for quirks in QUIRKS.values() for quirk in quirks)
        )
        yield upstream


@pytest.fixture(scope="module")
def shared(first: QuirkyIndex, second: Upstream) -> Iterator[Home]:
    """One home whose farm asks the misbehaving index first, with credentials, and then the second one."""
    with open_home(second) as home:
        write_upstreams(
            home,
            {"name": "first", "url": first.url, "retries": 1, "timeout": 3.0, "public": False}
            | {"username": "me", "password-env": "FIRST_PASSWORD"},
            {"name": "second", "url": second.url},
        )
        home.settings["FIRST_PASSWORD"] = "p@ss:w/rd%2B"  # noqa: S105
        with held_farm(home):
            yield home


@pytest.fixture(scope="module")
def findings(write_docs: bool) -> Iterator[Mapping[str, Table]]:
    """The tables of the page, by their headings; written at the end where that is asked for."""
    found = tables(PAGE, QUIRKS)
    yield found
    if write_docs:
        for heading, table in found.items():
            table.write([quirk.what for quirk in QUIRKS[heading]])


def file_url(told: Mapping[str, str], project: Project, sha256: str) -> str:
    """Where a held farm's source index has the sdist of a project."""
    return f"{told['url'].removesuffix('simple/')}sdists/{project.name}/{sha256}/{project.filename}"


def write_upstreams(home: Home, *upstreams: Mapping[str, object], internal: list[str] | None = None) -> None:
    """Give a home's farm these upstreams; JSON's values are written as TOML's are."""
    text = f"internal = {json.dumps(internal)}\n" if internal else ""
    for upstream in upstreams:
        text += "[[upstream]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in upstream.items())
    path = home.root / "upstreams.toml"
    path.write_text(text)
    home.settings["WHEELFARM_UPSTREAMS"] = str(path)


def install(home: Home, *requirements: str, **settings: str) -> Done:
    return home.run("install", "--json", "--target-dir", home.root / "into", *requirements, environment=settings)


def versions(done: Done) -> dict[str, str]:
    assert done.code == 0, done.err
    return {wheel["name"]: wheel["version"] for wheel in done.json["wheels"]}


CASES = [pytest.param(heading, quirk, id=quirk.name) for heading, quirks in QUIRKS.items() for quirk in quirks]
EXIT_CODES = {"ends": 13, "no sdist": (10, 12), "mismatch": 14}


@pytest.mark.parametrize(("heading", "quirk"), CASES)
def test_a1_e2_server_behaviour_has_one_outcome(
    heading: str,
    quirk: Quirk,
    first: QuirkyIndex,
    second: Upstream,
    shared: Home,
    findings: Mapping[str, Table],
    write_docs: bool,
) -> None:
    done = install(shared, quirk.name)

    asked = first.asked_about(quirk.name)
    assert asked, done.err + shared.farm_log()[-3000:]
    assert {one.method for one in asked} == {"GET"}
    assert not [one for one in asked if ".whl" in one.path]
    asked_of_second = [path for path in second.requests if f"/{quirk.name}/" in path]
    assert bool(asked_of_second) is (quirk.outcome == "second")
    assert "p@ss" not in done.err + done.out + shared.farm_log()
    if quirk.outcome in ("first", "second"):
        assert versions(done) == {quirk.name: "1.0" if quirk.outcome == "first" else SECOND_VERSION}
    else:
        expected = EXIT_CODES[quirk.outcome]
        assert done.code in (expected if isinstance(expected, tuple) else (expected,)), done.err
        assert quirk.said in done.err, done.err
    table = findings[heading]
    table.add_cells(quirk.what, 1, told(done))
    assert write_docs or table.rows().get(quirk.what) == table.found[quirk.what], "run this test with --write-docs"


def test_page_has_a_row_for_every_quirk_and_no_other(write_docs: bool) -> None:
    for heading, table in tables(PAGE, QUIRKS).items():
        rows = table.rows()
        assert write_docs or list(rows) == [quirk.what for quirk in QUIRKS[heading]], heading
        assert write_docs or {len(cells_of(row)) for row in rows.values()} == {4}
        assert write_docs or not [row for row in rows.values() if "?" in cells_of(row)], "tests/slow/test_tools.py"


def told(done: Done) -> str:
    """What came of it, in a cell."""
    if done.code:
        return f"exit {done.code}, `{done.json['error']}`"
    (version,) = versions(done).values()
    return "built" if version != SECOND_VERSION else "the next index is asked"


def index_url(upstream: Upstream) -> dict[str, object]:
    return {"url": upstream.url, "retries": 0}


def test_a3_version_with_wheels_only_is_skipped_and_named(held_home: Home) -> None:
    held_home.upstream.add(Project(name="app", version="1.0"))
    held_home.upstream.add_file("app", "app-2.0-py3-none-any.whl", b"no wheel")

    assert versions(install(held_home, "app")) == {"app": "1.0"}
    done = install(held_home, "app>=2")
    assert (done.code, done.json["error"]) == (12, "no-sdist")
    assert "source distribution" in done.err
    assert "2.0" in done.err


def test_a5_direct_wheel_is_refused_wherever_it_is_named(held_home: Home) -> None:
    wheel = f"helper @ {held_home.upstream.url.removesuffix('simple/')}files/helper-1.0-py3-none-any.whl"
    held_home.upstream.add(
        Project(name="app", build_requires=[wheel]), Project(name="asks", asks=[wheel]), Project(name="needs-it")
    )
    held_home.upstream.add_file("helper", "helper-1.0-py3-none-any.whl", b"no wheel")

    for requirement in (wheel, "app", "asks"):
        done = install(held_home, requirement)
        assert (done.code, done.json["error"]) == (3, "direct-reference"), done.err
    assert not [path for path in held_home.upstream.requests if "helper" in path]


def test_a6_e1_index_of_the_farm_answers_as_an_index_should(home: Home) -> None:
    home.upstream.add(Project(name="app"))
    home.settings["WHEELFARM_TOKENS"] = str(home.root / "tokens.toml")
    of_another_target = home.run("token", "create", "--id", "other", "--target", "other-*").out.strip()
    with held_farm(home) as told:
        page = told["url"].rstrip("/") + "/{}/"
        known = {"Authorization": f"Bearer {told['token']}"}
        assert httpx.get(page.format("absent"), headers=known, timeout=PATIENCE_S).status_code == 404
        listing = httpx.get(page.format("app"), headers={**known, "Accept": JSON}, timeout=PATIENCE_S).json()
        urls = [str(httpx.URL(page.format("app")).join(file["url"])) for file in listing["files"]]
        sdist = next(url for url in urls if url.endswith(".tar.gz"))
        sidecar = next(url for url in urls if url.endswith(".whl")) + ".metadata"
        for url in (sdist, sidecar, sdist + ".metadata", page.format("app")):
            got, head = (httpx.request(method, url, headers=known, timeout=PATIENCE_S) for method in ("GET", "HEAD"))
            assert (got.status_code, head.status_code) == (200, 200), url
            assert got.headers["content-length"] == head.headers["content-length"] == str(len(got.content))
        for url in (sdist, sidecar, page.format("app"), page.format("absent"), page.format("app") + "nothing"):
            for headers in ({}, {"Authorization": "Bearer wrong"}):
                refused = httpx.get(url, headers=headers, timeout=PATIENCE_S)
                assert refused.status_code == 401, url
                assert "basic" in refused.headers["www-authenticate"].lower()
            forbidden = httpx.get(
                url, headers={"Authorization": f"Bearer {of_another_target}"}, timeout=PATIENCE_S
            ).status_code
            assert forbidden == (404 if url.endswith("/nothing") else 403), url


def test_e3_unsafe_strategies_are_refused_and_error_codes_are_passed_over_only_where_written(home: Home) -> None:
    home.upstream.add(Project(name="app", version=SECOND_VERSION))
    with Upstream() as private:
        private.refuse("app", 403)
        write_upstreams(
            home,
            {"name": "private", "public": False, **index_url(private)},
            {"name": "public", **index_url(home.upstream)},
        )
        assert install(home, "app").code == 13
        assert home.upstream.requests == []
        requirements = home.root / "requirements.txt"
        requirements.write_text(f"--extra-index-url {home.upstream.url}\napp\n")
        assert home.run("install", "--target-dir", home.root / "into", "-r", requirements).code == 5

        write_upstreams(
            home,
            {"name": "private", "public": False, "ignore-error-codes": [403], **index_url(private)},
            {"name": "public", **index_url(home.upstream)},
        )
        assert versions(install(home, "app")) == {"app": SECOND_VERSION}
    (record,) = home.store.glob("sdists/*/record.json")
    listed = json.loads(record.read_bytes())
    assert (listed["upstream"], listed["passed_over"]) == ("public", ["private answered 403"])
    (manifest,) = home.store.glob("manifests/*.json")
    source = json.loads(manifest.read_bytes())["provenance"]["source"]
    assert (source["upstream"], source["passed_over"]) == ("public", ["private answered 403"])
    assert "public; private answered 403, which is ignored" in home.run("why", "app").out


def test_e4_internal_name_is_never_asked_of_a_public_index(home: Home) -> None:
    home.upstream.add(*(Project(name=name, version=SECOND_VERSION) for name in ("corp-app", "corp-lib", "open-lib")))
    with Upstream() as private:
        private.add(Project(name="corp-app", requires_dist=["corp-lib"]))
        write_upstreams(
            home,
            {"name": "public", **index_url(home.upstream)},
            {"name": "private", "public": False, **index_url(private)},
            internal=["corp-*"],
        )
        done = install(home, "Corp.App", "open_lib")
        assert (done.code, done.json["error"]) == (11, "unknown-project"), done.err
        assert "corp-lib" in done.err
        private.add(Project(name="corp-lib"))
        done = install(home, "Corp.App", "open_lib")
        assert versions(done) == {"corp-app": "1.0", "corp-lib": "1.0", "open-lib": SECOND_VERSION}
    assert not [path for path in home.upstream.requests if "corp" in path]


CREDENTIALS = ("me@corp", "p@:/%2B+ä")


def test_e5_credentials_are_sent_as_they_are_and_are_found_nowhere(home: Home) -> None:
    home.upstream.add(Project(name="app"))
    user, password = CREDENTIALS
    write_upstreams(
        home, {"name": "corp", "username": user, "password-env": "CORP_PASSWORD", **index_url(home.upstream)}
    )
    home.settings["CORP_PASSWORD"] = password

    with held_farm(home), heard_by_redis(home) as heard:
        done = install(home, "app")

    assert versions(done) == {"app": "1.0"}
    expected = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
    assert set(home.upstream.authorizations) == {expected}
    spelled = [password, quote(password), quote(password, safe=""), expected.removeprefix("Basic ")]
    home.come_to_rest()  # what a farm writes as it ends goes, too
    kept = [path for path in home.root.rglob("*") if path.is_file()]
    assert not [path for path in kept for text in spelled if text.encode() in path.read_bytes()]
    assert not [text for text in spelled if text in done.out + done.err + home.farm_log()]
    messages = [base64.b64decode(body) for body in re.findall(rb'body\\": \\"([A-Za-z0-9+/=]+)', heard)]
    assert any(b"callbacks" in message for message in messages), "Celery's messages were not heard"
    assert not [text for text in spelled if text.encode() in heard + b"".join(messages)]


@contextmanager
def heard_by_redis(home: Home) -> Iterator[bytearray]:
    """Every command that the Redis of a running farm is sent, messages of Celery among them."""
    (broker,) = home.root.glob("run/*/*/valkey.sock")
    heard, end = bytearray(), b"no more is heard"
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as speaker:
        listener.connect(str(broker))
        speaker.connect(str(broker))
        listener.sendall(b"MONITOR\r\n")
        assert listener.recv(5) == b"+OK\r\n"
        yield heard
        speaker.sendall(b"*2\r\n$4\r\nECHO\r\n$%d\r\n%s\r\n" % (len(end), end))
        listener.settimeout(60)
        while end not in heard:
            heard += listener.recv(1 << 16)


def test_e5_credentials_of_netrc_are_sent_and_found_nowhere_else(home: Home) -> None:
    home.upstream.add(Project(name="app"))
    netrc = home.root / ".netrc"
    netrc.write_text('machine 127.0.0.1 login me@corp password "p@:/%2B+secret"\n')
    netrc.chmod(0o600)
    write_upstreams(home, {"name": "corp", "netrc": True, **index_url(home.upstream)})

    done = install(home, "app")

    assert versions(done) == {"app": "1.0"}
    assert set(home.upstream.authorizations) == {"Basic " + base64.b64encode(b"me@corp:p@:/%2B+secret").decode()}
    home.come_to_rest()  # what a farm writes as it ends goes, too
    others = [path for path in home.root.rglob("*") if path.is_file() and path != netrc]
    assert not [path for path in others if b"+secret" in path.read_bytes()]
    assert "+secret" not in done.out + done.err + home.farm_log()


def test_e5_credentials_of_the_keyring_are_sent_and_found_nowhere(home: Home) -> None:
    home.upstream.add(Project(name="app"))
    keyring = home.root / "bin" / "keyring"
    keyring.parent.mkdir()
    keyring.write_text(f'#!/bin/sh\n[ "$*" = \'get {home.upstream.url} me@corp\' ] && echo "p@:/%2B+$(echo secret)"\n')
    keyring.chmod(0o755)
    write_upstreams(home, {"name": "corp", "keyring": True, "username": "me@corp", **index_url(home.upstream)})

    refused = install(home, "app", PATH="/usr/bin:/bin")
    done = install(home, "app", PATH=f"{keyring.parent}{os.pathsep}{os.environ['PATH']}")

    assert (refused.code, "keyring is not installed" in refused.err) == (2, True), refused.err
    assert versions(done) == {"app": "1.0"}
    assert set(home.upstream.authorizations) == {"Basic " + base64.b64encode(b"me@corp:p@:/%2B+secret").decode()}
    home.come_to_rest()  # what a farm writes as it ends goes, too
    kept = [path for path in home.root.rglob("*") if path.is_file()]
    assert not [path for path in kept if b"+secret" in path.read_bytes()]
    assert "+secret" not in done.out + done.err + home.farm_log()


def test_e5_missing_credentials_are_told_by_where_they_should_be(home: Home) -> None:
    write_upstreams(
        home, {"name": "corp", "username": "me", "password-env": "CORP_PASSWORD", **index_url(home.upstream)}
    )
    done = install(home, "app")
    assert done.code == 2, done.err
    assert "CORP_PASSWORD" in done.err
    assert home.upstream.requests == []


def test_e6_credentials_of_one_upstream_are_no_other_s_on_the_same_host(home: Home) -> None:
    home.upstream.add(Project(name="app"), Project(name="other"))
    home.upstream.refuse("other", 401)
    write_upstreams(
        home,
        {"name": "with", "serves": ["app"], "username": "me", "password-env": "CORP_PASSWORD"}
        | index_url(home.upstream),
        {"name": "without", **index_url(home.upstream)},
    )
    home.settings["CORP_PASSWORD"] = "secret"  # noqa: S105
    assert versions(install(home, "app")) == {"app": "1.0"}
    assert "" not in home.upstream.authorizations
    home.upstream.authorizations.clear()

    done = install(home, "other")

    assert done.code == 13
    assert set(home.upstream.authorizations) == {""}
    assert home.upstream.url in done.err
    assert "no credentials were sent" in done.err


def test_offline_builds_what_is_mirrored_and_asks_nobody(home: Home) -> None:
    home.upstream.add(
        Project(name="app", requires_dist=["library"], build_requires=["helper"]),
        Project(name="library"),
        Project(name="helper"),
        Project(name="absent"),
    )
    assert install(home, "app").code == 0
    for folder in ("wheels", "manifests", "index", "names", "plans"):
        shutil.rmtree(home.store / folder)
    shutil.rmtree(home.root / "into")
    home.upstream.requests.clear()

    done = home.run("install", "--json", "--offline", "--upgrade", "--target-dir", home.root / "into", "app")

    assert versions(done) == {"app": "1.0", "library": "1.0"}
    refused = home.run("install", "--offline", "--target-dir", home.root / "into", "absent")
    assert refused.code == 13, refused.err
    assert "offline" in refused.err
    assert "absent" in refused.err
    assert home.upstream.requests == []


def test_locked_sdist_is_built_again_after_upstream_deleted_it(home: Home) -> None:
    app = Project(name="app", static=False)
    home.upstream.add(app)
    sha256 = hashlib.sha256(app.sdist()).hexdigest()
    lock = home.root / "pylock.toml"
    lock.write_text(
        'lock-version = "1.0"\ncreated-by = "test"\n[[packages]]\nname = "app"\nversion = "1.0"\n'
        f'sdist = {{ url = "https://elsewhere/{app.filename}", hashes = {{ sha256 = "{sha256}" }} }}\n'
    )
    assert versions(install(home, "-r", str(lock))) == {"app": "1.0"}
    for folder in ("wheels", "manifests", "index", "names", "plans", "locks"):
        shutil.rmtree(home.store / folder, ignore_errors=True)
    shutil.rmtree(home.root / "into")
    home.upstream.answers.clear()
    home.upstream.requests.clear()

    assert versions(install(home, "-r", str(lock))) == {"app": "1.0"}
    assert home.upstream.files_asked == []
    with held_farm(home) as told:
        known = {"Authorization": f"Bearer {told['token']}"}
        assert httpx.get(told["url"].rstrip("/") + "/app/", headers=known, timeout=PATIENCE_S).status_code == 404
        mirrored = httpx.get(file_url(told, app, sha256), headers=known, timeout=PATIENCE_S)
        assert (mirrored.status_code, mirrored.content) == (200, app.sdist())
        assert httpx.get(file_url(told, app, "0" * 64), headers=known, timeout=PATIENCE_S).status_code == 404


def test_page_is_asked_about_by_its_etag_when_the_farm_starts_again(home: Home) -> None:
    home.upstream.tells_etags = True
    home.upstream.add(Project(name="app"))
    assert versions(install(home, "app")) == {"app": "1.0"}
    assert (home.upstream.requests.count("/simple/app/"), home.upstream.unchanged) == (1, [])

    done = home.run("install", "--json", "--upgrade", "--target-dir", home.root / "into", "app")

    assert versions(done) == {"app": "1.0"}
    assert (home.upstream.requests.count("/simple/app/"), home.upstream.unchanged) == (2, ["/simple/app/"])
    assert home.upstream.files_asked == ["app-1.0.tar.gz"]


def test_project_is_asked_for_once_by_many_who_ask_at_once(home: Home) -> None:
    app = Project(name="app")
    home.upstream.add(app)
    sha256 = hashlib.sha256(app.sdist()).hexdigest()
    with held_farm(home) as told, ThreadPoolExecutor(16) as askers:
        known = {"Authorization": f"Bearer {told['token']}"}
        urls = [told["url"].rstrip("/") + "/app/", file_url(told, app, sha256)] * 8
        answers = list(askers.map(lambda url: httpx.get(url, headers=known, timeout=PATIENCE_S).status_code, urls))
    assert answers == [200] * 16
    assert sorted(home.upstream.requests) == ["/files/app-1.0.tar.gz", "/simple/app/"]


def test_trusted_metadata_is_taken_and_corrected_by_what_was_built(home: Home) -> None:
    app = Project(name="app", static=False, requires_dist=["library"])
    home.upstream.add(app, Project(name="library"), Project(name="unneeded"))
    stated = b"Metadata-Version: 2.1\nName: app\nVersion: 1.0\nRequires-Dist: unneeded\n"
    home.upstream.add_file("app", "app-1.0-py3-none-any.whl", b"no wheel", sidecar=stated)
    sha256 = hashlib.sha256(app.sdist()).hexdigest()
    for trust, status in ((False, 425), (True, 200)):
        write_upstreams(home, {"name": "corp", "trust-metadata": trust, **index_url(home.upstream)})
        with held_farm(home) as told:
            answer = httpx.get(
                f"{file_url(told, app, sha256)}.metadata", auth=("a" * 32, told["token"]), timeout=PATIENCE_S
            )
            assert answer.status_code == status
            assert ("/files/app-1.0-py3-none-any.whl.metadata" in home.upstream.requests) is trust
            assert not trust or b"Requires-Dist: unneeded" in answer.content
            if trust:
                done = install(home, "app")
                assert versions(done) == {"app": "1.0", "library": "1.0"}
                assert "app==1.0 tells other metadata than its sdist" in done.err
    assert "/files/app-1.0-py3-none-any.whl" not in home.upstream.requests


def test_directory_and_flat_page_are_upstreams(home: Home) -> None:
    folder = home.root / "sdists"
    folder.mkdir()
    project, flat = Project(name="app", requires_dist=["flat-one"]), Project(name="flat-one")
    (folder / project.filename).write_bytes(project.sdist())
    digest = hashlib.sha256(flat.sdist()).hexdigest()
    home.upstream.answers["/flat/index.html"] = (
        200,
        f'<html><a href="/files/{flat.filename}#sha256={digest}">{flat.filename}</a></html>'.encode(),
    )
    home.upstream.answers[f"/files/{flat.filename}"] = (200, flat.sdist())
    write_upstreams(
        home,
        {"name": "folder", "url": folder.as_uri()},
        {"name": "flat", "kind": "flat", "url": home.upstream.url.replace("simple/", "flat/index.html")},
    )
    assert versions(install(home, "app")) == {"app": "1.0", "flat-one": "1.0"}


def test_wrong_upstreams_file_is_told_as_a_whole(home: Home) -> None:
    write_upstreams(home, {"name": "a", "url": "ftp://host/", "retry": 3})
    done = install(home, "app")
    assert done.code == 2, done.err
    assert "retry" in done.err
    assert "https://" in done.err
