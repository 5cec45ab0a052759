import asyncio

import pytest
from starlette.requests import Request
from starlette.types import Message

from wheelfarm.errors import InputError
from wheelfarm_services.json_body import body_pieces, read_json_body


def request_of(*pieces: bytes, ends: bool = True) -> Request:
    """A request with a body of these pieces, after which nothing more comes unless it `ends`."""
    left = list(pieces)

    async def receive() -> Message:
        if left or ends:
            return {"type": "http.request", "body": left.pop(0) if left else b"", "more_body": bool(left) or not ends}
        await asyncio.Event().wait()
        raise AssertionError

    return Request({"type": "http", "method": "POST", "headers": []}, receive)


async def read(http: Request, *, patience_s: float = 60.0) -> list[bytes]:
    return [piece async for piece in body_pieces(http, patience_s=patience_s) if piece]


def test_body_is_read_to_its_end() -> None:
    assert asyncio.run(read(request_of(b'{"a"', b": 1}"))) == [b'{"a"', b": 1}"]
    assert asyncio.run(read_json_body(request_of(b'{"a"', b": 1}"))) == {"a": 1}


def test_body_that_never_ends_is_given_up() -> None:
    with pytest.raises(InputError, match="breaks off"):
        asyncio.run(read(request_of(b"half", ends=False), patience_s=0.05))
