"""Wheels as bytes, for tests that need one to be read."""

import io
import zipfile

METADATA = b"Metadata-Version: 2.1\nName: app\nVersion: 1.0\n"


def wheel_bytes(metadata: bytes = METADATA) -> bytes:
    """A wheel of the project app in version 1.0, as far as its METADATA goes."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(zipfile.ZipInfo("app-1.0.dist-info/METADATA", (2020, 1, 1, 0, 0, 0)), metadata)
    return file.getvalue()
