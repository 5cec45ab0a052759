import json
from pathlib import Path

import pytest

from wheelfarm.digest import sha256_of_bytes
from wheelfarm.errors import HashMismatch, InputError
from wheelfarm.export import MANIFEST, ExportManifest, FileRecord, verified_manifest
from wheelfarm.export_writer import ExportPlan, write_export
from wheelfarm.wheel import BuiltWheel


def make_export(folder: Path, **files: bytes) -> ExportManifest:
    named = {name.replace("__", "/"): data for name, data in files.items()}
    for name, data in named.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    records = {name: FileRecord.of(data) for name, data in named.items()}
    manifest = ExportManifest(target="t1", wheels=(), files=records)
    (folder / MANIFEST).write_bytes(manifest.to_bytes())
    return manifest


def test_whole_export_is_accepted_and_its_digest_is_that_of_the_manifest(tmp_path: Path) -> None:
    made = make_export(tmp_path, page=b"a", simple__x__page=b"b")
    assert verified_manifest(tmp_path, made.sha256) == made
    assert made.sha256 == sha256_of_bytes((tmp_path / MANIFEST).read_bytes())
    with pytest.raises(HashMismatch, match="manifest"):
        verified_manifest(tmp_path, "0" * 64)


@pytest.mark.parametrize(
    "path", ["../outside", "/etc/passwd", "simple/../../outside", "a/b", "provenance/../x", ".hidden", "a\x00b", ""]
)
def test_manifest_that_leads_out_of_its_folder_is_refused(tmp_path: Path, path: str) -> None:
    value = {"format": 1, "target": "t1", "wheels": [], "files": {path: {"sha256": "0" * 64, "size": 1}}}
    (tmp_path / MANIFEST).write_text(json.dumps(value))
    with pytest.raises(InputError, match="malformed"):
        verified_manifest(tmp_path)


def test_links_stand_for_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "export"
    folder.mkdir()
    make_export(folder, page=b"a")
    (folder / "page").rename(tmp_path / "page")
    (folder / "page").symlink_to(tmp_path / "page")
    with pytest.raises(HashMismatch, match="page: other bytes"):
        verified_manifest(folder)


def test_file_in_a_folder_that_was_added_is_found(tmp_path: Path) -> None:
    make_export(tmp_path, page=b"a")
    (tmp_path / "more" / "deep").mkdir(parents=True)
    (tmp_path / "more" / "deep" / "x.whl").write_bytes(b"")
    with pytest.raises(HashMismatch, match=r"more/deep/x\.whl: not of the export"):
        verified_manifest(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"format": 2}', '{"format": 1, "files": [], "wheels": []}'])
def test_what_is_no_manifest_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(InputError, match=r"manifest\.json"):
        verified_manifest(tmp_path)


def test_wheel_without_its_files_is_refused(tmp_path: Path) -> None:
    wheel = {"name": "x", "version": "1", "filename": "x-1-1-py3-none-any.whl", "sha256": "0" * 64, "size": 1}
    (tmp_path / MANIFEST).write_text(json.dumps({"format": 1, "target": "t1", "wheels": [wheel], "files": {}}))
    with pytest.raises(InputError, match="x-1-1"):
        verified_manifest(tmp_path)


class NoWheels:
    def download(self, wheel: BuiltWheel, path: Path) -> None:
        raise AssertionError(wheel)

    def wheel_metadata(self, wheel: BuiltWheel) -> bytes:
        raise AssertionError(wheel)


def write_empty_export(place: Path) -> ExportManifest:
    plan = ExportPlan(target="t1", manifests=(), pages={"index.html": "<!DOCTYPE html>"})
    return write_export(plan, NoWheels(), place).manifest


@pytest.mark.parametrize("link", [".export.partial", ".export.partial/simple"])
def test_link_in_a_begun_export_is_refused_and_nothing_behind_it_is_touched(tmp_path: Path, link: str) -> None:
    private, work = tmp_path / "private", tmp_path / "work"
    private.mkdir()
    (private / "diary").write_text("precious")
    (work / link).parent.mkdir(parents=True)
    (work / link).symlink_to(private)
    with pytest.raises(InputError, match="is a link"):
        write_empty_export(work / "export")
    assert [(path.name, path.read_text()) for path in private.iterdir()] == [("diary", "precious")]


@pytest.mark.parametrize("name", [".export.lock", ".export.link", ".export.0123456789abcdef"])
def test_links_beside_an_export_lead_it_nowhere(tmp_path: Path, name: str) -> None:
    private, work = tmp_path / "private", tmp_path / "work"
    (private / "folder").mkdir(parents=True)
    (private / "diary").write_text("precious")
    work.mkdir()
    (work / name).symlink_to(private / ("diary" if name == ".export.lock" else "folder"))
    if name == ".export.lock":
        with pytest.raises(InputError, match="links"):
            write_empty_export(work / "export")
    else:
        verified_manifest(work / "export", write_empty_export(work / "export").sha256)
    assert (private / "diary").read_text() == "precious"
    assert sorted(path.name for path in private.iterdir()) == ["diary", "folder"]
