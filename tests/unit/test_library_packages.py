import os
from pathlib import Path

from wheelfarm_workers.library_packages import library_packages


def system(folder: Path, **packages: str) -> Path:
    info = folder / "var/lib/dpkg/info"
    info.mkdir(parents=True, exist_ok=True)
    for name, files in packages.items():
        (info / f"{name}:amd64.list").write_text(files)
    (folder / "var/lib/dpkg/status").write_text("")
    return folder


def test_libraries_are_known_by_their_packages(tmp_path: Path) -> None:
    lists = "/.\n/usr/lib/x86_64-linux-gnu/libyaml-0.so.2\n/usr/share/doc/libyaml.so.txt\n"
    root = system(tmp_path, libyaml=lists, libc6="/lib/x86_64-linux-gnu/libc.so.6\n")
    assert library_packages(root, ["libyaml-0.so.2", "libc.so.6", "libother.so.1"]) == {
        "libyaml-0.so.2": "libyaml",
        "libc.so.6": "libc6",
    }


def test_a_package_that_was_installed_since_is_known(tmp_path: Path) -> None:
    root = system(tmp_path)
    assert library_packages(root, ["libz.so.1"]) == {}
    system(tmp_path, zlib1g="/usr/lib/libz.so.1\n")
    os.utime(tmp_path / "var/lib/dpkg/status", (1, 1))
    assert library_packages(root, ["libz.so.1"]) == {"libz.so.1": "zlib1g"}


def test_a_system_without_dpkg_tells_nothing(tmp_path: Path) -> None:
    assert library_packages(tmp_path, ["libc.so.6"]) == {}
