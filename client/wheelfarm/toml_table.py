"""TOML files of the operator's, read key by key: what nobody knows and what is malformed is refused by name."""

import tomllib
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any, TypeVar

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from wheelfarm.errors import InputError
from wheelfarm.requirements import parse_requirement

T = TypeVar("T")

_FILE_BYTES = 1 << 20


def load_toml(text: str, origin: str) -> dict[str, Any]:
    """A file's text as a table. Raises InputError, naming `origin`, where it is none."""
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{origin} is not TOML: {error}.") from error


def read_text(path: Path) -> str:
    """A small file's text. Raises InputError when it can't be read, is too large or no UTF-8."""
    try:
        return read_bytes(path).decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8.") from error


def read_bytes(path: Path) -> bytes:
    """A small file's contents. Raises InputError when it can't be read or is too large."""
    try:
        with path.open("rb") as file:
            data = file.read(_FILE_BYTES + 1)
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror}.") from error
    if len(data) > _FILE_BYTES:
        raise InputError(f"{path} is larger than {_FILE_BYTES} bytes.")
    return data


class Table:
    """A TOML table that is read key by key; `end` refuses, by name, what nobody read."""

    def __init__(self, value: Any, origin: str) -> None:
        if not isinstance(value, dict):
            raise InputError(f"{origin}: a table is expected, not {value!r:.80}.")
        self._left = dict(value)
        self._read: list[str] = []
        self.origin = origin

    def take(self, key: str, kind: type[T], default: T) -> T:
        self._read.append(key)
        value = self._left.pop(key, default)
        if type(value) is not kind:
            raise self.refused(key, f"{_KINDS[kind]} is expected, not {value!r:.80}")
        return value

    def refused(self, key: str, reason: str) -> InputError:
        return InputError(f"{self.origin}: {key!r} is not accepted: {reason}.")

    def requirements(self, key: str) -> tuple[str, ...] | None:
        """The requirements under a key, None where it is absent."""
        absent = key not in self._left
        texts = self.take(key, list, [])
        if absent:
            return None
        try:
            return tuple(str(parse_requirement(text, origin=f"{self.origin}, {key}")) for text in texts)
        except TypeError:
            raise self.refused(key, "a list of requirements is expected") from None

    def specifier(self, key: str) -> SpecifierSet:
        text = self.take(key, str, "")
        try:
            return SpecifierSet(text)
        except InvalidSpecifier:
            raise self.refused(key, f"{text!r} is no version specifier (PEP 440)") from None

    def end(self) -> None:
        if self._left:
            raise InputError(
                f"{self.origin}: unknown key {sorted(self._left)[0]!r}.", hint=f"Known: {', '.join(sorted(self._read))}"
            )


_KINDS: Mapping[type, str] = {
    str: "a string",
    list: "a list",
    dict: "a table",
    int: "a whole number",
    bool: "true or false",
    date: "a date such as 2030-12-31",
}
