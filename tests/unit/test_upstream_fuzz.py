"""Pages that anybody may have written: read or refused, at once, and nothing is admitted that they do not say."""

import html
import json
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.utils import canonicalize_name

from wheelfarm_services.upstreams.listing import (
    ListedSdist,
    ProjectPage,
    Unreadable,
    list_files,
    read_flat_page,
    read_simple_page,
)

BASE = "https://index.example/simple/my-app/"
JSON = "application/vnd.pypi.simple.v1+json"
DIGESTS = ("0" * 64, "a1" * 32, "F" * 64)

names = st.sampled_from(["my-app", "My_App", "my.app", "my--app", "myapp", "my-app-extra", "other", "my"])
versions = st.sampled_from(["1.0", "1.0.0", "2!1.0", "1.0-beta1", "1.0+local", "01.0", "v3", "one", "", "9" * 5000])
endings = st.sampled_from([".tar.gz", ".zip", ".tgz", ".whl", "-py3-none-any.whl", ".tar.gz.asc", ".TAR.GZ", ""])
filenames = st.builds("{}-{}{}".format, names, versions, endings) | st.text(max_size=40)
urls = filenames | st.builds("../../files/{}".format, filenames) | st.text(max_size=40)
hashes = st.dictionaries(st.sampled_from(["sha256", "md5", "SHA256"]), st.sampled_from(DIGESTS) | st.text(max_size=70))
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
fields = {
    "filename": filenames | anything,
    "url": urls | anything,
    "hashes": hashes | anything,
    "yanked": st.booleans() | anything,
    "requires-python": st.just(">=3.8") | anything,
    "upload-time": st.just("2024-01-02T03:04:05Z") | anything,
    "size": st.integers() | anything,
    "core-metadata": st.booleans() | hashes | anything,
}
good_files = st.fixed_dictionaries({"filename": filenames, "url": urls, "hashes": hashes})
files = good_files | st.fixed_dictionaries({}, optional=fields)
pages = st.fixed_dictionaries(
    {"meta": st.just({"api-version": "1.1"}) | anything, "name": st.just("my-app") | names | anything},
    optional={"files": st.lists(files, max_size=5) | anything, "versions": anything},
)


def read(text: str, content_type: str) -> ProjectPage | None:
    try:
        return read_simple_page("my-app", text, content_type, BASE, sidecars=True)
    except Unreadable:
        return None


def require_sound(sdist: ListedSdist) -> None:
    """Whatever the page: the sdist is of the project, has a digest, and can be kept and named."""
    assert sdist.sdist.name == "my-app"
    assert len(sdist.sdist.sha256) == 64 and int(sdist.sdist.sha256, 16) >= 0
    assert sdist.sdist.filename.endswith((".tar.gz", ".zip"))
    assert PurePosixPath(sdist.sdist.filename).name == sdist.sdist.filename
    assert "@" not in urlsplit(sdist.url).netloc


@settings(max_examples=300, deadline=None)
@given(pages)
def test_json_page_lists_only_what_it_says_of_the_project(value: dict[str, Any]) -> None:
    page = read(json.dumps(value), JSON)
    if page is None:
        return
    assert canonicalize_name(value["name"]) == "my-app"
    told = {
        str(file["hashes"]["sha256"]).lower()
        for file in value["files"]
        if isinstance(file.get("hashes"), dict) and "sha256" in file["hashes"]
    }
    for sdist in page.sdists:
        require_sound(sdist)
        assert sdist.sdist.sha256 in told
    assert ProjectPage.from_json(json.loads(json.dumps(page.to_json()))) == page


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(filenames, st.sampled_from(DIGESTS) | st.text(max_size=20)), max_size=5), st.text(max_size=30)
)
def test_html_page_lists_only_what_it_says_of_the_project(links: list[tuple[str, str]], noise: str) -> None:
    anchors = "".join(
        f'<a href="{html.escape(name)}#sha256={html.escape(digest)}">{html.escape(name)}</a>{noise}'
        for name, digest in links
    )
    page = read(anchors, "text/html")
    for sdist in page.sdists if page else ():
        require_sound(sdist)
        assert sdist.sdist.sha256 in {digest.lower() for _, digest in links}
        assert unquote(urlsplit(sdist.url).path).endswith((".tar.gz", ".zip"))


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=200), st.sampled_from(["text/html", JSON, "application/json", ""]))
def test_any_text_is_read_or_refused(text: str, content_type: str) -> None:
    page = read(text, content_type)
    assert page is None or not page.sdists


@settings(max_examples=100, deadline=None)
@given(st.text("<a href=\"#sha256=>/!-&'b", max_size=300))
def test_flat_page_of_any_text_is_read_or_refused(text: str) -> None:
    try:
        found = read_flat_page(text, BASE)
    except Unreadable:
        return
    assert not list_files("my-app", found, BASE).sdists


def test_hostile_html_takes_no_more_than_linear_time() -> None:
    """Each would take minutes by a pattern that goes back over what it has read."""
    for text in ("<a " * 200_000, '<a href="' * 100_000, "<a x='" + "y" * 500_000, "<a " + 'x="y" ' * 100_000 + "<"):
        read(text, "text/html")


def test_deeply_nested_json_is_refused() -> None:
    assert read("[" * 200_000, JSON) is None
    assert read('{"meta":' * 100_000, JSON) is None
