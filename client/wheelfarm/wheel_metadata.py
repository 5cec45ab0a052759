"""What a wheel file tells of itself: its METADATA, read as data."""

import email.parser
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

_METADATA = re.compile(r"[^/]+\.dist-info/METADATA")
_METADATA_BYTES = 4 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class WheelMetadata:
    """The fields that decide whether a wheel fits a set and a target."""

    requires_dist: tuple[str, ...] = ()
    requires_python: str = ""


def read_wheel_metadata(path: Path) -> WheelMetadata:
    """The metadata of a wheel; none where there is no such file, or it can't be read."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = (name for name in archive.namelist() if _METADATA.fullmatch(name))
            with archive.open(next(names)) as member:
                return wheel_metadata(member.read(_METADATA_BYTES))
    except (OSError, ValueError, StopIteration, zipfile.BadZipFile):
        return WheelMetadata()


def wheel_metadata(metadata: bytes) -> WheelMetadata:
    """The fields of a METADATA file; folded lines are joined."""
    message = email.parser.BytesParser().parsebytes(metadata, headersonly=True)
    lines = (" ".join(str(line).split()) for line in message.get_all("Requires-Dist", []))
    return WheelMetadata(requires_dist=tuple(lines), requires_python=str(message.get("Requires-Python", "")).strip())
