"""What every store does, and what its keys look like."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from wheelfarm.errors import NotFound

_PART = re.compile(r"[A-Za-z0-9_!+=~-][A-Za-z0-9._!+=~-]{0,239}")


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredObject:
    """An object as a listing tells of it; `modified_at` is in seconds since the epoch by the clock of `Store.now`."""

    key: str
    size: int
    modified_at: float


class Store(Protocol):
    """Objects by key. Every method raises FarmUnavailable when the store itself can't be reached; only a missing key
    counts as absent. NotFound is raised for what can be no key."""

    def get(self, key: str) -> bytes | None:
        """The object's bytes, or None when there is none."""
        ...

    def get_with_etag(self, key: str) -> tuple[bytes, str] | None:
        """The object's bytes and the tag that `replace` takes."""
        ...

    def open(self, key: str) -> BinaryIO | None:
        """The object as a readable, seekable file, or None."""
        ...

    def size(self, key: str) -> int | None:
        """The object's size in bytes, or None when there is none."""
        ...

    def watch(self, key: str) -> Callable[[], bool] | None:
        """What tells, without reading it, whether the object has been the same since now: False where it may not have
        been. None where nothing tells that, so also of an object that is not there or was written just now."""
        ...

    def put(self, key: str, data: bytes) -> None:
        """Write the object whole, whatever was there."""
        ...

    def put_file(self, key: str, path: Path) -> None:
        """Write the object from a file. For content-addressed keys: an object that is there already is renewed."""
        ...

    def renew(self, key: str) -> bool:
        """Have the object count as new, give or take an hour, to `objects` and `delete_older`; tell whether it is
        there."""
        ...

    def put_new(self, key: str, data: bytes) -> bool:
        """Write the object unless the key is taken (`If-None-Match: *`); tell whether it was written."""
        ...

    def replace(self, key: str, data: bytes, etag: str | None) -> bool:
        """Write the object if its tag is still `etag` (None: if it is absent); tell whether it was written.

        False may also be told of a write whose answer was lost and that another one has replaced since.
        """
        ...

    def list(self, prefix: str) -> Iterator[str]:
        """Every key that begins with `prefix`, such as a folder ending in `/`, in order."""
        ...

    def objects(self, prefix: str) -> Iterator[StoredObject]:
        """What `list` gives, with sizes and times."""
        ...

    def delete(self, key: str) -> None:
        """Remove the object if it is there."""
        ...

    def delete_older(self, key: str, than: float) -> bool:
        """Remove the object if it was last written, or put again, before `than`; tell whether it was there and was."""
        ...

    def move(self, key: str, to: str) -> None:
        """Put the object under another key, and nothing under this one; does nothing where there is none."""
        ...

    def sweep(self, before: float) -> int:
        """Remove what writers that were killed before then have left half-written; the number of them."""
        ...

    def now(self) -> float:
        """The time by the clock that `StoredObject.modified_at` goes by."""
        ...


def require_key(key: str) -> str:
    """The key, unless it could lead elsewhere. Raises NotFound."""
    if not all(_PART.fullmatch(part) for part in key.split("/")):
        raise NotFound(f"{key!r} is not a key of the store.")
    return key
