"""Wheels as the farm hands them out."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from wheelfarm.digest import SHA256
from wheelfarm.errors import ProtocolError


@dataclass(frozen=True, kw_only=True, slots=True)
class BuiltWheel:
    """A wheel of the farm: the project and version it is of, its file name, sha256 and size in bytes."""

    name: str
    version: str
    filename: str
    sha256: str
    size: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "BuiltWheel":
        """Read what `to_json` wrote. Raises ProtocolError for a name that is no file name or a digest that is none."""
        wheel = cls(**{name: value[name] for name in ("name", "version", "filename", "sha256", "size")})
        if "/" in wheel.filename or not wheel.filename.endswith(".whl") or not SHA256.fullmatch(wheel.sha256):
            raise ProtocolError(f"The farm names a wheel that can't be one: {wheel.filename!r}.")
        return wheel
