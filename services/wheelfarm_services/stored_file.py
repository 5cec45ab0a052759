"""Answers whose body is an object of the store, sent piece by piece."""

from collections.abc import Iterator, Mapping
from typing import BinaryIO

from starlette.responses import StreamingResponse

from wheelfarm.errors import NotFound
from wheelfarm_services.store import Store

_CHUNK = 1 << 20


def stored_file(store: Store, key: str, headers: Mapping[str, str]) -> StreamingResponse:
    """The object under a key. Raises NotFound when the store has none."""
    size, file = store.size(key), store.open(key)
    if size is None or file is None:
        raise NotFound("The farm has no such file.")
    stated = {"Content-Length": str(size), "Accept-Ranges": "none", **headers}
    return StreamingResponse(_chunks(file), media_type="application/octet-stream", headers=stated)


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    with file:
        while chunk := file.read(_CHUNK):
            yield chunk
