"""Archives member by member: wheels and sdists that are right, and as wrong as a test wants them."""

import gzip
import io
import tarfile
import zipfile
from collections.abc import Iterable, Mapping

from tests.support.projects import record_hash

WHEEL_NAME = "app-1.0-py3-none-any.whl"
ZIP_TIME = (2020, 9, 13, 12, 26, 40)
FILE_MODE = 0o100644
Member = tuple[tarfile.TarInfo, bytes]


def make_tar(members: Iterable[Member], *, format_: int = tarfile.PAX_FORMAT) -> bytes:
    """A gzipped tar archive of these members, each with its data."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=format_) as tar:
        for info, data in members:
            info.size = info.size or len(data)
            tar.addfile(info, io.BytesIO(data))
    return gzip.compress(packed.getvalue(), mtime=0)


def tar_file(path: str, data: bytes = b"", *, mtime: float = 1_600_000_000, mode: int = 0o644) -> Member:
    """A regular file."""
    info = tarfile.TarInfo(path)
    info.mtime, info.mode = mtime, mode
    return info, data


def tar_special(path: str, kind: bytes, target: str = "") -> Member:
    """A link to `target`, a directory or a device, by tarfile's type."""
    info = tarfile.TarInfo(path)
    info.type, info.linkname = kind, target
    return info, b""


def make_zip(files: Mapping[str, bytes], *, modes: Mapping[str, int] | None = None) -> bytes:
    """A deflated zip archive."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in files.items():
            info = zipfile.ZipInfo(path, ZIP_TIME)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (modes or {}).get(path, FILE_MODE) << 16
            archive.writestr(info, data)
    return packed.getvalue()


def make_piped_zip(files: Mapping[str, bytes]) -> bytes:
    """A deflated zip archive written to a pipe: the sizes stand behind the entries, not before them."""

    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self.data = bytearray()

        def writable(self) -> bool:
            return True

        def write(self, data: object) -> int:
            piece = bytes(data)  # type: ignore[call-overload]
            self.data += piece
            return len(piece)

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in files.items():
            archive.writestr(path, data)
    return bytes(pipe.data)


def metadata(name: str, version: str) -> bytes:
    """A METADATA file."""
    return f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nRequires-Python: >=3.8\n".encode()


def wheel_files(
    name: str = "app",
    version: str = "1.0",
    *,
    tags: Iterable[str] = ("py3-none-any",),
    files: Mapping[str, bytes] | None = None,
) -> dict[str, bytes]:
    """What a wheel holds, its RECORD agreeing; `files` are added to a module, or stand for what would be there."""
    stem = f"{name}-{version}"
    info = f"{stem}.dist-info"
    marker = "".join(f"Tag: {tag}\n" for tag in tags)
    held = {
        f"{name}.py": b"VERSION = 1\n",
        f"{info}/METADATA": metadata(name, version),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\n{marker}".encode(),
        **(files or {}),
    }
    return with_record(held, info)


def with_record(files: Mapping[str, bytes], info: str) -> dict[str, bytes]:
    """The files, and a RECORD of them in the folder `info`."""
    rows = [f"{path},{record_hash(data)},{len(data)}\n" for path, data in files.items()]
    return {**files, f"{info}/RECORD": "".join([*rows, f"{info}/RECORD,,\n"]).encode()}
