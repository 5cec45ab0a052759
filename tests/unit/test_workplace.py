from pathlib import Path

import pytest

from wheelfarm.errors import InputError
from wheelfarm_workers.workplace import clear_abandoned, open_workplace


def abandon(folder: Path, name: str) -> Path:
    """A workplace as a killed worker leaves it: with things in it, some of them not removable at first."""
    path = folder / name
    deep = path / "unconfined-x" / "build" / "locked"
    deep.mkdir(parents=True)
    (deep / "file").write_text("half")
    (path / "tree-ab").mkdir()
    deep.chmod(0)
    return path


def test_what_dead_workers_left_is_removed_and_the_living_keep_theirs(tmp_path: Path) -> None:
    dead = abandon(tmp_path, "dead")
    living = open_workplace(tmp_path, "living")
    (living.path / "half").write_text("built")
    assert clear_abandoned(tmp_path) == 1
    assert not dead.exists()
    assert (living.path / "half").read_text() == "built"
    living.close()
    assert list(tmp_path.iterdir()) == []


def test_the_same_name_again_begins_with_an_empty_folder(tmp_path: Path) -> None:
    abandon(tmp_path, "w1")
    workplace = open_workplace(tmp_path, "w1")
    assert list(workplace.path.iterdir()) == []
    workplace.close()


def test_a_name_that_a_living_worker_has_is_refused(tmp_path: Path) -> None:
    living = open_workplace(tmp_path, "w1")
    with pytest.raises(InputError, match="w1 runs already"):
        open_workplace(tmp_path, "w1")
    living.close()


def test_a_link_in_the_place_of_a_folder_leads_nobody_out_of_it(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_text("mine")
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "w1").symlink_to(tmp_path / "kept")
    assert clear_abandoned(tmp_path / "work") == 0
    assert (tmp_path / "kept" / "file").exists()
