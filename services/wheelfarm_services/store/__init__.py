"""The object store: the farm's durable truth, immutable blobs and small conditional objects.

The operations are those that S3 offers and no more, so that a directory and a bucket are one thing to the rest of the
farm. Keys are relative, with `/` between parts. docs/store.md has the layout and the guarantees.
"""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from wheelfarm.errors import InputError
from wheelfarm.settings import Settings
from wheelfarm_services.metrics import measured_store
from wheelfarm_services.store.checked import CheckedStore
from wheelfarm_services.store.directory import DirectoryStore
from wheelfarm_services.store.protocol import Store, StoredObject

__all__ = ["CheckedStore", "DirectoryStore", "Store", "StoredObject", "open_store"]


def open_store(settings: Settings, *, create: bool = True) -> Store:
    """The store that the settings name: a directory (`file:///path`, made when it is absent) or a bucket
    (`s3://bucket/prefix`, probed). Blobs are verified as they are read. Without `create` an absent directory is
    unreachable: it may be one that is not mounted yet.

    Raises InputError for other schemes, FarmUnavailable when the store can't be reached or is no sound one.
    """
    parts = urlsplit(settings.store)
    if parts.scheme == "file" and parts.path:
        root = Path(unquote(parts.path))
        return CheckedStore(measured_store(DirectoryStore.create(root) if create else DirectoryStore.existing(root)))
    if parts.scheme == "s3" and parts.netloc:
        from wheelfarm_services.store.s3 import open_bucket  # boto3 takes half a second that embedded farms don't have

        return CheckedStore(measured_store(open_bucket(settings)))
    raise InputError(
        f"No store is known for {settings.store!r}.", hint="Give a directory as file:///path, or s3://bucket/prefix."
    )
