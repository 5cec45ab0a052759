"""Files of the store over HTTP: whole, by range, and their headers alone."""

import hashlib
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route

from tests.support.asgi import asgi_client
from wheelfarm_services import layout
from wheelfarm_services.store import DirectoryStore
from wheelfarm_services.store.checked import CheckedStore
from wheelfarm_services.stored_file import stored_file

CONTENT = bytes(range(256)) * 5000  # more than one chunk
SIZE = len(CONTENT)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
ETAG = f'"{SHA256}"'


@pytest.fixture
def client(tmp_path: Path) -> httpx.Client:
    store = CheckedStore(DirectoryStore.create(tmp_path / "store"))
    key = layout.wheel(SHA256, "a-1-py3-none-any.whl")
    store.put(key, CONTENT)

    def answer(http: HttpRequest) -> Response:
        return stored_file(http, store, key, {})

    return asgi_client(Starlette(routes=[Route("/file", answer)]))


@pytest.mark.parametrize(
    ("asked", "first", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=10-1100000", 10, 1100001),
        ("bytes=-22", SIZE - 22, SIZE),
        (f"bytes=-{SIZE + 1}", 0, SIZE),
        ("bytes=5-", 5, SIZE),
        (f"bytes={SIZE - 1}-{SIZE + 9}", SIZE - 1, SIZE),
    ],
)
def test_one_range_is_answered_with_its_bytes(client: httpx.Client, asked: str, first: int, stop: int) -> None:
    answer = client.get("/file", headers={"Range": asked})
    assert answer.status_code == 206
    assert answer.content == CONTENT[first:stop]
    assert answer.headers["content-range"] == f"bytes {first}-{stop - 1}/{SIZE}"
    assert answer.headers["content-length"] == str(stop - first)


@pytest.mark.parametrize("asked", [f"bytes={SIZE}-", "bytes=-0"])
def test_range_behind_the_end_is_refused_with_the_size(client: httpx.Client, asked: str) -> None:
    answer = client.get("/file", headers={"Range": asked})
    assert (answer.status_code, answer.headers["content-range"]) == (416, f"bytes */{SIZE}")
    assert set(answer.json()) == {"error", "message", "hint"}


@pytest.mark.parametrize("asked", ["", "bytes=-", "bytes=9-3", "bytes=0-1,5-6", "lines=0-1", "bytes=a-b"])
def test_other_ranges_count_as_not_asked_for(client: httpx.Client, asked: str) -> None:
    answer = client.get("/file", headers={"Range": asked})
    assert (answer.status_code, answer.content) == (200, CONTENT)


def test_range_of_another_version_gives_the_whole(client: httpx.Client) -> None:
    same, other = (client.get("/file", headers={"Range": "bytes=0-1", "If-Range": tag}) for tag in (ETAG, '"x"'))
    assert (same.status_code, same.content, same.headers["etag"]) == (206, CONTENT[:2], ETAG)
    assert (other.status_code, other.content) == (200, CONTENT)


def test_head_tells_the_size_and_that_ranges_are_served(client: httpx.Client) -> None:
    answer = client.head("/file", headers={"Range": "bytes=0-1"})
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-length"] == str(SIZE)
    assert answer.headers["accept-ranges"] == "bytes"
