"""Requirements as people write them: on the command line and in requirements files."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from wheelfarm.digest import SHA256
from wheelfarm.errors import DirectReferenceRefused, HashMismatch, InputError
from wheelfarm.job import Sdist

_COMMENT = re.compile(r"(^|\s+)#.*$")
_LOOKS_DIRECT = re.compile(r"^(\.{0,2}/|[A-Za-z][A-Za-z0-9+.-]*://|.*\.(whl|tar\.gz|zip)$)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Requirements:
    """What is asked for: requirement lines, constraint lines, and per project the sha256s its sdist may have."""

    lines: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    hashes: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def check_hashes(self, sdists: Sequence[Sdist]) -> None:
        """Raise HashMismatch when a project with `--hash` resolved to an sdist of another sha256."""
        for sdist in sdists:
            allowed = self.hashes.get(sdist.name)
            if allowed and sdist.sha256 not in allowed:
                raise HashMismatch(
                    f"{sdist} resolved to {sdist.filename} with sha256 {sdist.sha256}, "
                    f"but the requirements allow only {', '.join(sorted(allowed))}.",
                    hint="The hashes must be those of sdists, not of wheels.",
                )


def parse_requirement(text: str, *, origin: str) -> Requirement:
    """One requirement (PEP 508). Raises DirectReferenceRefused for URLs and paths, InputError for anything malformed.

    `origin` tells the reader where it stands, such as "requirements.txt line 3".
    """
    try:
        requirement = Requirement(text)
    except (InvalidRequirement, RecursionError) as error:
        if _LOOKS_DIRECT.match(text.strip()):
            raise _direct(text, origin) from None
        raise InputError(f"{origin}: {text!r} is not a requirement: {str(error).splitlines()[0]}.") from None
    if requirement.url is not None or _LOOKS_DIRECT.match(text.strip()):
        raise _direct(text, origin)
    # A marker's strings may hold escapes: written out, a line break would begin a line, and an option, of uv's input.
    if not str(requirement).isprintable() or "\\" in str(requirement):
        raise InputError(f"{origin}: {text!r} holds control characters or backslashes.")
    return requirement


def read_requirements(arguments: Sequence[str], files: Sequence[Path], constraints: Sequence[Path]) -> Requirements:
    """Requirements of the command line and of requirements files, with the files that these include.

    Of pip's format the farm takes requirements, comments, continued lines, `-r`, `-c` and `--hash=sha256:…`. Every
    other option raises InputError: an index, above all, is never taken from a file.
    """
    reader = _Reader()
    for argument in arguments:
        reader.add(argument, "command line")
    for path in files:
        reader.read(path, reader.lines)
    for path in constraints:
        reader.read(path, reader.constraints)
    if not reader.lines:
        raise InputError("Nothing to do: no requirement was given.", hint="wheelfarm install NAME, or -r FILE")
    return Requirements(
        lines=tuple(reader.lines),
        constraints=tuple(reader.constraints),
        hashes={name: frozenset(found) for name, found in reader.hashes.items()},
    )


class _Reader:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.constraints: list[str] = []
        self.hashes: dict[str, set[str]] = {}
        self._reading: list[Path] = []

    def add(self, text: str, origin: str, into: list[str] | None = None) -> None:
        requirement_text, options = _split_options(text)
        requirement = parse_requirement(requirement_text, origin=origin)
        (self.lines if into is None else into).append(str(requirement))
        for option in options:
            self._add_hash(canonicalize_name(requirement.name), option, origin)

    def read(self, path: Path, into: list[str]) -> None:
        real = Path(os.path.realpath(path))
        if real in self._reading:
            raise InputError(f"{path} includes itself.")
        self._reading.append(real)
        for number, line in _logical_lines(path):
            origin = f"{path} line {number}"
            if line.startswith("-"):
                self._follow(line, origin, path.parent, into)
            else:
                self.add(line, origin, into)
        self._reading.pop()

    def _follow(self, line: str, origin: str, folder: Path, into: list[str]) -> None:
        match re.match(r"(-r|--requirement|-c|--constraint)[ =]*([^\s\0]+)$", line):
            case None:
                raise InputError(
                    f"{origin}: the option {line.split()[0]!r} is not accepted.",
                    hint="The farm resolves against its own source index only; name other indexes in its settings.",
                )
            case found if found[1] in ("-r", "--requirement"):
                self.read(folder / found[2], into)
            case found:
                self.read(folder / found[2], self.constraints)

    def _add_hash(self, name: str, option: str, origin: str) -> None:
        algorithm, _, value = option.removeprefix("--hash=").partition(":")
        if not option.startswith("--hash=") or algorithm != "sha256" or not SHA256.fullmatch(value):
            raise InputError(f"{origin}: {option!r} is not accepted.", hint="Hashes are given as --hash=sha256:HEX.")
        self.hashes.setdefault(name, set()).add(value)


def _split_options(text: str) -> tuple[str, list[str]]:
    """A requirement line without its options, and the options."""
    found = re.search(r"\s--", text)
    return (text[: found.start()].strip(), text[found.start() :].split()) if found else (text.strip(), [])


def _logical_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines with continuations joined, comments and blank lines dropped."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise InputError(f"The requirements file {path} can't be read: {error}.") from error
    pending, first = "", 0
    for number, raw in enumerate(text.splitlines(), 1):
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


def _direct(text: str, origin: str) -> DirectReferenceRefused:
    return DirectReferenceRefused(
        f"{origin}: {text!r} names a URL or a path, and the farm builds only sdists that its source index lists.",
        hint="Ask for the project by name and version, and let its index serve the sdist.",
    )
