import html.parser
import json
from typing import Any

import pytest

from tests.support.values import make_sdist
from wheelfarm_services.source_page import (
    SIMPLE_HTML,
    SIMPLE_JSON,
    RenderedPages,
    accepted_type,
    html_page,
    json_page,
    virtual_revision,
)
from wheelfarm_services.upstreams import ListedSdist, ProjectPage

BELOW = "/source/default/t/r/"


def listed(version: str, **fields: object) -> ListedSdist:
    sdist = make_sdist("my-app", version, data=version.encode())
    return ListedSdist(sdist=sdist, url=f"https://files.example/{sdist.filename}", **fields)  # type: ignore[arg-type]


def page_of(*sdists: ListedSdist) -> ProjectPage:
    return ProjectPage(name="my-app", sdists=sdists, without_sdist=("9.0",))


def rendered(*sdists: ListedSdist, revisions: dict[str, int] | None = None) -> list[dict[str, object]]:
    value = json.loads(json_page(page_of(*sdists), BELOW, revisions or {}))
    assert (value["name"], value["meta"]) == ("my-app", {"api-version": "1.1"})
    assert value["versions"] == [entry.sdist.version for entry in sdists]
    files: list[dict[str, object]] = value["files"]
    return files


def test_page_is_rendered_once_for_each_target_and_anew_when_anything_has_changed() -> None:
    pages = RenderedPages()
    one, two = page_of(listed("1.0")), page_of(listed("1.0"), listed("2.0"))
    body, tag = pages.render(one, "/a/", {}, SIMPLE_JSON)
    assert body == json_page(one, "/a/", {})
    assert pages.render(one, "/a/", {}, SIMPLE_JSON)[0] is body
    assert pages.render(one, "/b/", {}, SIMPLE_JSON)[0] == json_page(one, "/b/", {})
    assert pages.render(one, "/a/", {}, SIMPLE_HTML)[0] == html_page(one, "/a/", {})
    assert pages.render(two, "/a/", {}, SIMPLE_JSON)[0] == json_page(two, "/a/", {})
    revised = {two.sdists[0].sdist.sha256: 1}
    assert pages.render(two, "/a/", revised, SIMPLE_JSON)[0] == json_page(two, "/a/", revised)
    assert pages.render(two, "/a/", revised, SIMPLE_JSON)[1] != tag


def test_each_sdist_has_metadata_and_a_virtual_wheel_with_the_same() -> None:
    one = listed("1.0+cc.1", requires_python=">=3.8", upload_time="2024-01-02T03:04:05Z", size=7)
    sdist, wheel = rendered(one)
    assert sdist == {
        "filename": one.sdist.filename,
        "url": f"{BELOW}sdists/my-app/{one.sdist.sha256}/{one.sdist.filename.replace('+', '%2B')}",
        "hashes": {"sha256": one.sdist.sha256},
        "core-metadata": True,
        "requires-python": ">=3.8",
        "upload-time": "2024-01-02T03:04:05Z",
        "size": 7,
    }
    assert wheel["filename"] == "my_app-1.0+cc.1-0-py3-none-any.whl"
    assert wheel["url"] == f"{BELOW}virtual/my-app/{one.sdist.sha256}/my_app-1.0%2Bcc.1-0-py3-none-any.whl"
    assert wheel["core-metadata"] is True
    assert wheel["requires-python"] == ">=3.8"


def test_revision_of_the_metadata_is_the_build_tag_of_the_virtual_wheel() -> None:
    one, two = listed("1.0"), listed("2.0")
    files = rendered(one, two, revisions={two.sdist.sha256: 3})
    names = [str(entry["filename"]) for entry in files[1::2]]
    assert names == ["my_app-1.0-0-py3-none-any.whl", "my_app-2.0-3-py3-none-any.whl"]
    assert [virtual_revision(f"{name}.metadata") for name in names] == [0, 3]
    assert files[3]["hashes"] != rendered(one, two)[3]["hashes"]


@pytest.mark.parametrize(
    "filename",
    [
        "my_app-1.0-0-py3-none-any.whl",
        "my_app-1.0-py3-none-any.whl.metadata",
        "my_app-1.0-x-py3-none-any.whl.metadata",
        f"my_app-1.0-{'1' * 5000}-py3-none-any.whl.metadata",
        "my_app-1.0-\N{ARABIC-INDIC DIGIT ONE}-py3-none-any.whl.metadata",
        "my_app-1.0.tar.gz.metadata",
    ],
)
def test_any_other_file_has_no_revision(filename: str) -> None:
    assert virtual_revision(filename) is None


def test_hashes_of_virtual_wheels_are_distinct_and_nobodys() -> None:
    files = rendered(listed("1.0"), listed("2.0"), listed("3.0"))
    assert len({str(entry["hashes"]) for entry in files}) == 6


@pytest.mark.parametrize(("yanked", "expected"), [(False, None), ("", True), ("a reason", "a reason")])
def test_yanks_are_passed_on_for_both(yanked: object, expected: object) -> None:
    assert [entry.get("yanked") for entry in rendered(listed("1.0", yanked=yanked))] == [expected, expected]


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", SIMPLE_JSON),
        ("*/*", SIMPLE_JSON),
        (f"{SIMPLE_JSON}, application/vnd.pypi.simple.v1+html; q=0.1, text/html; q=0.01", SIMPLE_JSON),
        ("text/html", SIMPLE_HTML),
        ("text/html,application/xhtml+xml;q=0.9,*/*;q=0.8", SIMPLE_HTML),
    ],
)
def test_html_is_for_those_who_ask_for_nothing_better(accept: str, expected: str) -> None:
    assert accepted_type(accept) == expected


class Links(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[dict[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.found += [dict(attrs)] if tag == "a" else []


def test_html_tells_the_same_as_json() -> None:
    one = listed("1.0", requires_python=">=3.8,<4", yanked='a "<reason>"')
    links = Links()
    links.feed(html_page(page_of(one), BELOW, {}).decode())
    for link, entry in zip(links.found, rendered(one), strict=True):
        assert link["href"] == f"{entry['url']}#sha256={entry['hashes']['sha256']}"  # type: ignore[index]
        assert link["data-requires-python"] == ">=3.8,<4"
        assert link["data-yanked"] == 'a "<reason>"'
        assert link["data-core-metadata"] == "true"
