import gzip
import hashlib
import io
import tarfile
import zipfile
from collections.abc import Callable

import pytest

from tests.support.archives import Member, make_tar, make_zip, tar_file, tar_special
from tests.support.values import make_sdist
from wheelfarm.errors import BadSdist
from wheelfarm_services.sdist_head import SdistHead, read_head

PKG_INFO = b"Metadata-Version: 2.2\nName: app\nVersion: 1.0\n"
PYPROJECT = b'[build-system]\nrequires = ["x"]\n'


def read(data: bytes, *, zipped: bool = False, unpacked_bytes: int = 1 << 30) -> SdistHead:
    sdist = make_sdist(filename="app-1.0.zip" if zipped else "app-1.0.tar.gz")
    return read_head(sdist, io.BytesIO(data), unpacked_bytes=unpacked_bytes)


def tar_of(*members: Member) -> bytes:
    return make_tar([tar_file("app-1.0/PKG-INFO", PKG_INFO), *members])


@pytest.mark.parametrize("prefix", ["app-1.0/", "./app-1.0/"])
@pytest.mark.parametrize("zipped", [False, True])
def test_both_files_are_read_from_the_top_folder(prefix: str, zipped: bool) -> None:
    files = {f"{prefix}setup.py": b"", f"{prefix}pyproject.toml": PYPROJECT, f"{prefix}PKG-INFO": PKG_INFO}
    data = make_zip(files) if zipped else make_tar([tar_file(path, data) for path, data in files.items()])
    assert read(data, zipped=zipped) == SdistHead(
        pkg_info=PKG_INFO,
        pyproject={"build-system": {"requires": ["x"]}},
        pyproject_sha256=hashlib.sha256(PYPROJECT).hexdigest(),
    )


@pytest.mark.parametrize("zipped", [False, True])
def test_files_that_are_not_there_are_none(zipped: bool) -> None:
    files = {
        "app-1.0/setup.py": b"",
        "app-1.0/app.egg-info/PKG-INFO": PKG_INFO,
        "app-1.0/vendor/pyproject.toml": PYPROJECT,
    }
    data = make_zip(files) if zipped else make_tar([tar_file(path, data) for path, data in files.items()])
    assert read(data, zipped=zipped) == SdistHead(pkg_info=None, pyproject=None, pyproject_sha256="")


@pytest.mark.parametrize(
    "path", ["a/pyproject.toml", "a/b/pyproject.toml", "app-1.0/pyproject.toml/x", "app-1.0/PYPROJECT.toml"]
)
def test_pyproject_anywhere_else_is_not_the_sdists(path: str) -> None:
    assert read(tar_of(tar_file(path, PYPROJECT))).pyproject is None


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_link_in_the_place_of_pyproject_is_refused(kind: bytes) -> None:
    with pytest.raises(BadSdist, match=r"its pyproject.toml is a link or a device"):
        read(tar_of(tar_special("app-1.0/pyproject.toml", kind, "app-1.0/PKG-INFO")))


def test_link_in_the_place_of_pkg_info_is_not_followed() -> None:
    data = make_tar([tar_special("app-1.0/PKG-INFO", tarfile.SYMTYPE, "/etc/passwd")])
    assert read(data).pkg_info is None


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("last", ["setup.py", "zz/PKG-INFO"])
def test_flat_archive_is_its_own_source_tree(zipped: bool, last: str) -> None:
    files = {"a/PKG-INFO": b"Name: other", "PKG-INFO": PKG_INFO, "pyproject.toml": PYPROJECT, last: b"Name: other"}
    data = make_zip(files) if zipped else make_tar([tar_file(path, data) for path, data in files.items()])
    head = read(data, zipped=zipped)
    assert (head.pkg_info, head.pyproject) == (PKG_INFO, {"build-system": {"requires": ["x"]}})


@pytest.mark.parametrize("leftover", ["._app-1.0", ".DS_Store", "__MACOSX/pyproject.toml", "pax_global_header"])
def test_what_macos_leaves_beside_the_folder_is_not_counted(leftover: str) -> None:
    files = {leftover: b"[", "app-1.0/PKG-INFO": PKG_INFO, "app-1.0/pyproject.toml": PYPROJECT}
    assert read(make_tar([tar_file(path, data) for path, data in files.items()])).pkg_info == PKG_INFO


def test_zip_directory_too_large_to_be_held_is_refused_before_it_is_read() -> None:
    name = "app-1.0/" + "a" * 60_000
    data = make_zip({f"{name}{number}": b"" for number in range(300)})
    with pytest.raises(BadSdist, match="its directory is larger than"):
        read(data, zipped=True)


def test_empty_pyproject_is_one_and_has_a_digest() -> None:
    head = read(tar_of(tar_file("app-1.0/pyproject.toml", b"")))
    assert head.pyproject == {}
    assert head.pyproject_sha256 == hashlib.sha256(b"").hexdigest()


@pytest.mark.parametrize(
    ("name", "size"), [("PKG-INFO", (4 << 20) + 1), ("pyproject.toml", (512 << 10) + 1)], ids=["PKG-INFO", "pyproject"]
)
@pytest.mark.parametrize("zipped", [False, True])
def test_file_larger_than_anybody_needs_is_refused(name: str, size: int, zipped: bool) -> None:
    path = f"app-1.0/{name}"
    data = make_zip({path: bytes(size)}) if zipped else make_tar([tar_file(path, bytes(size))])
    with pytest.raises(BadSdist, match=f"{name} is larger"):
        read(data, zipped=zipped)


@pytest.mark.parametrize(
    "data", [b"", b"not an archive", gzip.compress(b"not a tar archive" * 1000, mtime=0), b"\x1f\x8b", b"PK\x05\x06"]
)
@pytest.mark.parametrize("zipped", [False, True])
def test_what_is_no_archive_is_refused(data: bytes, zipped: bool) -> None:
    with pytest.raises(BadSdist, match="can be unpacked"):
        read(data, zipped=zipped)


def test_archive_cut_off_at_any_byte_is_refused_or_read_right() -> None:
    whole = tar_of(tar_file("app-1.0/noise", bytes(range(256)) * 8), tar_file("app-1.0/pyproject.toml", PYPROJECT))
    complete = 0
    for length in range(len(whole)):
        try:
            head = read(whole[:length])
        except BadSdist:
            continue
        complete += head.pyproject is not None
        assert head.pkg_info == PKG_INFO
    assert complete < 40


def test_zip_cut_off_at_any_byte_is_refused() -> None:
    whole = make_zip({"app-1.0/PKG-INFO": PKG_INFO, "app-1.0/pyproject.toml": PYPROJECT})
    for length in range(len(whole)):
        with pytest.raises(BadSdist):
            read(whole[:length], zipped=True)


@pytest.mark.parametrize("size", ["-1", "-1024", str(1 << 40), str(1 << 70)])
def test_size_in_an_extended_header_is_not_believed(size: str) -> None:
    info, data = tar_file("app-1.0/pyproject.toml", PYPROJECT)
    info.pax_headers = {"size": size}
    try:
        head = read(tar_of((info, data), tar_file("app-1.0/later", b"x" * 4096)))
    except BadSdist:
        return
    # some interpreters end the archive there; what the sandbox unpacks is compared with the sha256 of what was read
    assert (head.pyproject, head.pyproject_sha256) == (None, "")


@pytest.mark.parametrize(
    "kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, b"Z"]
)
def test_extended_header_that_claims_to_be_huge_is_refused_before_it_is_read(kind: bytes) -> None:
    info = tarfile.TarInfo("app-1.0/x")
    info.type, info.size = kind, 1 << 33
    with pytest.raises(BadSdist, match="a header states 8589934592 bytes"):
        read(gzip.compress(info.tobuf(tarfile.GNU_FORMAT)))


def test_extended_header_of_many_digits_is_refused_before_it_is_parsed() -> None:
    info = tarfile.TarInfo("app-1.0/x")
    info.type, info.size = tarfile.XHDTYPE, 1 << 20
    with pytest.raises(BadSdist, match="a header states 1048576 bytes"):
        read(gzip.compress(info.tobuf(tarfile.USTAR_FORMAT) + b"1" * (1 << 20)))


def test_negative_size_in_a_header_is_refused() -> None:
    info = tarfile.TarInfo("app-1.0/x")
    info.size = -512
    with pytest.raises(BadSdist, match="a header states -512 bytes"):
        read(gzip.compress(info.tobuf(tarfile.GNU_FORMAT)))


def sparse_of_gnu() -> bytes:
    info = tarfile.TarInfo("app-1.0/x")
    info.type = tarfile.GNUTYPE_SPARSE
    return gzip.compress(info.tobuf(tarfile.GNU_FORMAT))


def sparse_of_pax() -> bytes:
    info, data = tar_file("app-1.0/x", b"1000000000\n" + b"0\n" * 10_000)
    info.pax_headers = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": "x",
        "GNU.sparse.realsize": "1",
    }
    return make_tar([(info, data)])


@pytest.mark.parametrize("sparse", [sparse_of_gnu, sparse_of_pax])
def test_sparse_member_is_refused_before_its_map_is_read(sparse: Callable[[], bytes]) -> None:
    with pytest.raises(BadSdist, match="sparse"):
        read(sparse())


def test_headers_chained_without_end_are_refused() -> None:
    name = tarfile.TarInfo("././@LongLink")
    name.type, name.size = tarfile.GNUTYPE_LONGNAME, 4
    chain = (name.tobuf(tarfile.GNU_FORMAT) + b"long".ljust(512, b"\0")) * 2000
    with pytest.raises(BadSdist):
        read(gzip.compress(chain))


def test_global_headers_cannot_pile_up() -> None:
    packed = io.BytesIO()
    for number in range(150):
        packed.write(tarfile.TarInfo.create_pax_global_header({f"key{number}": "value"}))
        packed.write(tarfile.TarInfo("app-1.0/x").tobuf(tarfile.PAX_FORMAT))
    with pytest.raises(BadSdist, match="global headers"):
        read(gzip.compress(packed.getvalue()))


def test_one_global_header_as_git_archive_writes_it_is_welcome() -> None:
    whole = gzip.decompress(tar_of(tar_file("app-1.0/pyproject.toml", PYPROJECT)))
    commit = tarfile.TarInfo.create_pax_global_header({"comment": "0123456789abcdef"})
    assert read(gzip.compress(commit + whole)).pkg_info == PKG_INFO


@pytest.mark.parametrize("format_", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_format_of_tar_is_read(format_: int) -> None:
    members = [tar_file("app-1.0/" + "d" * 90 + "/file"), tar_file("app-1.0/PKG-INFO", PKG_INFO, mtime=1_600_000_000)]
    assert read(make_tar(members, format_=format_)).pkg_info == PKG_INFO


def test_bomb_is_given_up_at_the_limit() -> None:
    bomb = make_tar([tar_file("app-1.0/zeros", bytes(8 << 20)), tar_file("app-1.0/PKG-INFO", PKG_INFO)])
    assert len(bomb) < 16 << 10
    assert read(bomb, unpacked_bytes=16 << 20).pkg_info == PKG_INFO
    with pytest.raises(BadSdist, match="unpacks to more than 1048576 bytes"):
        read(bomb, unpacked_bytes=1 << 20)


def test_nothing_is_read_behind_the_two_files() -> None:
    bomb = make_tar(
        [
            tar_file("app-1.0/PKG-INFO", PKG_INFO),
            tar_file("app-1.0/pyproject.toml", PYPROJECT),
            tar_file("z", bytes(4 << 20)),
        ]
    )
    assert read(bomb, unpacked_bytes=1 << 20).pkg_info == PKG_INFO


@pytest.mark.parametrize(
    "text",
    [
        b"[build-system",
        b"a = 1\na = 2\n",
        b"a = \xff\n",
        b"a = " + b"[" * 5000 + b"]" * 5000,
        b"a = " + b"{a=" * 5000,
        b"a = " + b"9" * 5000,
        b"a" + b".a" * 2000 + b" = 1\n",
        b"[a" + b".a" * 2000 + b"]\n",
        b"a = 2001-02-30\n",
    ],
)
def test_pyproject_that_cannot_be_parsed_or_only_in_ages_is_refused(text: bytes) -> None:
    with pytest.raises(BadSdist, match=r"pyproject\.toml"):
        read(tar_of(tar_file("app-1.0/pyproject.toml", text)))


def test_encrypted_zip_is_refused() -> None:
    data = bytearray(make_zip({"app-1.0/PKG-INFO": PKG_INFO}))
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(BadSdist, match="encrypted"):
        read(bytes(data), zipped=True)


def test_zip_that_understates_a_size_is_refused() -> None:
    data = bytearray(make_zip({"app-1.0/PKG-INFO": PKG_INFO * 1000}))
    at = data.index(b"PK\x01\x02")
    data[at + 24 : at + 28] = (10).to_bytes(4, "little")
    with pytest.raises(BadSdist):
        read(bytes(data), zipped=True)


def test_zip_of_an_unusual_compression_is_read_or_refused_as_one() -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("app-1.0/PKG-INFO", PKG_INFO)
    assert read(packed.getvalue(), zipped=True).pkg_info == PKG_INFO
    data = bytearray(packed.getvalue())
    at = data.index(b"PK\x01\x02")
    data[8:10] = data[at + 10 : at + 12] = (97).to_bytes(2, "little")
    with pytest.raises(BadSdist):
        read(bytes(data), zipped=True)
