"""Bodies of requests that are files: received piece by piece, and bounded."""

import errno
from pathlib import Path

from starlette.requests import Request as HttpRequest

from wheelfarm.errors import FarmUnavailable, TooLarge
from wheelfarm_services.json_body import body_pieces


async def receive_file(http: HttpRequest, path: Path, most_bytes: int) -> None:
    """Write a request's body to `path`. Raises TooLarge, and FarmUnavailable where it can't be written; a lack of
    room is told by whoever gave the folder."""
    size = 0
    with path.open("wb") as file:
        async for chunk in body_pieces(http):
            size += len(chunk)
            if size > most_bytes:
                raise TooLarge(f"What was sent is larger than {most_bytes >> 20} MiB.")
            try:
                file.write(chunk)
            except OSError as error:
                if error.errno == errno.ENOSPC:
                    raise
                raise FarmUnavailable(f"The farm can't keep what was sent: {error.strerror}.") from error
