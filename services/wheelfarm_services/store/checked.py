"""Integrity: a blob whose key holds its sha256 is read whole and compared before any byte of it is handed on."""

import hashlib
import logging
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from wheelfarm.errors import CorruptObject
from wheelfarm_services import layout
from wheelfarm_services.store.protocol import Store, StoredObject

logger = logging.getLogger(__name__)


class CheckedStore:
    """A store that hands on no blob with other bytes than its key tells.

    One that is read so twice is moved to the quarantine, so that it is absent from then on and is made anew, and
    CorruptObject is raised.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def get(self, key: str) -> bytes | None:
        if layout.blob_sha256(key) is None:
            return self._store.get(key)
        file = self.open(key)
        if file is None:
            return None
        with file:
            return file.read()

    def get_with_etag(self, key: str) -> tuple[bytes, str] | None:
        found = self._store.get_with_etag(key)
        if found is not None and (expected := layout.blob_sha256(key)) and _sha256(BytesIO(found[0])) != expected:
            self._condemn(key)
        return found

    def open(self, key: str) -> BinaryIO | None:
        expected = layout.blob_sha256(key)
        for _ in range(2):  # what a faulty network gave comes right the second time
            file = self._store.open(key)
            if file is None or expected is None:
                return file
            if _sha256(file) == expected:
                file.seek(0)
                return file
            file.close()
        self._condemn(key)
        return None

    def _condemn(self, key: str) -> None:
        self._store.move(key, layout.quarantined(key))
        logger.error("corrupt object quarantined", extra={"key": key})
        raise CorruptObject(
            f"The object {key!r} of the store has not the bytes that its name tells, so it was not used.",
            hint=f"It was moved to {layout.quarantined(key)!r}. Run the command again: it is fetched or built anew.",
        )

    def size(self, key: str) -> int | None:
        return self._store.size(key)

    def watch(self, key: str) -> Callable[[], bool] | None:
        return self._store.watch(key)

    def put(self, key: str, data: bytes) -> None:
        self._store.put(key, data)

    def put_file(self, key: str, path: Path) -> None:
        self._store.put_file(key, path)

    def renew(self, key: str) -> bool:
        return self._store.renew(key)

    def put_new(self, key: str, data: bytes) -> bool:
        return self._store.put_new(key, data)

    def replace(self, key: str, data: bytes, etag: str | None) -> bool:
        return self._store.replace(key, data, etag)

    def list(self, prefix: str) -> Iterator[str]:
        return self._store.list(prefix)

    def objects(self, prefix: str) -> Iterator[StoredObject]:
        return self._store.objects(prefix)

    def delete(self, key: str) -> None:
        self._store.delete(key)

    def delete_older(self, key: str, than: float) -> bool:
        return self._store.delete_older(key, than)

    def move(self, key: str, to: str) -> None:
        self._store.move(key, to)

    def sweep(self, before: float) -> int:
        return self._store.sweep(before)

    def now(self) -> float:
        return self._store.now()


def _sha256(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while chunk := file.read(1 << 20):
        digest.update(chunk)
    return digest.hexdigest()
