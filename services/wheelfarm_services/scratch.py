"""Folders for what passes through the services; where their disk is full, that is what is told."""

import errno
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wheelfarm.errors import DiskFull


@contextmanager
def scratch_folder(purpose: str) -> Iterator[Path]:
    """A folder that is there for as long as the context lasts. Raises DiskFull where what is written in the context
    finds no room."""
    try:
        with tempfile.TemporaryDirectory(prefix=f"wheelfarm-{purpose}-") as folder:
            yield Path(folder)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise DiskFull(
            f"The disk of the farm's services is full ({tempfile.gettempdir()}).",
            hint="Free some space there, or have their TMPDIR name another folder. Finished wheels are kept.",
        ) from error
