import os
from pathlib import Path

import pytest

from wheelfarm.files import open_lock, replacing, write_whole


def test_link_is_replaced_and_what_it_leads_to_stays(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "file").symlink_to("precious")
    write_whole(tmp_path / "file", "new")
    assert not (tmp_path / "file").is_symlink()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"file": "new", "precious": "precious"}


def test_file_stays_as_it_was_where_its_successor_is_not_written_to_the_end(tmp_path: Path) -> None:
    write_whole(tmp_path / "file", "old")
    with pytest.raises(ValueError, match="enough"), replacing(tmp_path / "file") as file:
        file.write(b"half")
        raise ValueError("enough")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("file", "old")]


def test_modes_are_those_of_any_new_file(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_whole(tmp_path / "file", "")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_name_may_be_as_long_as_names_can_be(tmp_path: Path) -> None:
    write_whole(tmp_path / ("x" * 255), "text")
    assert [path.name for path in tmp_path.iterdir()] == ["x" * 255]


def test_lock_is_not_opened_through_a_link_and_is_not_emptied_by_it(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "lock").symlink_to("precious")
    with pytest.raises(OSError, match="links"):
        open_lock(tmp_path / "lock")
    assert (tmp_path / "precious").read_text() == "precious"
