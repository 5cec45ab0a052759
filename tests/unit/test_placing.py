from pathlib import Path

from tests.support.values import make_target
from wheelfarm_workers import environment
from wheelfarm_workers.placing import place


def test_file_that_was_placed_is_never_replaced(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).write_text(name)
        place(tmp_path / name, tmp_path / "placed")
    assert [path.name for path in tmp_path.iterdir()] == ["placed"]
    assert (tmp_path / "placed").read_text() == "first"


def test_configuration_that_sandboxes_may_have_mounted_stays_the_same_file(tmp_path: Path) -> None:
    path = environment.write_configuration(make_target(), tmp_path)
    inode = path.stat().st_ino
    assert environment.write_configuration(make_target(), tmp_path) == path
    assert path.stat().st_ino == inode
    assert [found.name for found in tmp_path.iterdir()] == [path.name]
