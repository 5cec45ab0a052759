import gzip
import io
import os
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO

import pytest

from wheelfarm.errors import BadInterpreterArchive
from wheelfarm.interpreter_archive import Contents, examine, unpack

HEADER = b'#define PY_VERSION  "3.12.1+"\n'
SYSCONFIG = b"build_time_vars = {'prefix': '/install', 'x': 1}\n"
PYTHON = {"bin/python3.12": b"#!", "include/python3.12/patchlevel.h": HEADER, "lib/python3.12/os.py": b"pass"}
EMPTY = gzip.compress(b"x" * 4096, mtime=0)
Member = tuple[tarfile.TarInfo, bytes]


def member(name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o755) -> Member:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode, info.size, info.mtime = kind, link, mode, len(data), 1700000000
    return info, data


def symlink(name: str, link: str) -> Member:
    return member(name, kind=tarfile.SYMTYPE, link=link)


def write(stream: IO[bytes], members: Iterable[Member]) -> None:
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))


def archive_of(folder: Path, *extra: Member, root: str = "python/", files: dict[str, bytes] = PYTHON) -> Path:
    archive = folder / "python.tar.gz"
    with gzip.open(archive, "wb") as stream:
        write(stream, [*(member(root + name, data) for name, data in files.items()), *extra])  # type: ignore[arg-type]
    return archive


@pytest.mark.parametrize("root", ["python/", "python/install/", "install/", "", "./python/", "anything/"])
def test_installation_is_found_where_uv_finds_it(tmp_path: Path, root: str) -> None:
    sysconfig = {"lib/python3.12/_sysconfigdata__linux_.py": SYSCONFIG}
    archive = archive_of(tmp_path, root=root, files=PYTHON | sysconfig)
    found = examine(archive, archive.name)
    assert found == Contents(root=root.removeprefix("./").rstrip("/"), version="3.12.1", prefix="/install")
    unpack(archive, archive.name, found.root, tmp_path / "out")
    assert (tmp_path / "out" / "lib/python3.12/os.py").read_bytes() == b"pass"
    assert os.access(tmp_path / "out" / "bin/python3.12", os.X_OK)
    assert (tmp_path / "out" / "lib/python3.12/os.py").stat().st_mtime == 1700000000


def test_zstd_is_read(tmp_path: Path) -> None:
    zstd = pytest.importorskip("backports.zstd")
    archive = tmp_path / "python.tar.zst"
    with zstd.open(archive, "wb") as stream:
        write(stream, [member(f"python/{name}", data) for name, data in PYTHON.items()])
    assert examine(archive, archive.name).version == "3.12.1"
    archive.write_bytes(archive.read_bytes()[:60])
    with pytest.raises(BadInterpreterArchive):
        examine(archive, archive.name)
    archive.write_bytes(archive.read_bytes()[:20] + b"x" * 50)
    with pytest.raises(BadInterpreterArchive):
        examine(archive, archive.name)


@pytest.mark.parametrize(
    ("magic", "told"), [(b"BZh91AY&SY", "bzip2"), (b"\xfd7zXZ\0", "xz"), (b"PK\3\4", "zip")], ids=["bz2", "xz", "zip"]
)
def test_kinds_that_uv_refuses_are_named(tmp_path: Path, magic: bytes, told: str) -> None:
    archive = tmp_path / "python.tar.gz"
    archive.write_bytes(magic + bytes(100))
    with pytest.raises(BadInterpreterArchive, match=rf"it is {told}, and uv installs"):
        examine(archive, archive.name)


@pytest.mark.parametrize(
    "extra",
    [
        [member("python/../../out", b"x")],
        [member("/etc/passwd", b"x")],
        [member("..", kind=tarfile.DIRTYPE)],
        [member("python/null", kind=tarfile.CHRTYPE)],
        [member("python/pipe", kind=tarfile.FIFOTYPE)],
        [member("python/bin/su", b"x", mode=0o4755)],
        [symlink("python/link", "/etc")],
        [symlink("python/link", "../../etc")],
        [symlink("python/s", ".."), symlink("python/t", "s/../..")],
        [
            symlink("python/a/s", "../.."),
            symlink("python/a/t", "s/../x"),
        ],
        [symlink("python/a/t", "./b/c/../x")],
        [symlink("python/link", "lib"), member("python/link/x", b"x")],
        [member("python/lib/python3.12/os.py", b"again")],
        [symlink("python/lib", "bin")],
        [member("python/bin/python3.12/x", b"x")],
        [member("python/hard", kind=tarfile.LNKTYPE, link="../../etc/passwd")],
        [member("python/hard", kind=tarfile.LNKTYPE, link="python/absent")],
        [
            symlink("python/s", "bin"),
            member("python/hard", kind=tarfile.LNKTYPE, link="python/s"),
        ],
        [member("python/" + "x" * 1200, b"x")],
    ],
    ids=lambda extra: f"{extra[-1][0].name[:20]}-{extra[-1][0].linkname}",
)
def test_archive_that_leads_out_of_itself_is_neither_kept_nor_unpacked(tmp_path: Path, extra: list[Member]) -> None:
    archive = archive_of(tmp_path, *extra)
    with pytest.raises(BadInterpreterArchive):
        examine(archive, archive.name)
    with pytest.raises(BadInterpreterArchive):
        unpack(archive, archive.name, "", tmp_path / "a" / "b" / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "python.tar.gz"]
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["out"]


def test_links_within_the_installation_are_kept(tmp_path: Path) -> None:
    archive = archive_of(
        tmp_path,
        symlink("python/bin/python3", "python3.12"),
        symlink("python/lib/up", "../bin/python3"),
        member("python/bin/hard", kind=tarfile.LNKTYPE, link="python/bin/python3.12"),
        member("build/log", b"not of the installation"),
        root="python/",
    )
    unpack(archive, archive.name, "python", tmp_path / "out")
    assert (tmp_path / "out/bin/python3").resolve() == (tmp_path / "out/lib/up").resolve()
    assert (tmp_path / "out/bin/hard").samefile(tmp_path / "out/bin/python3.12")
    assert not list(tmp_path.rglob("log"))


@pytest.mark.parametrize("data", [b"", b"nothing", b"\x1f\x8b", EMPTY, EMPTY[:20]])
def test_what_is_no_archive_is_refused(tmp_path: Path, data: bytes) -> None:
    archive = tmp_path / "python.tar.gz"
    archive.write_bytes(data)
    with pytest.raises(BadInterpreterArchive):
        examine(archive, archive.name)


def test_archive_without_a_python_is_refused(tmp_path: Path) -> None:
    archive = archive_of(tmp_path, files={"lib/x": b"", "bin/ruby": b""})
    with pytest.raises(BadInterpreterArchive, match=r"no Python in it: no python/bin/python3"):
        examine(archive, archive.name)
