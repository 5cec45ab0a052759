import io
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.support.archives import WHEEL_NAME, make_piped_zip, make_zip, metadata, wheel_files, with_record
from tests.support.values import make_sdist, make_target
from wheelfarm.errors import BadWheel
from wheelfarm.target import native_tags
from wheelfarm_workers.wheel_check import CheckedWheel, check_wheel

INFO = "app-1.0.dist-info"
TAGS = native_tags(make_target())


def check(folder: Path, data: bytes, filename: str = WHEEL_NAME) -> CheckedWheel:
    path = folder / "wheel"
    path.write_bytes(data)
    return check_wheel(path, filename, make_sdist(), TAGS)


def refuse(folder: Path, data: bytes, reason: str, filename: str = WHEEL_NAME) -> None:
    with pytest.raises(BadWheel, match=reason):
        check(folder, data, filename)


def wheel(files: Mapping[str, bytes] | None = None, *, tags: tuple[str, ...] = ("py3-none-any",)) -> bytes:
    return make_zip(wheel_files(tags=tags, files=files))


GOOD = wheel()


# What is accepted


@pytest.mark.parametrize(
    ("filename", "tags"),
    [
        (WHEEL_NAME, ("py3-none-any",)),
        ("app-1.0-5local-py3-none-any.whl", ("py3-none-any",)),
        ("app-1.0-py2.py3-none-any.whl", ("py2-none-any", "py3-none-any")),
        ("app-1.0-py2.py3-none-any.whl", ("py2.py3-none-any",)),
        ("app-1.0-cp311-cp311-linux_x86_64.whl", ("cp311-cp311-linux_x86_64",)),
        ("app-1.0-cp39-abi3-linux_x86_64.whl", ("cp39-abi3-linux_x86_64",)),
        ("app-1.0-py3-none-linux_x86_64.whl", ("py3-none-linux_x86_64",)),
        ("App-1.0-py3-none-any.whl", ("py3-none-any",)),
        ("app-1.0.0-py3-none-any.whl", ("py3-none-any",)),
    ],
)
def test_wheel_of_the_targets_tags_is_accepted(tmp_path: Path, filename: str, tags: tuple[str, ...]) -> None:
    checked = check(tmp_path, wheel(tags=tags), filename)
    assert (checked.filename, checked.metadata, checked.requires_python) == (filename, metadata("app", "1.0"), ">=3.8")


def test_data_scripts_and_signatures_are_accepted(tmp_path: Path) -> None:
    files = {"app-1.0.data/scripts/app": b"#!python\n", "app-1.0.data/data/share/app.txt": b"x", "app/__init__.py": b""}
    whole = {**wheel_files(files=files), f"{INFO}/RECORD.jws": b"{}", f"{INFO}/RECORD.p7s": b""}
    assert check(tmp_path, make_zip(whole)).filename == WHEEL_NAME


def test_entries_for_directories_are_accepted(tmp_path: Path) -> None:
    whole = {"app/": b"", **wheel_files()}
    assert check(tmp_path, make_zip(whole, modes={"app/": 0o40755})).filename == WHEEL_NAME


def test_wheel_written_to_a_pipe_with_data_descriptors_is_accepted(tmp_path: Path) -> None:
    data = make_piped_zip(wheel_files())
    assert check(tmp_path, data).filename == WHEEL_NAME
    refuse(tmp_path, data.replace(b"PK\x07\x08", b"PK\x07\x09"), "data descriptor")


def test_requirement_on_python_is_one_line(tmp_path: Path) -> None:
    folded = metadata("app", "1.0").replace(b">=3.8", b">=3.8,\n        <4")
    assert check(tmp_path, wheel({f"{INFO}/METADATA": folded})).requires_python == ">=3.8, <4"


# What is refused: names


@pytest.mark.parametrize(
    ("filename", "reason"),
    [
        ("app.whl", "malformed"),
        ("app-1.0-any.whl", "malformed"),
        ("app-1.0-py3-none-any.zip", "characters"),
        ("../app-1.0-py3-none-any.whl", "characters"),
        ("app-1.0-py3-none-any.whl\n", "characters"),
        ("app-1.0-py3-none-any\x1b[31m.whl", "characters"),
        ("app<b>-1.0-py3-none-any.whl", "characters"),
        ("app-1.0-\u202epy3-none-any.whl", "characters"),
        ("a" * 300 + "-1.0-py3-none-any.whl", "characters"),
        ("other-1.0-py3-none-any.whl", "the job was for app 1.0"),
        ("app-2.0-py3-none-any.whl", "the job was for app 1.0"),
        ("app-1.0+local-py3-none-any.whl", "the job was for app 1.0"),
        ("app-1.0-cp312-cp312-linux_x86_64.whl", "not the target's"),
        ("app-1.0-cp311-cp311-linux_aarch64.whl", "not the target's"),
        ("app-1.0-cp311-cp311-manylinux_2_17_x86_64.whl", "not the target's"),
        ("app-1.0-cp311-cp311-linux_x86_64.manylinux1_x86_64.whl", "not the target's"),
        ("app-1.0-py3-none-win_amd64.whl", "not the target's"),
    ],
)
def test_file_name_that_is_not_the_jobs_is_refused(tmp_path: Path, filename: str, reason: str) -> None:
    refuse(tmp_path, GOOD, reason, filename)


# What is refused: archives


def with_comment(data: bytes) -> bytes:
    return data[:-2] + struct.pack("<H", 7) + b"comment"


def with_gap_before_directory(data: bytes) -> bytes:
    at = data.index(b"PK\x01\x02")
    end = bytearray(data[at:])
    start = len(end) - 22
    end[start + 16 : start + 20] = struct.pack("<L", at + 4)
    return data[:at] + b"gap!" + bytes(end)


def with_hidden_entry(data: bytes) -> bytes:
    """An entry between the others that the directory does not list: readers of a stream would unpack it."""
    hidden = make_zip({"hidden.py": b"evil"})
    entry = hidden[: hidden.index(b"PK\x01\x02")]
    at = data.index(b"PK\x01\x02")
    end = bytearray(data[at:])
    end[len(end) - 6 : len(end) - 2] = struct.pack("<L", at + len(entry))
    return data[:at] + entry + bytes(end)


def with_zip64(data: bytes) -> bytes:
    end = bytearray(data[-22:])
    directory_size, directory_at = struct.unpack("<LL", end[12:20])
    end[12:20] = b"\xff" * 8
    record_at = len(data) - 22
    record = struct.pack("<4sQHHLLQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, 4, 4, directory_size, directory_at)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, record_at, 1)
    return data[:-22] + record + locator + bytes(end)


def with_other_local_name(data: bytes) -> bytes:
    return data.replace(b"app.py", b"bpp.py", 1)


def with_other_local_method(data: bytes) -> bytes:
    return data[:8] + b"\0\0" + data[10:]


def with_other_local_size(data: bytes) -> bytes:
    return data[:22] + struct.pack("<L", 1) + data[26:]


def encrypted(data: bytes) -> bytes:
    at = data.index(b"PK\x01\x02")
    return data[:6] + b"\x01" + data[7 : at + 8] + b"\x01" + data[at + 9 :]


def with_bad_crc(data: bytes) -> bytes:
    at = data.index(b"PK\x01\x02")
    return data[:14] + b"\0\0\0\0" + data[18 : at + 16] + b"\0\0\0\0" + data[at + 20 :]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda data: b"", "before or after"),
        (lambda data: b"not a zip", "before or after"),
        (lambda data: b"#!/bin/sh\n" + data, "before or after"),
        (lambda data: data + b"\0", "before or after"),
        (lambda data: data[:-30], "before or after"),
        (lambda data: data[100:], "before or after"),
        (with_comment, "before or after"),
        (with_gap_before_directory, "between its entries and its directory"),
        (with_hidden_entry, "between its entries and its directory"),
        (with_zip64, "does not end where"),
        (with_other_local_name, "local header says"),
        (with_other_local_method, "local header of 'app.py' differs"),
        (with_other_local_size, "local header of 'app.py' differs"),
        (encrypted, "encrypted"),
        (with_bad_crc, "can't be read"),
    ],
)
def test_archive_that_readers_would_see_differently_is_refused(
    tmp_path: Path, damage: Callable[[bytes], bytes], reason: str
) -> None:
    refuse(tmp_path, damage(GOOD), reason)


def test_wheel_damaged_at_any_byte_is_refused_or_read_the_same(tmp_path: Path) -> None:
    for at in range(len(GOOD)):
        for value in (0, 0xFF, GOOD[at] ^ 1):
            data = GOOD[:at] + bytes([value]) + GOOD[at + 1 :]
            try:
                checked = check(tmp_path, data)
            except BadWheel:
                continue
            assert checked.metadata == metadata("app", "1.0")


def test_unusual_compression_is_refused(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_LZMA) as archive:
        for path, data in wheel_files().items():
            archive.writestr(path, data)
    refuse(tmp_path, packed.getvalue(), "compressed in an unusual way")


def test_bomb_is_refused_before_it_is_read(tmp_path: Path) -> None:
    refuse(tmp_path, wheel({"zeros": bytes(4 << 20)}), "unpacks to 4194304 bytes")


def test_entry_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    packed = io.BytesIO(GOOD)
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(packed, "a") as archive:
        archive.writestr("app.py", b"VERSION = 2\n")
    refuse(tmp_path, packed.getvalue(), "is in it twice")


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("../evil.py", "leads out"),
        ("app/../../evil.py", "leads out"),
        ("/etc/evil", "leads out"),
        ("./app/x.py", "leads out"),
        ("app//x.py", "leads out"),
        ("app-1.0.data/scripts/../../../evil", "leads out"),
        ("app\\evil.py", "an entry is named"),
        ("C:evil.py", "an entry is named"),
        ("evil\x1b.py", "an entry is named"),
        ("evil\n.py", "an entry is named"),
        ("ev\u202eil.py", "an entry is named"),
    ],
)
def test_path_that_leads_elsewhere_is_refused(tmp_path: Path, path: str, reason: str) -> None:
    refuse(tmp_path, wheel({path: b""}), reason)


def test_name_cut_off_by_a_null_is_refused(tmp_path: Path) -> None:
    refuse(tmp_path, wheel({"evilXpy": b""}).replace(b"evilXpy", b"evil\0py"), "an entry is named")


@pytest.mark.parametrize("mode", [0o120777, 0o020644, 0o010644, 0o060644, 0o104755, 0o102755])
def test_link_device_or_setuid_bit_is_refused(tmp_path: Path, mode: int) -> None:
    files = wheel_files(files={"evil": b"/etc/passwd"})
    refuse(tmp_path, make_zip(files, modes={"evil": mode}), "a link, a device or runs with another's rights")


# What is refused: contents


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({f"{INFO}/METADATA": metadata("other", "1.0")}, "METADATA is about 'other'"),
        ({f"{INFO}/METADATA": metadata("app", "2.0")}, "METADATA is about 'app' '2.0'"),
        ({f"{INFO}/METADATA": metadata("app", "1" * 5000)}, "METADATA is about"),
        ({f"{INFO}/METADATA": metadata("app", "none")}, "METADATA is about"),
        ({f"{INFO}/METADATA": b""}, "METADATA is about None"),
        ({f"{INFO}/METADATA": bytes((4 << 20) + 1)}, "unpacks to|larger than"),
        ({f"{INFO}/WHEEL": b"Wheel-Version: 1.0\n"}, "tags in its WHEEL"),
        ({f"{INFO}/WHEEL": b"Tag: cp311-cp311-linux_x86_64\n"}, "not of its name"),
        ({f"{INFO}/WHEEL": b"Tag: py3-none-any\nTag: cp39-none-any\n"}, "not of its name"),
        ({f"{INFO}/WHEEL": b"Tag: nonsense\n"}, "not of its name"),
        ({f"{INFO}/WHEEL": b"Tag: " + b"a." * 9999 + b"-" + b"b." * 9999 + b"-any\n"}, "not of its name"),
        ({f"{INFO}/WHEEL": b"Tag: py3-none-any\nGenerator: \xe9\n"}, "can't be read"),
        ({"other-1.0.dist-info/METADATA": metadata("other", "1.0")}, "2 .dist-info directories"),
        ({"app-2.0.dist-info/METADATA": metadata("app", "2.0")}, "2 .dist-info directories"),
    ],
)
def test_contents_about_something_else_are_refused(tmp_path: Path, files: dict[str, bytes], reason: str) -> None:
    refuse(tmp_path, wheel(files), reason)


def test_version_is_compared_and_not_its_spelling(tmp_path: Path) -> None:
    assert check(tmp_path, make_zip(wheel_files(version="1.0.0"))).filename == WHEEL_NAME


@pytest.mark.parametrize("info", ["other-1.0.dist-info", "app-2.0.dist-info", "app.dist-info", "app-x.dist-info"])
def test_dist_info_of_another_project_is_refused(tmp_path: Path, info: str) -> None:
    files = {path.replace(INFO, info): data for path, data in wheel_files().items() if not path.endswith("RECORD")}
    refuse(tmp_path, make_zip(with_record(files, info)), "is not about app 1.0")


@pytest.mark.parametrize("name", ["METADATA", "WHEEL", "RECORD"])
def test_wheel_that_lacks_a_file_of_its_dist_info_is_refused(tmp_path: Path, name: str) -> None:
    files = {path: data for path, data in wheel_files().items() if not path.endswith(("RECORD", name))}
    refuse(tmp_path, make_zip(files if name == "RECORD" else with_record(files, INFO)), f"it has no .*{name}")


def test_wheel_without_dist_info_is_refused(tmp_path: Path) -> None:
    refuse(tmp_path, make_zip({"app.py": b""}), "0 .dist-info directories")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda record: record.replace(b"sha256=", b"md5="), "another hash or size"),
        (lambda record: record.replace(b",12\n", b",13\n"), "another hash or size"),
        (lambda record: record.replace(b"app.py,sha256", b"app.py,sha257"), "another hash or size"),
        (lambda record: b"\n".join(record.split(b"\n")[1:]), "its contents differ: .'app.py'"),
        (lambda record: record + b"ghost.py,,\n", "its contents differ: .'ghost.py'"),
        (lambda record: record + b"ghost.py,,\nghost.py,,\n", "has a row"),
        (lambda record: record + b"one,two\n", "has a row"),
        (lambda record: record + b"".join(b"g%d,,\n" % number for number in range(50)), "has a row"),
        (lambda record: record.replace(b"app.py", b"./app.py"), "its contents differ"),
        (lambda record: record + b"\xff", "can't be read"),
        (lambda record: record + b'"' + b"x" * 200_000, "can't be read|has a row"),
    ],
)
def test_record_that_disagrees_is_refused(tmp_path: Path, change: Callable[[bytes], bytes], reason: str) -> None:
    files = wheel_files()
    files[f"{INFO}/RECORD"] = change(files[f"{INFO}/RECORD"])
    refuse(tmp_path, make_zip(files), reason)


def test_refusal_names_the_project_and_shows_a_hostile_name_harmlessly(tmp_path: Path) -> None:
    with pytest.raises(BadWheel) as caught:
        check(tmp_path, GOOD, "app\x1b[31m\u202e.whl")
    assert "app==1.0" in caught.value.message
    assert caught.value.message.isascii()
    assert "\x1b" not in caught.value.message
