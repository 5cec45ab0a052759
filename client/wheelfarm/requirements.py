"""Requirements as people write them: on the command line, in requirements files, in projects and in locks."""

import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from wheelfarm.errors import DirectReferenceRefused, HashMismatch, InputError
from wheelfarm.names import normalized
from wheelfarm.requirement_lines import concealed, filled_in, logical_lines
from wheelfarm.requirement_options import FileOption, judge_option, refused_editable, sha256s

if TYPE_CHECKING:
    from packaging.requirements import Requirement

    from wheelfarm.job import Sdist
    from wheelfarm.local_source import LocalSource
    from wheelfarm.lock_file import LockFile

_LOOKS_DIRECT = re.compile(r"^(\.{0,2}/|[A-Za-z][A-Za-z0-9+.-]*://|.*\.(whl|tar\.gz|zip)$)")
_MAY_BE_LOCAL = re.compile(r"[/]|^\.|\.(tar\.gz|tgz|zip)\b|file:")
_PLAIN = re.compile(r"([A-Za-z0-9]+(?:[._-]+[A-Za-z0-9]+)*)(?:==[0-9]+(?:\.[0-9]+)*)?")
"""Requirements that `packaging` would give back as they stand; to import its parser takes 15 ms."""
_PLAIN_LENGTH = 200
LOCK_HEADER = "# Written by wheelfarm lock"
"""How a requirements file begins that is a lock of the farm's wheels."""
_LOCK_NAME = re.compile(r"pylock(\.[^.]+)?\.toml|uv\.lock")


@dataclass(frozen=True, kw_only=True, slots=True)
class Requirements:
    """What is asked for: requirement lines, constraint lines, per project the sha256s its sdist may have, and local
    sources; or a lock instead.

    With `prerelease` pre-releases do like any version; with `require_hashes` every sdist must be one with a hash.
    `preferred` are versions, by project, that are kept where the requirements allow them.
    """

    lines: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    hashes: Mapping[str, frozenset[str]] = field(default_factory=dict)
    prerelease: bool = False
    require_hashes: bool = False
    lock: "LockFile | None" = None
    local: "tuple[LocalSource, ...]" = ()
    preferred: Mapping[str, str] = field(default_factory=dict)

    def without(self, names: Collection[str]) -> "Requirements":
        """The same but for the lines that name one of these projects (normalised)."""
        from packaging.requirements import Requirement

        kept = tuple(line for line in self.lines if normalized(Requirement(line).name) not in names)
        return replace(self, lines=kept)

    def vouches_for(self, sdist: "Sdist") -> bool:
        """Whether the sha256 of an sdist is given here, by a lock or by `--hash`."""
        return self.lock is not None or sdist.sha256 in self.hashes.get(sdist.name, ())

    def check_hashes(self, sdists: "Sequence[Sdist]") -> None:
        """Raise HashMismatch when a project with `--hash` resolved to an sdist of another sha256."""
        for sdist in sdists:
            allowed = self.hashes.get(sdist.name)
            if allowed and sdist.sha256 not in allowed:
                raise HashMismatch(
                    f"{sdist} resolved to {sdist.filename} with sha256 {sdist.sha256}, "
                    f"but the requirements allow only {', '.join(sorted(allowed))}.",
                    hint="The hash of a wheel proves nothing of the sdist that is built: lock the sdists, too, "
                    "as uv pip compile --generate-hashes does.",
                )
            if self.require_hashes and not allowed:
                raise HashMismatch(
                    f"{sdist} is needed, and the requirements give no hash for it in spite of --require-hashes.",
                    hint=f"Add it, once you trust it: {sdist} --hash=sha256:{sdist.sha256}",
                )


def parse_requirement(text: str, *, origin: str) -> "Requirement":
    """One requirement (PEP 508). Raises DirectReferenceRefused for URLs and paths, InputError for anything malformed.

    `origin` tells the reader where it stands, such as "requirements.txt line 3".
    """
    from packaging.requirements import InvalidRequirement, Requirement

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


def read_requirements(
    arguments: Sequence[str],
    files: Sequence[Path],
    constraints: Sequence[Path],
    *,
    extras: Sequence[str] = (),
    all_extras: bool = False,
    groups: Sequence[str] = (),
    prerelease: bool = False,
    editables: Sequence[str] = (),
    locked: bool = False,
) -> Requirements:
    """Requirements of the command line and of files, with the files that these include.

    A file is a requirements file as pip has them, a project's pyproject.toml (its dependencies, with those of `extras`)
    or a lock, which stands alone: a pylock.toml (PEP 751), a uv.lock, or what `wheelfarm lock` wrote. `groups` are
    dependency groups (PEP 735), each NAME or FILE:NAME; of a lock they are its own. With `locked` the uv.lock beside a
    pyproject.toml stands for it.

    Raises InputError, and OptionRefused for what the farm can't honour: above all, no index is taken from a file.
    """
    if editables:
        raise refused_editable(editables[0], "command line")
    if locked:
        files = [_uv_lock_of(files)]
    if lock := next((path for path in files if _LOCK_NAME.fullmatch(path.name) or _is_farm_lock(path)), None):
        if len(files) > 1 or arguments or constraints:
            raise InputError(
                f"{lock} is a lock, which says everything by itself, and more was given beside it.",
                hint="Install the rest by a command of its own, or lock it all together.",
            )
        from wheelfarm.lock_file import read_lock_file

        return Requirements(lock=read_lock_file(lock, extras=extras, all_extras=all_extras, groups=groups))
    reader = _Reader(prerelease=prerelease, environment=os.environ)
    for argument in arguments:
        reader.add(argument, "command line")
    projects = [path for path in files if path.suffix == ".toml"]
    for path in files:
        if path not in projects:
            reader.read(path, reader.lines)
    _read_projects(reader, projects, extras=extras, all_extras=all_extras, groups=groups)
    for path in constraints:
        reader.read(path, reader.constraints)
    return reader.result()


def _uv_lock_of(files: Sequence[Path]) -> Path:
    """The uv.lock of the one pyproject.toml that is given, seen to be current."""
    if [path.name for path in files] != ["pyproject.toml"]:
        raise InputError("--locked takes the uv.lock beside a project.", hint="Name the project: -r pyproject.toml")
    from wheelfarm.uv_lock import NAME, require_current

    require_current(files[0].with_name(NAME))
    return files[0].with_name(NAME)


def _is_farm_lock(path: Path) -> bool:
    if path.is_file():  # and no pipe, which can be read but once
        with suppress(OSError), path.open("rb") as file:
            return file.read(len(LOCK_HEADER)) == LOCK_HEADER.encode()
    return False


def _read_projects(
    reader: "_Reader", projects: Sequence[Path], *, extras: Sequence[str], all_extras: bool, groups: Sequence[str]
) -> None:
    if (extras or all_extras) and not projects:
        raise InputError(
            "--extra and --all-extras choose extras of a project, and none is given.",
            hint="Name it (-r pyproject.toml --extra NAME), or write NAME[EXTRA] for a requirement's extras.",
        )
    if projects or groups:
        from wheelfarm.project_file import group_requirements, project_requirements

        for path in projects:
            for line in project_requirements(path, extras=extras, all_extras=all_extras):
                reader.add(line, str(path))
        for group in groups:
            for line in group_requirements(group):
                reader.add(line, f"dependency group {group}")


class _Reader:
    def __init__(self, *, prerelease: bool, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self.lines: list[str] = []
        self.constraints: list[str] = []
        self._local: list[LocalSource] = []
        self._hashes: dict[str, set[str]] = {}
        self._prerelease = prerelease
        self._require_hashes = False
        self._reading: list[Path] = []

    def add(self, text: str, origin: str, into: list[str] | None = None) -> None:
        with self._discreet(text):
            self._add(text, origin, into)

    def _add(self, text: str, origin: str, into: list[str] | None) -> None:
        requirement_text, options = _split_options(text)
        if into is not self.constraints and _MAY_BE_LOCAL.search(requirement_text):
            from wheelfarm.local_source import parse_local

            hashes = sha256s(options, origin)
            if (source := parse_local(requirement_text, origin=origin, hashes=hashes)) is not None:
                self._local.append(source)
                return
        name, line = _parsed(requirement_text, origin)
        (self.lines if into is None else into).append(line)
        if options:
            self._hashes.setdefault(name, set()).update(sha256s(options, origin))

    def read(self, path: Path, into: list[str]) -> None:
        if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:/", str(path)):
            raise InputError(f"The requirements file {path} is a URL.", hint="Fetch it, look at it, and name the file.")
        real = Path(os.path.realpath(path))
        if real in self._reading:
            raise InputError(f"{path} includes itself.")
        self._reading.append(real)
        for number, line in logical_lines(path):
            with self._discreet(line):
                self._read_line(filled_in(line, self._environment), f"{path} line {number}", path.parent, into)
        self._reading.pop()

    def result(self) -> Requirements:
        """What was read. Raises InputError when that is nothing."""
        if not self.lines and not self._local:
            raise InputError("Nothing to do: no requirement was given.", hint="wheelfarm install NAME, or -r FILE")
        return Requirements(
            lines=tuple(self.lines),
            constraints=tuple(self.constraints),
            hashes={name: frozenset(found) for name, found in self._hashes.items()},
            prerelease=self._prerelease,
            require_hashes=self._require_hashes,
            local=tuple(self._local),
        )

    @contextmanager
    def _discreet(self, line: str) -> Iterator[None]:
        """Errors about a line tell no credentials that stand in it."""
        try:
            yield
        except InputError as error:
            message, hint = (concealed(text, line, self._environment) for text in (error.message, error.hint))
            raise type(error)(message, hint=hint) from None

    def _read_line(self, line: str, origin: str, folder: Path, into: list[str]) -> None:
        if line.startswith("-"):
            self._follow(line, origin, folder, into)
        else:
            self._add(line, origin, into)

    def _follow(self, line: str, origin: str, folder: Path, into: list[str]) -> None:
        option, value = judge_option(line, origin)
        match option:
            case FileOption.REQUIREMENT:
                self.read(folder / value, into)
            case FileOption.CONSTRAINT:
                self.read(folder / value, self.constraints)
            case FileOption.PRE:
                self._prerelease = True
            case FileOption.REQUIRE_HASHES:
                self._require_hashes = True
            case FileOption.ALWAYS_SO:
                pass


def _parsed(text: str, origin: str) -> tuple[str, str]:
    """The normalised name of a requirement, and the requirement as it is written out."""
    if len(text) < _PLAIN_LENGTH and (plain := _PLAIN.fullmatch(text)) and not _LOOKS_DIRECT.match(text):
        return normalized(plain[1]), text
    requirement = parse_requirement(text, origin=origin)
    return normalized(requirement.name), str(requirement)


def _split_options(text: str) -> tuple[str, list[str]]:
    """A requirement line without its options, and the options."""
    found = re.search(r"\s--", text)
    return (text[: found.start()].strip(), text[found.start() :].split()) if found else (text.strip(), [])


def _direct(text: str, origin: str) -> DirectReferenceRefused:
    return DirectReferenceRefused(
        f"{origin}: {text!r} names a URL or a path, and the farm builds only sdists that its source index lists.",
        hint="Ask for the project by name and version, and let its index serve the sdist.",
    )
