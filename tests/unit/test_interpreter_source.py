import http.server
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.support.values import make_interpreter
from wheelfarm.errors import HashMismatch, InputError, NotFound, TooLarge
from wheelfarm.interpreter_source import Offer, Wanted, fetch, find_offers, offers_left

NAME = "cpython-3.12.1+20261120-x86_64-unknown-linux-gnu-install_only.tar.gz"
STRIPPED = NAME.replace("install_only", "install_only_stripped")
KEY = "cpython-3.12.1-linux-x86_64-gnu"
SUM = "ab" * 32


def entry(**changes: Any) -> dict[str, Any]:
    return {
        "name": "cpython",
        "arch": {"family": "x86_64", "variant": None},
        "os": "linux",
        "libc": "gnu",
        "major": 3,
        "minor": 12,
        "patch": 1,
        "prerelease": "",
        "url": f"https://mirror.example/x/20261120/{NAME.replace('+', '%2B')}",
        "sha256": SUM,
        "variant": None,
        "build": "20261120",
    } | changes


def listed(folder: Path, *entries: dict[str, Any]) -> str:
    path = folder / "downloads.json"
    path.write_text(json.dumps({str(number): entry for number, entry in enumerate(entries)}))
    return str(path)


def test_archive_tells_what_it_is_by_its_name_and_its_sha256_by_a_file_beside_it(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"x")
    with pytest.raises(InputError, match="Nothing tells the sha256"):
        find_offers(str(tmp_path / NAME), Wanted())
    (tmp_path / "SHA256SUMS").write_text(f"{SUM}  other.tar.gz\n{'0' * 64} *{NAME}\n")
    (offer,) = find_offers(str(tmp_path / NAME), Wanted())
    assert (offer.key, offer.build, offer.sha256) == (KEY, "20261120", "0" * 64)
    (tmp_path / f"{NAME}.sha256").write_text(f"{SUM}\n")
    assert find_offers(str(tmp_path / NAME), Wanted())[0].sha256 == SUM
    assert find_offers((tmp_path / NAME).as_uri(), Wanted(sha256="CD" * 32))[0].sha256 == "cd" * 32
    assert offer.told_url == (tmp_path / NAME).as_uri()


def test_name_that_tells_nothing_needs_key_and_build(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not tell what it is"):
        find_offers(str(tmp_path / "python.tar.gz"), Wanted(sha256=SUM))
    (offer,) = find_offers(str(tmp_path / "python.tar.gz"), Wanted(sha256=SUM, key=KEY, build="7"))
    assert (offer.key, offer.build) == (KEY, "7")
    with pytest.raises(InputError, match="not the key"):
        find_offers(str(tmp_path / "python.tar.gz"), Wanted(sha256=SUM, key="3.12", build="7"))


@pytest.mark.parametrize("name", ["python.tar.bz2", "python.tar.xz", "python.zip", "python"])
def test_kinds_that_uv_refuses_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="no archive that uv installs"):
        find_offers(f"https://mirror.example/{name}", Wanted(sha256=SUM, key=KEY, build="7"))
    with pytest.raises(InputError, match="no archive that uv installs"):
        find_offers(listed(tmp_path, entry(url=f"https://x/{name}")), Wanted(select=("*",)))


def test_release_gives_of_each_key_the_archive_that_uv_prefers(tmp_path: Path) -> None:
    full = NAME.replace("install_only.tar.gz", "pgo+lto-full.tar.zst")
    other = NAME.replace("3.12.1", "3.13.0")
    (tmp_path / "SHA256SUMS").write_text("".join(f"{SUM}  {name}\n" for name in (full, NAME, STRIPPED, other, "x.txt")))
    (offer,) = find_offers(f"{tmp_path}/", Wanted(select=("*-3.12.*-linux-*",)))
    assert (offer.filename, offer.url) == (STRIPPED, str(tmp_path / STRIPPED))
    assert {offer.key for offer in find_offers(str(tmp_path), Wanted(select=("*",)))} == {
        KEY,
        KEY.replace("3.12.1", "3.13.0"),
    }
    with pytest.raises(InputError, match="say which of it"):
        find_offers(f"{tmp_path}/", Wanted())
    with pytest.raises(InputError, match=f"offers {KEY}, .* none of it matches"):
        find_offers(f"{tmp_path}/", Wanted(select=("pypy-*",)))


def test_tree_of_releases_gives_those_of_each(tmp_path: Path) -> None:
    for build in ("20261120", "20261121"):
        (tmp_path / build).mkdir()
        (tmp_path / build / "SHA256SUMS").write_text(f"{SUM}  {NAME.replace('20261120', build)}\n")
    offers = find_offers(f"{tmp_path.as_uri()}/", Wanted(select=("*",)))
    assert [offer.build for offer in offers] == ["20261120", "20261121"]
    assert len(find_offers(f"{tmp_path}/", Wanted(select=("*",), build="20261121"))) == 1
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="has no SHA256SUMS"):
        find_offers(f"{tmp_path}/empty/", Wanted(select=("*",)))


def test_json_of_uv_is_read_by_its_fields(tmp_path: Path) -> None:
    source = listed(
        tmp_path,
        entry(),
        entry(minor=13, variant="freethreaded", build=None),
        entry(name="graalpy", url="https://x/graalpy.tar.gz", build="25.0.0"),
        entry(arch={"family": "x86_64", "variant": "v3"}, prerelease="rc1"),
    )
    offers = find_offers(source, Wanted(select=("*",)))
    assert [(offer.key, offer.build) for offer in offers] == [
        (KEY, "20261120"),
        ("cpython-3.13.1+freethreaded-linux-x86_64-gnu", "20261120"),
        ("graalpy-3.12.1-linux-x86_64-gnu", "25.0.0"),
        ("cpython-3.12.1rc1-linux-x86_64_v3-gnu", "20261120"),
    ]
    mirrored = find_offers(source, Wanted(select=(KEY,), mirror="file:///srv/mirror/"))
    assert mirrored[0].url == f"file:///srv/mirror/20261120/{NAME.replace('+', '%2B')}"


@pytest.mark.parametrize("digest", [None, "", "0" * 63])
def test_json_without_a_sha256_is_refused_where_uv_would_install_unverified(tmp_path: Path, digest: str | None) -> None:
    with pytest.raises(InputError):
        find_offers(listed(tmp_path, entry(sha256=digest)), Wanted(select=("*",)))


@pytest.mark.parametrize("text", ["", "[]", '{"version": 2}', '{"a": 1}', '{"a": {"url": "x"}}', "[" * 100_000])
def test_what_is_no_list_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(InputError):
        find_offers(str(tmp_path / "x.json"), Wanted(select=("*",)))


def offer_of(url: str, sha256: str = SUM) -> Offer:
    return Offer(url=url, filename=NAME, key=KEY, build="20261120", sha256=sha256)


def test_bytes_that_were_not_promised_are_refused(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"x")
    with pytest.raises(HashMismatch):
        fetch(offer_of(str(tmp_path / NAME)), tmp_path / "got")
    with pytest.raises(NotFound):
        fetch(offer_of(str(tmp_path / "absent")), tmp_path / "got")


ESCAPED = NAME.replace("+", "%2B")


@pytest.mark.parametrize(("escaped", "on_disk"), [(NAME, NAME), (ESCAPED, NAME), (ESCAPED, ESCAPED)])
def test_plus_is_found_either_way(tmp_path: Path, escaped: str, on_disk: str) -> None:
    (tmp_path / on_disk).write_bytes(b"")
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    fetch(offer_of(f"{tmp_path.as_uri()}/{escaped}", empty), tmp_path / "got")


class Redirecting(http.server.BaseHTTPRequestHandler):
    """Answers everything by sending to where nobody should go with it."""

    def do_GET(self) -> None:
        self.send_response(302)
        self.send_header("Location", f"http://192.0.2.1{self.path}")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_archive_is_taken_over_https_or_loopback_alone_and_its_secrets_are_not_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="can't be read"):
        fetch(offer_of(f"ftp://u:secret@mirror.example/{NAME}"), tmp_path / "x")
    with pytest.raises(InputError, match=r"http://192\.0\.2\.1/x/.* is not https") as refused:
        fetch(offer_of(f"http://u:secret@192.0.2.1/x/{NAME}"), tmp_path / "x")
    assert "secret" not in str(refused.value)
    with http.server.HTTPServer(("127.0.0.1", 0), Redirecting) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        with pytest.raises(InputError, match=r"http://192\.0\.2\.1/.* is not https"):
            fetch(offer_of(f"http://127.0.0.1:{server.server_address[1]}/{NAME}"), tmp_path / "x")
        thread.join()
    assert offer_of(f"https://u:secret@mirror.example/{NAME}?sig=1").told_url == f"https://mirror.example/{NAME}"


def test_what_the_farm_has_is_left_out() -> None:
    offer = offer_of("x")
    same = make_interpreter(filename=NAME, sha256=SUM)
    assert offers_left([offer], [same]) == []
    assert offers_left([offer], [make_interpreter(filename=NAME, sha256="0" * 64)]) == [offer]


def test_lists_are_bounded(tmp_path: Path) -> None:
    with (tmp_path / "x.json").open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(TooLarge):
        find_offers(str(tmp_path / "x.json"), Wanted(select=("*",)))
