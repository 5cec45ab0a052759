"""Wheels as the farm hands them out."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from wheelfarm.digest import SHA256
from wheelfarm.errors import ProtocolError

_FORMS = {
    "name": re.compile(r"[a-z0-9]+(-[a-z0-9]+)*"),
    "version": re.compile(r"[a-z0-9!.+-]{1,200}"),
    "filename": re.compile(r"[A-Za-z0-9_!+~][A-Za-z0-9_.!+~-]{0,199}\.whl"),
    "sha256": SHA256,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class BuiltWheel:
    """A wheel of the farm: the project and version it is of, its file name, sha256 and size in bytes."""

    name: str
    version: str
    filename: str
    sha256: str
    size: int

    @property
    def tags(self) -> set[str]:
        """The tags in the file name (PEP 425), compressed sets taken apart."""
        pythons, abis, platforms = self.filename.removesuffix(".whl").split("-")[-3:]
        return {f"{a}-{b}-{c}" for a in pythons.split(".") for b in abis.split(".") for c in platforms.split(".")}

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "BuiltWheel":
        """Read what `to_json` wrote. Raises ProtocolError for a name that is no file name or a digest that is none."""
        found = value if isinstance(value, Mapping) else {}
        wrong = [name for name, form in _FORMS.items() if not form.fullmatch(str(found.get(name, "")))]
        if wrong or type(found.get("size")) is not int:
            raise ProtocolError(f"The farm names a wheel that can't be one: {value!r:.200}.")
        return cls(size=found["size"], **{name: str(found[name]) for name in _FORMS})
