"""The members of a tar stream that nobody vouches for: every size it states is checked before that much is read."""

import io
import tarfile
from collections.abc import Iterator
from typing import IO, Any, Protocol, Self, cast

_HEADER_BYTES = 64 << 10  # tarfile reads one in quadratic time before Python 3.11.10 and 3.12.6 (CVE-2024-6232)
_GLOBAL_HEADERS = 100


class Readable(Protocol):
    """A decompressed stream."""

    def read(self, size: int = ..., /) -> bytes: ...


def bounded_members(
    stream: Readable, *, most_bytes: int, most_members: int
) -> Iterator[tuple[tarfile.TarInfo, IO[bytes] | None]]:
    """Each member, and its contents where it is a regular file, to be read before the next one is asked for.

    Raises OSError or tarfile.TarError for a stream of more than that, or one that lies about itself. Names and links
    are as the archive has them: whoever unpacks judges them.
    """
    counted = cast("IO[bytes]", _Counted(stream, most_bytes))
    with tarfile.open(fileobj=counted, mode="r|", tarinfo=_BoundedTarInfo) as archive:
        for number, info in enumerate(archive):
            if number > most_members:
                raise OSError(f"it has more than {most_members} members")
            if info.size < 0:  # an extended header can say so, and older interpreters believe it
                raise OSError(f"{info.name!r} states {info.size} bytes")
            if len(archive.pax_headers) > _GLOBAL_HEADERS:
                raise OSError(f"it has more than {_GLOBAL_HEADERS} global headers")
            # tarfile would keep every member, with all of its headers
            archive.members.clear()  # type: ignore[attr-defined]
            yield info, archive.extractfile(info) if info.isreg() else None


class _BoundedTarInfo(tarfile.TarInfo):
    """A member whose header can't make `tarfile` hold much: extended headers are small, sizes not negative, and there
    are no sparse files, whose maps have no bound."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        return cls._judged(super().frombuf(buf, encoding, errors))

    @classmethod
    def _frombuf(cls, *arguments: Any, **options: Any) -> Self:
        """What patched and newer interpreters (Debian's 3.11.2 among them) read headers with instead."""
        return cls._judged(super()._frombuf(*arguments, **options))  # type: ignore[misc]

    @classmethod
    def _judged(cls, info: Self) -> Self:
        extended = info.type not in tarfile.SUPPORTED_TYPES or info.type in tarfile.GNU_TYPES
        if info.size < 0 or (extended and info.size > _HEADER_BYTES):
            raise tarfile.ReadError(f"a header states {info.size} bytes")
        if info.type == tarfile.GNUTYPE_SPARSE:
            raise tarfile.ReadError("it has a sparse member")
        return info

    def _proc_gnusparse_10(self, *_: object) -> None:
        raise tarfile.ReadError("it has a sparse member")


class _Counted(io.RawIOBase):
    """A decompressed stream that ends in an error past the limit."""

    def __init__(self, stream: Readable, limit: int) -> None:
        self._stream, self._limit, self._left = stream, limit, limit

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(min(size, 1 << 20) if size >= 0 else 1 << 20)
        self._left -= len(data)
        if self._left < 0:
            raise OSError(f"it unpacks to more than {self._limit} bytes")
        return data
