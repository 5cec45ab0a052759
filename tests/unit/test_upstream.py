import hashlib
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from wheelfarm.errors import HashMismatch, UpstreamError
from wheelfarm_services.upstreams import HttpIndex, ListedSdist, ProjectPage, UpstreamSettings, default_index_url
from wheelfarm_services.upstreams.http_index import Seen

URL = "https://index.example/simple/"
JSON = "application/vnd.pypi.simple.v1+json"
DATA = b"the bytes of an sdist"
SHA256 = hashlib.sha256(DATA).hexdigest()

Answer = Callable[[httpx.Request], httpx.Response]


class Index:
    """An upstream that answers by a function and keeps what it was asked."""

    def __init__(self, answer: Answer, *, url: str = URL, page_bytes: int = 1 << 20) -> None:
        self.asked: list[httpx.Request] = []
        self.slept: list[float] = []
        self._answer = answer
        self.upstream = HttpIndex(
            UpstreamSettings(name="default", url=url),
            transport=httpx.MockTransport(self._record),
            sleep=self.slept.append,
            inside=lambda host: host in ("localhost", "169.254.169.254"),
            page_bytes=page_bytes,
        )

    def page(self, name: str) -> ProjectPage | None:
        return self.upstream.page(name).page

    def _record(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        return self._answer(request)

    @property
    def urls(self) -> list[str]:
        return [str(request.url) for request in self.asked]


def file(filename: str, **fields: Any) -> dict[str, Any]:
    return {"filename": filename, "url": f"../../files/{filename}", "hashes": {"sha256": SHA256}, **fields}


def json_page(*files: object, name: object = "app", **fields: object) -> Answer:
    value = {"meta": {"api-version": "1.1"}, "name": name, "files": list(files), **fields}
    return lambda _: httpx.Response(200, headers={"content-type": JSON}, content=json.dumps(value))


def html_page(body: str, content_type: str = "text/html; charset=utf-8") -> Answer:
    return lambda _: httpx.Response(200, headers={"content-type": content_type}, content=body.encode())


def read(answer: Answer, *, url: str = URL) -> ProjectPage:
    page = Index(answer, url=url).page("app")
    assert page is not None
    return page


def listed(answer: Answer) -> list[str]:
    return [entry.sdist.filename for entry in read(answer).sdists]


def test_404_alone_means_absent() -> None:
    index = Index(lambda _: httpx.Response(404))
    assert index.page("app") is None
    assert index.urls == [URL + "app/"]


@pytest.mark.parametrize("status", [204, 304, 400, 401, 403, 407, 410, 418, 451, 500, 502, 503, 504, 511])
def test_every_other_answer_fails_and_names_the_index_without_credentials(status: int) -> None:
    index = Index(lambda _: httpx.Response(status), url="https://user:p%40ss@index.example/simple")
    with pytest.raises(UpstreamError, match=f"{status}") as caught:
        index.page("app")
    assert "https://index.example/simple/" in caught.value.message
    assert "user" not in caught.value.message
    assert "p%40ss" not in caught.value.message


@pytest.mark.parametrize("error", [httpx.ConnectTimeout(""), httpx.ReadTimeout("slow"), httpx.ConnectError("refused")])
def test_index_that_does_not_answer_fails_after_three_attempts(error: httpx.HTTPError) -> None:
    def answer(_: httpx.Request) -> httpx.Response:
        raise error

    index = Index(answer)
    with pytest.raises(UpstreamError, match="can't be reached"):
        index.page("app")
    assert len(index.asked) == 3
    assert index.slept == [0.5, 1.0]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_passing_failure_is_asked_about_again(status: int) -> None:
    answers = iter([httpx.Response(status), json_page()(httpx.Request("GET", URL))])
    index = Index(lambda _: next(answers))
    assert index.page("app") is not None
    assert index.slept == [0.5]


def test_refusal_is_not_asked_about_again() -> None:
    index = Index(lambda _: httpx.Response(401))
    with pytest.raises(UpstreamError):
        index.page("app")
    assert len(index.asked) == 1


@pytest.mark.parametrize("name", ["..", "App", "a/b", "", "a b", "http:", "a?b", "a--b"])
def test_name_that_is_not_normalised_is_no_project_and_asked_of_nobody(name: str) -> None:
    index = Index(json_page())
    assert index.page(name) is None
    assert index.asked == []


def test_credentials_go_to_the_index_alone_and_into_no_url() -> None:
    url = "https://user:p%40ss@index.example/simple/"
    elsewhere = file("app-2.0.tar.gz", url="https://files.example/app-2.0.tar.gz")
    hidden = file("app-3.0.tar.gz", url="https://other:secret@files.example/app-3.0.tar.gz")
    index = Index(json_page(file("app-1.0.tar.gz"), elsewhere, hidden), url=url)
    page = index.page("app")
    assert page is not None
    assert index.asked[0].headers["authorization"] == httpx.BasicAuth("user", "p@ss")._auth_header
    assert [entry.url for entry in page.sdists] == [
        "https://index.example/files/app-1.0.tar.gz",
        "https://files.example/app-2.0.tar.gz",
        "https://files.example/app-3.0.tar.gz",
    ]
    assert index.upstream.url == URL


@pytest.mark.parametrize(("host", "authorized"), [("index.example", True), ("files.example", False)])
def test_credentials_accompany_files_of_the_same_origin_only(host: str, authorized: bool, tmp_path: Path) -> None:
    page = read(json_page(file("app-1.0.tar.gz", url=f"https://{host}/app-1.0.tar.gz")))
    index = Index(
        lambda _: httpx.Response(200, stream=httpx.ByteStream(DATA)), url="https://user:pw@index.example/simple"
    )
    index.upstream.fetch(page.sdists[0], tmp_path / "sdist")
    assert ("authorization" in index.asked[0].headers) is authorized


def test_redirect_to_another_host_does_not_take_the_credentials_along() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.host == "index.example":
            return httpx.Response(302, headers={"location": "https://mirror.example/simple/app/"})
        return json_page(file("app-1.0.tar.gz", url="app-1.0.tar.gz"))(request)

    index = Index(answer, url="https://user:pw@index.example/simple")
    page = index.page("app")
    assert page is not None
    assert "authorization" not in index.asked[1].headers
    assert page.sdists[0].url == "https://mirror.example/simple/app/app-1.0.tar.gz"


def test_json_page_is_asked_for_first() -> None:
    index = Index(json_page())
    index.page("app")
    assert index.asked[0].headers["accept"].startswith(JSON + ",")


def test_json_page_gives_everything_that_resolvers_need() -> None:
    details = {"requires-python": ">=3.8", "yanked": "broken", "upload-time": "2024-01-02T03:04:05Z", "size": 21}
    (found,) = read(json_page(file("App-1.0.tar.gz", **details))).sdists
    assert (found.sdist.name, found.sdist.version, found.sdist.filename) == ("app", "1.0", "App-1.0.tar.gz")
    assert found.sdist.sha256 == SHA256
    assert found.url == "https://index.example/files/App-1.0.tar.gz"
    assert (found.requires_python, found.yanked) == (">=3.8", "broken")
    assert (found.upload_time, found.size) == ("2024-01-02T03:04:05Z", 21)


def test_html_page_may_tell_upload_times() -> None:
    def link(version: str, time: str) -> str:
        return f'<a href="app-{version}.tar.gz#sha256={SHA256}" {time}>app-{version}.tar.gz</a>\n'

    text = link("1.0", 'data-upload-time="2009-06-20T22:33:38.011311Z"') + link("2.0", "")
    text += link("3.0", 'data-upload-time="yesterday"')
    text += link("4.0", """data-requires-python=">=3" data-upload-time='2010-01-01T00:00:00Z'""")
    page = read(lambda _: httpx.Response(200, headers={"content-type": "text/html"}, text=text))
    assert [listed.upload_time for listed in page.sdists] == [
        "2009-06-20T22:33:38.011311Z",
        "",
        "",
        "2010-01-01T00:00:00Z",
    ]


@pytest.mark.parametrize(
    "content_type", ["text/html", "Text/HTML; charset=utf-8", "application/vnd.pypi.simple.v1+html"]
)
def test_html_page_gives_the_same(content_type: str) -> None:
    attributes = 'data-requires-python="&gt;=3.8" data-yanked="broken"'
    body = f'<a href="../../files/app-1.0.tar.gz#sha256={SHA256}" {attributes}>app-1.0.tar.gz</a>'
    (found,) = read(html_page(body, content_type)).sdists
    assert (found.sdist.filename, found.sdist.sha256) == ("app-1.0.tar.gz", SHA256)
    assert found.url == "https://index.example/files/app-1.0.tar.gz"
    assert (found.requires_python, found.yanked) == (">=3.8", "broken")


@pytest.mark.parametrize(
    ("given", "expected"), [(False, False), (True, ""), ("", ""), ("a reason", "a reason"), (None, False)]
)
def test_every_form_of_yank_is_read(given: object, expected: object) -> None:
    assert read(json_page(file("app-1.0.tar.gz", yanked=given))).sdists[0].yanked == expected


def test_page_about_another_project_is_refused() -> None:
    with pytest.raises(UpstreamError, match="a page for app that is about other"):
        read(json_page(name="other"))


def test_name_of_a_page_need_not_be_normalised() -> None:
    assert read(json_page(file("app-1.0.tar.gz"), name="App")).name == "app"


@pytest.mark.parametrize(
    "answer",
    [
        html_page("<html>", "application/json"),
        html_page("<html>", "application/xml"),
        html_page("<html>", ""),
        html_page("not json", JSON),
        html_page("[]", JSON),
        html_page("{}", JSON),
        html_page('{"name": "app"}', JSON),
        html_page("[" * 100_000, JSON),
        html_page('<meta name="pypi:repository-version" content="2.0">'),
        json_page(name=None),
        json_page(name=["app"]),
        json_page("app-1.0.tar.gz"),
        json_page({"filename": "app-1.0.tar.gz", "hashes": {"sha256": SHA256}}),
        json_page({"url": "app-1.0.tar.gz"}),
        json_page(file("app-1.0.tar.gz", url="https://[bad/app-1.0.tar.gz")),
        json_page(file("app-1.0.tar.gz", hashes="sha256")),
    ],
)
def test_page_that_cannot_be_read_fails_rather_than_being_empty(answer: Answer) -> None:
    with pytest.raises(UpstreamError, match="can't be read"):
        read(answer)


def test_page_larger_than_the_limit_fails() -> None:
    index = Index(json_page(*[file(f"app-{number}.tar.gz") for number in range(100)]), page_bytes=4096)
    with pytest.raises(UpstreamError, match="more than 4096 bytes"):
        index.page("app")


@pytest.mark.parametrize(
    "entry",
    [
        file("app-1.0.tar.gz", hashes={}),
        file("app-1.0.tar.gz", hashes=None),
        file("app-1.0.tar.gz", hashes={"md5": "0" * 32}),
        file("app-1.0.tar.gz", hashes={"sha256": "00"}),
        file("app-1.0.tar.gz", hashes={"sha256": None}),
        file("other-1.0.tar.gz"),
        file("app-1.0.exe"),
        file("app-not-a-version.tar.gz"),
        file("app- 1.0 .tar.gz"),
        file("app-1.0\n.tar.gz"),
        file("app-" + "1" * 5000 + ".tar.gz"),
        file("app.tar.gz"),
        file("app-" + "1" * 5000 + "-py3-none-any.whl"),
        file("app-1.0.whl"),
    ],
)
def test_file_that_cannot_be_named_and_checked_is_passed_over(entry: dict[str, Any]) -> None:
    page = read(json_page(entry, file("app-2.0.tar.gz")))
    assert [found.sdist.version for found in page.sdists] == ["2.0"]
    assert page.without_sdist == ()


def test_hash_in_capitals_is_the_same_hash() -> None:
    assert read(json_page(file("app-1.0.tar.gz", hashes={"sha256": SHA256.upper()}))).sdists[0].sdist.sha256 == SHA256


def test_there_is_one_sdist_a_version_and_tar_gz_is_preferred() -> None:
    first = [file("app-1.0.zip"), file("app-1.0.tar.gz"), file("app-1.0-py3-none-any.whl")]
    assert listed(json_page(*first)) == ["app-1.0.tar.gz"]
    assert listed(json_page(*reversed(first))) == ["app-1.0.tar.gz"]
    assert listed(json_page(file("app-1.0.zip"))) == ["app-1.0.zip"]
    assert listed(json_page(file("app-1.0.tar.gz"), file("app-1.0.0.zip"))) == ["app-1.0.tar.gz"]


@pytest.mark.parametrize(
    ("filename", "named"),
    [
        ("My.App-1.0.tar.gz", ("1.0", "My.App-1.0.tar.gz")),
        ("my_app-1.0.zip", ("1.0", "my_app-1.0.zip")),
        ("my-app-1.0-beta1.tar.gz", ("1.0b1", "my_app-1.0b1.tar.gz")),
        ("My_App-1.0-1.zip", ("1.0.post1", "my_app-1.0.post1.zip")),
        ("my-app-01.00-RC-1.tar.gz", ("1.0rc1", "my_app-1.0rc1.tar.gz")),
    ],
)
def test_file_name_from_before_pep_625_is_understood(filename: str, named: tuple[str, str]) -> None:
    page = Index(json_page(file(filename), name="my-app")).page("my-app")
    assert page is not None
    assert [(found.sdist.version, found.sdist.filename) for found in page.sdists] == [named]
    assert page.sdists[0].url.endswith(filename)


def test_sdists_are_ordered_by_version() -> None:
    names = ["app-1.10.tar.gz", "app-1.9.tar.gz", "app-1.10rc1.tar.gz", "app-1!0.1.tar.gz"]
    assert [entry.sdist.version for entry in read(json_page(*map(file, names))).sdists] == [
        *("1.9", "1.10rc1", "1.10", "1!0.1"),
    ]


def test_versions_without_an_sdist_are_told_apart() -> None:
    files = [
        "app-2.0-py3-none-any.whl",
        "app-10.0-py3-none-any.whl",
        "app-1.0-py3-none-any.whl",
        "b-3.0-py3-none-any.whl",
        "app-0.3.tar.bz2",
        "App-0.4.tgz",
    ]
    page = read(json_page(file("app-1.0.tar.gz"), *map(file, files)))
    assert page.without_sdist == ("0.3", "0.4", "2.0", "10.0")


@pytest.fixture
def an_sdist() -> ListedSdist:
    return read(json_page(file("app-1.0.tar.gz"), file("app-1.0-py3-none-any.whl"))).sdists[0]


def test_sdist_is_fetched_as_it_is_and_no_wheel_ever(an_sdist: ListedSdist, tmp_path: Path) -> None:
    index = Index(lambda _: httpx.Response(200, stream=httpx.ByteStream(DATA)))
    index.upstream.fetch(an_sdist, tmp_path / "sdist")
    assert (tmp_path / "sdist").read_bytes() == DATA
    assert index.urls == ["https://index.example/files/app-1.0.tar.gz"]
    assert index.asked[0].headers["accept-encoding"] == "identity"


def test_encoding_that_a_server_claims_does_not_change_the_bytes(an_sdist: ListedSdist, tmp_path: Path) -> None:
    index = Index(lambda _: httpx.Response(200, headers={"content-encoding": "gzip"}, stream=httpx.ByteStream(DATA)))
    index.upstream.fetch(an_sdist, tmp_path / "sdist")
    assert (tmp_path / "sdist").read_bytes() == DATA


def test_other_bytes_than_the_page_promised_are_a_mismatch(an_sdist: ListedSdist, tmp_path: Path) -> None:
    index = Index(
        lambda _: httpx.Response(200, stream=httpx.ByteStream(DATA + b"!")), url="https://user:pw@index.example/simple"
    )
    with pytest.raises(HashMismatch, match=SHA256) as caught:
        index.upstream.fetch(an_sdist, tmp_path / "sdist")
    assert "user" not in caught.value.message


@pytest.mark.parametrize("status", [204, 304, 401, 403, 404, 500])
def test_file_that_is_not_given_fails(status: int, an_sdist: ListedSdist, tmp_path: Path) -> None:
    index = Index(lambda _: httpx.Response(status))
    with pytest.raises(UpstreamError, match=f"{status}"):
        index.upstream.fetch(an_sdist, tmp_path / "sdist")


def test_file_that_breaks_off_fails(an_sdist: ListedSdist, tmp_path: Path) -> None:
    class Broken(httpx.SyncByteStream):
        def __iter__(self) -> Any:
            yield DATA[:5]
            raise httpx.ReadError("connection reset")

    index = Index(lambda _: httpx.Response(200, stream=Broken()))
    with pytest.raises(UpstreamError, match=r"broke off, for app-1\.0\.tar\.gz"):
        index.upstream.fetch(an_sdist, tmp_path / "sdist")


@pytest.mark.parametrize("base", [URL, "http://index.example/simple/"])
@pytest.mark.parametrize(
    "url", ["https://host:99999999/app-1.0.tar.gz", "ftp://host/app-1.0.tar.gz", "file:///etc/passwd", "data:,app"]
)
def test_file_at_an_address_that_is_none_fails(url: str, base: str, tmp_path: Path) -> None:
    page = read(json_page(file("app-1.0.tar.gz", url=url)), url=base)
    upstream = HttpIndex(UpstreamSettings(name="default", url=base), sleep=lambda _: None)
    with pytest.raises(UpstreamError, match=r"broke off|out of the encryption"):
        upstream.fetch(page.sdists[0], tmp_path / "sdist")


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("http://index.example/simple/app/", "out of the encryption"),
        ("https://169.254.169.254/latest/meta-data/", "inner address"),
        ("https://localhost/simple/app/", "inner address"),
        ("https://index.example/app-1.0-py3-none-any.whl", "no wheel of an upstream"),
        ("/simple/app/", "can't be reached"),
    ],
)
def test_redirect_that_leads_astray_is_not_followed(location: str, reason: str) -> None:
    index = Index(lambda _: httpx.Response(302, headers={"location": location}))
    with pytest.raises(UpstreamError, match=reason):
        index.page("app")
    assert {request.url.host for request in index.asked} == {"index.example"}
    assert not any(request.url.path.endswith(".whl") for request in index.asked)


def test_inner_index_may_lead_to_inner_addresses() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.host == "localhost":
            return httpx.Response(302, headers={"location": "http://169.254.169.254/simple/app/"})
        return json_page(file("app-1.0.tar.gz"))(request)

    assert Index(answer, url="http://localhost/simple/").page("app") is not None


@pytest.mark.parametrize(
    ("url", "told"),
    [("https://u:p@index.example/simple/", "credentials were sent, those of its URL"), (URL, "none are configured")],
)
def test_refusal_tells_whether_credentials_were_sent_and_never_which(url: str, told: str) -> None:
    index = Index(lambda _: httpx.Response(401), url=url)
    with pytest.raises(UpstreamError, match=told) as caught:
        index.page("app")
    assert "u:p" not in str(caught.value)


def test_upstream_is_left_alone_for_as_long_as_it_asks() -> None:
    answers = iter([httpx.Response(429, headers={"retry-after": "7"}), httpx.Response(404)])
    index = Index(lambda _: next(answers))
    assert index.page("app") is None
    assert index.slept == [7.0]


def test_upstream_that_asks_for_a_long_time_ends_the_resolution() -> None:
    index = Index(lambda _: httpx.Response(503, headers={"retry-after": "3600"}))
    with pytest.raises(UpstreamError, match="left alone for 3600 s"):
        index.page("app")
    assert (len(index.asked), index.slept) == (1, [])


def test_page_that_is_known_is_asked_about_by_its_validators() -> None:
    known = Seen(etag='"1"', modified="Sat, 21 Nov 2026 10:00:00 GMT", body_sha256="")
    index = Index(lambda _: httpx.Response(304))
    answer = index.upstream.page("app", known)
    assert (answer.unchanged, answer.page) == (True, None)
    assert index.asked[0].headers["if-none-match"] == '"1"'
    assert index.asked[0].headers["if-modified-since"] == known.modified


def test_page_without_validators_is_known_by_its_bytes() -> None:
    index = Index(json_page(file("app-1.0.tar.gz")))
    first = index.upstream.page("app")
    assert index.upstream.page("app", first.seen).unchanged


@pytest.mark.parametrize(
    ("header", "fresh_s"),
    [("max-age=60", 60.0), ("public, max-age=86400", 600.0), ("no-cache, max-age=60", 0.0), ("", 0.0)],
)
def test_page_is_fresh_for_as_long_as_it_says_and_ten_minutes_at_most(header: str, fresh_s: float) -> None:
    index = Index(lambda _: httpx.Response(404, headers={"cache-control": header}))
    assert index.upstream.page("app").fresh_s == fresh_s


def test_html_page_whose_end_cannot_be_told_is_refused() -> None:
    def answer(_: httpx.Request) -> httpx.Response:
        body = httpx.ByteStream(b'<a href="app-1.0.tar.gz#sha256=%s">app-1.0.tar.gz</a>' % SHA256.encode())
        return httpx.Response(200, headers={"content-type": "text/html"}, stream=body)

    with pytest.raises(UpstreamError, match="breaks off"):
        Index(answer).page("app")


def test_page_of_links_that_lead_elsewhere_is_about_something_else() -> None:
    with pytest.raises(UpstreamError, match="none of which is a file of app"):
        read(html_page('<html><a href="/login">Log in</a></html>'))


def test_page_without_files_says_so() -> None:
    assert read(html_page("<html></html>")).remarks == ("the page of app lists no files",)


def test_sdists_without_a_sha256_are_not_listed_and_told() -> None:
    page = read(json_page(file("app-1.0.tar.gz", hashes={})))
    assert page.sdists == ()
    assert "without a sha256, such as app-1.0.tar.gz" in page.remarks[0]


@pytest.mark.parametrize("variable", ["UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL"])
def test_index_of_this_machine_is_what_its_environment_says(variable: str) -> None:
    assert default_index_url({variable: "https://index.example/simple?a=b"}) == "https://index.example/simple?a=b"


def test_index_given_by_name_is_its_url() -> None:
    assert default_index_url({"UV_DEFAULT_INDEX": "corp=https://index.example/simple?a=b"}) == (
        "https://index.example/simple?a=b"
    )


def test_name_that_leads_outside_when_judged_and_inside_when_connected_to_is_sent_nothing(tmp_path: Path) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.headers["Host"], self.path))
            self.send_response(302)
            self.send_header("Location", f"http://127.0.0.2:{port}/inner")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing."""

    def inside(host: str) -> bool:
        """What DNS leads to: at first outside."""
        judged.append(host)
        return host == "127.0.0.2" and judged.count(host) > 1

    asked: list[tuple[str, str]] = []
    judged: list[str] = []
    with ThreadingHTTPServer(("0.0.0.0", 0), Handler) as server:  # noqa: S104  (127.0.0.1 and 127.0.0.2)
        port = server.server_port
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        settings = UpstreamSettings(name="outer", url=f"http://127.0.0.1:{port}/simple/", retries=0)
        try:
            with pytest.raises(UpstreamError, match="inner address"):
                HttpIndex(settings, inside=inside).page("app")
        finally:
            server.shutdown()
            thread.join()
    assert asked == [(f"127.0.0.1:{port}", "/simple/app/")]
