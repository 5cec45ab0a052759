"""The lines of a requirements file as pip has them: encodings, continuations, comments, environment variables."""

import codecs
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from wheelfarm.errors import InputError

_FILE_BYTES = 16 << 20
_COMMENT = re.compile(r"(^|\s+)#.*$")
_VARIABLE = re.compile(r"\$\{([A-Z0-9_]+)\}")
_USER_INFORMATION = re.compile(r"(://)[^\s/?#]*@")
_CODING = re.compile(rb"^[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)")  # PEP 263
_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",  # before UTF-16's, with which it begins
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}


def logical_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines with continuations joined, comments and blank lines dropped.

    UTF-8 unless the file says otherwise, by a byte order mark or a comment. Raises InputError.
    """
    pending, first = "", 0
    for number, raw in enumerate(_text(path).splitlines(), 1):
        first = first if pending else number
        pending += _COMMENT.sub("", raw)
        if pending.endswith("\\"):
            pending = pending[:-1]
            continue
        if pending.strip():
            yield first, pending.strip()
        pending = ""
    if pending.strip():
        yield first, pending.strip()


def filled_in(text: str, environment: Mapping[str, str]) -> str:
    """A line with the values of the variables that it names as `${NAME}`; those that are not set stay, as with pip."""
    return _VARIABLE.sub(lambda variable: environment.get(variable[1], variable[0]), text)


def concealed(message: str, line: str, environment: Mapping[str, str]) -> str:
    """What is told of a line, without the credentials of URLs, and without the values of its variables."""
    for name in _VARIABLE.findall(line):
        if value := environment.get(name, ""):
            message = message.replace(value, f"${{{name}}}")
    return _USER_INFORMATION.sub(r"\1…@", message)


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(_FILE_BYTES + 1)
        if len(data) > _FILE_BYTES:
            raise InputError(f"The requirements file {path} is larger than {_FILE_BYTES >> 20} MiB.")
        return _decoded(data)
    except (OSError, ValueError, LookupError) as error:
        raise InputError(f"The requirements file {path} can't be read: {error}.") from error


def _decoded(data: bytes) -> str:
    for mark, encoding in _MARKS.items():
        if data.startswith(mark):
            return data.removeprefix(mark).decode(encoding)
    named = next(filter(None, map(_CODING.match, data.split(b"\n", 2)[:2])), None)
    return data.decode(named[1].decode() if named else "utf-8")
