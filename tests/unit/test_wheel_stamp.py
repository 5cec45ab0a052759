import stat
import zipfile
from pathlib import Path

import pytest

from tests.support.archives import WHEEL_NAME, make_piped_zip, make_zip, wheel_files
from tests.support.values import make_sdist, make_target
from wheelfarm.target import native_tags
from wheelfarm_workers.wheel_check import check_wheel
from wheelfarm_workers.wheel_stamp import stamp

INFO = "app-1.0.dist-info"
SCRIPT = "app-1.0.data/scripts/app"
TAGS = native_tags(make_target())


def stamped(folder: Path, data: bytes, tag: int = 1) -> Path:
    """The stamped wheel, which was checked before and after as the pipeline's are before."""
    unstamped, result = folder / "unstamped.whl", folder / f"app-1.0-{tag}-py3-none-any.whl"
    unstamped.write_bytes(data)
    check_wheel(unstamped, WHEEL_NAME, make_sdist(), TAGS)
    stamp(unstamped, tag, result)
    check_wheel(result, result.name, make_sdist(), TAGS)
    return result


def read(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def test_stamped_wheel_says_its_tag_and_is_otherwise_the_same(tmp_path: Path) -> None:
    files = wheel_files(files={"big.bin": bytes(range(256)) * 8192})
    found = read(stamped(tmp_path, make_zip(files), 7))
    assert found[f"{INFO}/WHEEL"].decode().splitlines() == [
        *("Wheel-Version: 1.0", "Generator: tests", "Root-Is-Purelib: true", "Build: 7", "Tag: py3-none-any"),
    ]
    changed = {f"{INFO}/WHEEL", f"{INFO}/RECORD"}
    assert {path: data for path, data in found.items() if path not in changed} == {
        path: data for path, data in files.items() if path not in changed
    }
    assert list(found) == list(files)


def test_stamping_is_a_function_of_bytes_and_tag(tmp_path: Path) -> None:
    data = make_zip(wheel_files())
    first = stamped(tmp_path, data).read_bytes()
    assert stamped(tmp_path, data).read_bytes() == first
    assert stamped(tmp_path, data, 2).read_bytes() != first


def test_entries_whose_sizes_stand_behind_them_are_copied_as_they_are_packed(tmp_path: Path) -> None:
    files = wheel_files(files={"big.bin": bytes(range(256)) * 8192, "empty.py": b""})
    result = stamped(tmp_path, make_piped_zip(files))
    assert read(result)["big.bin"] == files["big.bin"]
    with zipfile.ZipFile(tmp_path / "unstamped.whl") as before, zipfile.ZipFile(result) as after:
        assert after.getinfo("big.bin").compress_size == before.getinfo("big.bin").compress_size
        assert {info.flag_bits & 0x8 for info in after.infolist()} == {0}


def test_times_and_modes_are_kept(tmp_path: Path) -> None:
    data = make_zip(wheel_files(files={SCRIPT: b"#!python\n"}), modes={SCRIPT: 0o100755})
    with zipfile.ZipFile(stamped(tmp_path, data)) as archive:
        info = archive.getinfo(SCRIPT)
        assert stat.S_IMODE(info.external_attr >> 16) == 0o755
        assert {entry.date_time for entry in archive.infolist()} == {(2020, 9, 13, 12, 26, 40)}


def test_stamping_again_replaces_the_tag(tmp_path: Path) -> None:
    data = make_zip(wheel_files())
    once = stamped(tmp_path, data, 1).read_bytes()
    again = read(stamped(tmp_path, once, 2))
    assert again == read(stamped(tmp_path, data, 2))
    assert again[f"{INFO}/WHEEL"].count(b"Build:") == 1


def test_entries_for_directories_are_left_out(tmp_path: Path) -> None:
    assert "app/" not in read(stamped(tmp_path, make_zip({"app/": b"", **wheel_files()}, modes={"app/": 0o40755})))


@pytest.mark.parametrize(
    "marker",
    [
        b"Wheel-Version: 1.0\r\nTag: py3-none-any\r\n",
        b"Wheel-Version: 1.0\rTag: py3-none-any\r",
        b"Wheel-Version: 1.0\nTag:\n py3-none-any",
        b"Wheel-Version: 1.0\nbuild: 3\ntag: py3-none-any\n",
        b"Wheel-Version: 1.0\nTag: py3-none-any\n\nTag: cp311-cp311-linux_x86_64\n",
        b"Wheel-Version: 1.0\nGenerator: x\x0cTag: cp311-cp311-linux_x86_64\nTag: py3-none-any\n",
        "Wheel-Version: 1.0\nGenerator: x\u2028Tag: cp311-none-any\nTag: py3-none-any\n".encode(),
    ],
)
def test_wheel_file_means_the_same_after_stamping_however_it_is_written(tmp_path: Path, marker: bytes) -> None:
    files = wheel_files(files={f"{INFO}/WHEEL": marker})
    assert b"Build: 1\n" in read(stamped(tmp_path, make_zip(files)))[f"{INFO}/WHEEL"]
