"""Files in folders that others may have written to: whole or not there, and never written through a link."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_NAME_BYTES = 200


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write that takes the place of what is at `path`, if that be a link, once the context ends well.

    Until then it lies beside, under a name that nobody can guess and put a link at.
    """
    partial = path.with_name(f".{path.name[:_NAME_BYTES]}.{os.urandom(8).hex()}.new")
    try:
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as file:
            yield file
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_whole(path: Path, text: str) -> None:
    """Have a file hold this text and nothing else, whoever reads it meanwhile."""
    with replacing(path) as file:
        file.write(text.encode())


def open_lock(path: Path) -> BinaryIO:
    """A file to lock, made if need be. Raises OSError where a link stands in its place."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600), "wb")
