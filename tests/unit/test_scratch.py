import tempfile
from pathlib import Path

import pytest

from wheelfarm.errors import DiskFull
from wheelfarm_services.scratch import scratch_folder


def test_full_disk_is_told_with_the_place_that_decides_on_it() -> None:
    with pytest.raises(DiskFull, match=tempfile.gettempdir()), scratch_folder("test") as folder:
        (folder / "file").write_bytes(b"x")
        Path("/dev/full").write_bytes(b"x" * 100_000)
    assert not folder.exists()


def test_other_faults_stay_what_they_are() -> None:
    with pytest.raises(FileNotFoundError), scratch_folder("test") as folder:
        (folder / "absent").read_bytes()
