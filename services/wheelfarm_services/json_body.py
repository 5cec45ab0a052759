"""Bodies of requests as they come: bounded in time and size; those that are JSON parsed, and their shape checked."""

import asyncio
import json
from collections.abc import AsyncIterator

from starlette.requests import Request

from wheelfarm.errors import InputError, TooLarge
from wheelfarm.job import Sdist

MOST_SDISTS = 5000
_BODY_BYTES = 8 << 20
_PATIENCE_S = 60.0


async def body_pieces(http: Request, *, patience_s: float = _PATIENCE_S) -> AsyncIterator[bytes]:
    """The body of a request piece by piece. Raises InputError where the next one does not come within `patience_s`."""
    pieces = aiter(http.stream())
    while True:
        try:
            async with asyncio.timeout(patience_s):
                piece = await anext(pieces)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise InputError(f"The body breaks off: for {patience_s:.0f} s nothing more came.") from None
        yield piece


async def read_json_body(http: Request) -> object:
    """The body of a request. Raises TooLarge, or InputError when it is no JSON."""
    data = bytearray()
    async for chunk in body_pieces(http):
        data += chunk
        if len(data) > _BODY_BYTES:
            raise TooLarge(f"The body is larger than {_BODY_BYTES} bytes.")
    try:
        value: object = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputError("The body is not JSON.") from error
    return value


def json_object(value: object) -> dict[str, object]:
    """The value, which must be an object. Raises InputError."""
    if not isinstance(value, dict):
        raise InputError("A JSON object is expected.")
    return value


def sdist_list(value: object) -> list[Sdist]:
    """The sdists in a list of a bounded length. Raises InputError."""
    if not isinstance(value, list) or len(value) > MOST_SDISTS:
        raise InputError(f"A list of at most {MOST_SDISTS} sdists is expected.")
    return [Sdist.from_json(sdist) for sdist in value]
