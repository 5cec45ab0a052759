"""Answers whose body is an object of the store or a range of it (RFC 9110, 14), large ones sent piece by piece."""

import re
from collections.abc import Iterator, Mapping
from typing import BinaryIO

from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response, StreamingResponse

from wheelfarm.errors import NotFound
from wheelfarm_services import layout
from wheelfarm_services.store import Store

_CHUNK = 1 << 20
_RANGE = re.compile(r"bytes=[ \t]*([0-9]{0,18})-([0-9]{0,18})[ \t]*", re.ASCII | re.IGNORECASE)
_MEDIA = "application/octet-stream"


def stored_file(http: HttpRequest, store: Store, key: str, headers: Mapping[str, str]) -> Response:
    """The object under a key, or the one range of it that is asked for. Raises NotFound when the store has none."""
    size = store.size(key)
    if size is None:
        raise NotFound("The farm has no such file.")
    sha256 = layout.blob_sha256(key)
    stated = {"Accept-Ranges": "bytes", **({"ETag": f'"{sha256}"'} if sha256 else {}), **headers}
    if http.method == "HEAD":  # a range means nothing to it (RFC 9110, 14.2)
        return Response(media_type=_MEDIA, headers={"Content-Length": str(size), **stated})
    asked = _asked_range(http, size, stated.get("ETag"))
    if asked is not None and not asked:
        return _unsatisfiable(size)
    file = store.open(key)
    if file is None:
        raise NotFound("The farm has no such file.")
    part = range(size) if asked is None else asked
    stated["Content-Length"] = str(len(part))
    if asked is not None:
        stated["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{size}"
    status = 200 if asked is None else 206
    chunks = _chunks(file, part)
    if len(part) <= _CHUNK:  # at once, in this thread: each piece of a stream costs two changes of it
        return Response(b"".join(chunks), status, media_type=_MEDIA, headers=stated)
    return StreamingResponse(chunks, status, media_type=_MEDIA, headers=stated)


def _asked_range(http: HttpRequest, size: int, etag: str | None) -> range | None:
    """Which bytes are asked for: none where they lie behind the end, None for all of them.

    Several ranges, other units and malformed ones count as not asked for, as does a range of another version.
    """
    found = _RANGE.fullmatch(http.headers.get("range", ""))
    if found is None or http.headers.get("if-range", etag) != etag:
        return None
    first, last = found.groups()
    if not first:
        return range(max(0, size - int(last)), size) if last else None
    if last and int(last) < int(first):
        return None
    return range(int(first), min(int(last) + 1, size) if last else size)


def _unsatisfiable(size: int) -> Response:
    told = {
        "error": "range-not-satisfiable",
        "message": f"The range begins behind the end of the file, which has {size} bytes.",
        "hint": "Ask for a range within it.",
    }
    return JSONResponse(told, 416, headers={"Accept-Ranges": "bytes", "Content-Range": f"bytes */{size}"})


def _chunks(file: BinaryIO, part: range) -> Iterator[bytes]:
    with file:
        file.seek(part.start)
        left = len(part)
        while left and (chunk := file.read(min(_CHUNK, left))):
            left -= len(chunk)
            yield chunk
