"""The pages that installers read, as values."""

import json
from dataclasses import replace
from typing import Any

import pytest
from pypi_simple import ProjectPage

from tests.support.values import make_built_wheel, make_target
from wheelfarm.index_change import Action
from wheelfarm_services.wheel_index import Manifest
from wheelfarm_services.wheel_index.negotiation import SIMPLE_HTML, representation
from wheelfarm_services.wheel_index.page import SIMPLE_JSON, file_of, project_page, root_page, to_html, to_json
from wheelfarm_services.wheel_index.project_state import Event, ProjectState

SOURCE = {"source": {"upload_time": "2024-05-01T10:20:30.5+02:00"}, "built_at": 1_800_000_000}


def manifest(
    version: str = "1.0", *, filename: str = "", requires_python: str = ">=3.8", **provenance: Any
) -> Manifest:
    return Manifest(
        wheel=make_built_wheel(version=version, filename=filename),
        unstamped_sha256="0" * 64,
        metadata_sha256="1" * 64,
        requires_python=requires_python,
        target=make_target().name,
        provenance=provenance or SOURCE,
    )


def event(action: Action, version: str = "1.0", *, reason: str = "it is broken", filename: str = "") -> Event:
    filenames = (filename,) if filename else ()
    return Event(action=action, version=version, reason=reason, at="2026-01-01", by="x", filenames=filenames)


def page(
    *events: Event, upstream: dict[str, Event] | None = None, versions: tuple[str, ...] = ("1.0",)
) -> dict[str, Any]:
    files = [file_of(manifest(version)) for version in versions]
    return project_page("app", files, ProjectState(events=events, upstream=upstream or {}), serial=7)


def yanked(found: dict[str, Any]) -> dict[str, Any]:
    return {file["filename"].split("-")[1]: file["yanked"] for file in found["files"]}


def test_page_tells_what_pep_691_and_700_ask_for() -> None:
    found = page(versions=("1.10", "1.9"))
    assert found["meta"] == {"api-version": "1.4"}
    assert found["name"] == "app"
    assert found["versions"] == ["1.9", "1.10"]
    assert "project-status" not in found
    file = found["files"][0]
    assert file["hashes"] == {"sha256": make_built_wheel().sha256}
    assert file["size"] == make_built_wheel().size
    assert file["core-metadata"] == file["dist-info-metadata"] == {"sha256": "1" * 64}
    assert file["requires-python"] == ">=3.8"
    assert file["yanked"] is False


def test_upload_time_is_that_of_the_sdist_and_ours_stands_beside_it() -> None:
    file = file_of(manifest())
    assert file["upload-time"] == "2024-05-01T08:20:30.500000Z"
    assert file["_published"] == "2027-01-15T08:00:00.000000Z"


@pytest.mark.parametrize("told", [{}, {"upload_time": ""}, {"upload_time": "yesterday"}, None])
def test_upload_time_that_upstream_does_not_tell_is_ours(told: dict[str, str] | None) -> None:
    file = file_of(manifest(source=told, built_at=1_800_000_000))
    assert file["upload-time"] == file["_published"] == "2027-01-15T08:00:00.000000Z"


def test_requirement_on_python_that_no_client_could_read_is_left_out() -> None:
    assert "requires-python" not in file_of(manifest(requires_python=">=3.8<b>"))
    assert "requires-python" not in file_of(manifest(requires_python=""))


def test_yank_always_has_a_value_which_ends_with_an_unyank() -> None:
    yank, unyank = event(Action.YANK), event(Action.UNYANK)
    assert yanked(page(yank, versions=("1.0", "2.0"))) == {"1.0": "it is broken", "2.0": False}
    assert yanked(page(replace(yank, reason=""))) == {"1.0": True}
    assert yanked(page(yank, unyank)) == {"1.0": False}
    assert 'data-yanked="it is broken"' in to_html(page(yank), "x").decode()
    assert 'data-yanked="yanked"' in to_html(page(replace(yank, reason="")), "x").decode()
    assert "data-yanked" not in to_html(page(), "x").decode()


def test_upstream_is_followed_unless_an_operator_says_otherwise() -> None:
    upstream = {"1.0": event(Action.YANK, reason="by its author")}
    assert yanked(page(upstream=upstream)) == {"1.0": "by its author"}
    assert yanked(page(event(Action.UNYANK), upstream=upstream)) == {"1.0": False}


def test_quarantined_project_shows_its_status_and_no_file() -> None:
    found = page(event(Action.QUARANTINE, "", reason="malware"))
    assert found["files"] == []
    assert found["project-status"] == {"status": "quarantined", "reason": "malware"}
    text = to_html(found, "x").decode()
    assert '<meta name="pypi:project-status" content="quarantined">' in text
    assert '<meta name="pypi:project-status-reason" content="malware">' in text
    assert len(page(event(Action.QUARANTINE, ""), event(Action.RELEASE, ""))["files"]) == 1


def test_quarantined_version_and_deleted_file_are_left_out() -> None:
    found = page(event(Action.QUARANTINE, "1.0"), versions=("1.0", "2.0"))
    assert found["versions"] == ["2.0"]
    assert "project-status" not in found
    gone = make_built_wheel(version="2.0").filename
    assert page(event(Action.DELETE, "2.0", filename=gone), versions=("1.0", "2.0"))["versions"] == ["1.0"]


def test_state_survives_the_store() -> None:
    state = ProjectState(events=(event(Action.DELETE, filename="a.whl"),), upstream={"1.0": event(Action.YANK)})
    assert ProjectState.from_json(state.to_json()) == state


def test_both_forms_are_read_alike_by_another_reader() -> None:
    found = page(event(Action.YANK, "1.0"), versions=("1.0", "2.0"))
    read = ProjectPage.from_html("app", to_html(found, "x"))
    told = ProjectPage.from_json_data(json.loads(to_json(found)))
    for one in (read, told):
        assert [file.filename for file in one.packages] == [file["filename"] for file in found["files"]]
        assert [dict(file.digests) for file in one.packages] == [file["hashes"] for file in found["files"]]
        assert [file.metadata_digests for file in one.packages] == [{"sha256": "1" * 64}] * 2
        assert [file.yanked_reason for file in one.packages if file.is_yanked] == ["it is broken"]
        assert one.repository_version == "1.4"


def test_nothing_foreign_becomes_markup() -> None:
    evil = '"><script>alert(1)</script>\n<a href="https://evil.example/app-9.whl">'
    file = file_of(manifest(requires_python=evil, filename=f"app-1-{evil}.whl"))
    found = project_page("app", [file], ProjectState(events=(event(Action.YANK, "1", reason=evil),)))
    text = to_html(found, evil).decode() + to_html(root_page([evil]), evil).decode()
    assert "<script>" not in text
    assert text.count("<a ") == 2
    assert 'href="https://evil' not in text


def test_json_keeps_to_the_keys_of_the_standard() -> None:
    told = json.loads(to_json(page()))
    known = {"meta", "name", "versions", "files", "project-status"}
    assert {key for key in told if not key.startswith("_")} <= known


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("", "text/html"),
        ("*/*", "text/html"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "text/html"),
        (SIMPLE_JSON, SIMPLE_JSON),
        (f"{SIMPLE_JSON}, {SIMPLE_HTML}; q=0.1, text/html; q=0.01", SIMPLE_JSON),
        (f"{SIMPLE_JSON}; q=0.1, {SIMPLE_HTML}", SIMPLE_HTML),
        ("application/vnd.pypi.simple.latest+json", SIMPLE_JSON),
        ("application/vnd.pypi.simple.latest+html", SIMPLE_HTML),
        ("TEXT/HTML", "text/html"),
        (f"{SIMPLE_JSON};q=0, text/html;q=0.1", "text/html"),
        ("application/json", None),
        ("application/vnd.pypi.simple.v2+json", None),
        ("text/html;q=nonsense", None),
    ],
)
def test_form_is_what_the_client_asks_for_first(accept: str, media_type: str | None) -> None:
    found = representation(accept)
    assert (found.media_type if found else None) == media_type


def test_format_of_the_query_comes_before_the_header() -> None:
    found = representation("text/html", SIMPLE_JSON)
    assert found is not None
    assert found.media_type == SIMPLE_JSON
    assert representation("text/html", SIMPLE_JSON.replace("+", " ")) == found
    assert representation("text/html", "text/plain") is None
