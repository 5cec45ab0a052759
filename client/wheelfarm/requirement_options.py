"""Options of requirements files, as pip has them: those that the farm follows, and why it refuses the others."""

import re
from collections.abc import Sequence
from enum import StrEnum

from wheelfarm.errors import InputError, OptionRefused


class FileOption(StrEnum):
    """What a line that is an option asks for."""

    REQUIREMENT = "--requirement"
    CONSTRAINT = "--constraint"
    PRE = "--pre"
    REQUIRE_HASHES = "--require-hashes"
    ALWAYS_SO = "--no-binary"
    """What the farm does anyway."""


_HASH = re.compile(r"--hash=(sha256(?=:[0-9a-f]{64}$)|sha384(?=:[0-9a-f]{96}$)|sha512(?=:[0-9a-f]{128}$)):([0-9a-f]+)")
_SHORT = {"-r": "--requirement", "-c": "--constraint", "-e": "--editable", "-i": "--index-url", "-f": "--find-links"}
_FLAGS = {"--pre": FileOption.PRE, "--require-hashes": FileOption.REQUIRE_HASHES}
_ONE_INDEX = (
    "names another place to find projects in, and the farm resolves against its own source index alone",
    "WHEELFARM_INDEX names the upstream of that index; take the line out, or ask those who run the farm.",
)
_FROM_SOURCE = (
    "asks for prebuilt wheels, and the farm builds everything from source",
    "Take the line out: what the farm has built once is not built again.",
)
_REFUSED = {
    "--index-url": _ONE_INDEX,
    "--extra-index-url": _ONE_INDEX,
    "--no-index": _ONE_INDEX,
    "--find-links": _ONE_INDEX,
    "--trusted-host": _ONE_INDEX,
    "--only-binary": _FROM_SOURCE,
    "--prefer-binary": _FROM_SOURCE,
}


def judge_option(line: str, origin: str) -> tuple[FileOption, str]:
    """The option of a line, and its value. Raises OptionRefused for one that the farm can't honour, with the reason."""
    given, value = _parts(line)
    option = _SHORT.get(given, given)
    if option in ("--requirement", "--constraint") and value and not re.search(r"[\s\0]", value):
        return FileOption(option), value
    if option in _FLAGS and not value:
        return _FLAGS[option], ""
    if option == "--editable":
        raise refused_editable(value, origin)
    if option in ("--no-binary", "--only-binary") and (value == ":none:") is (option == "--only-binary"):
        return FileOption.ALWAYS_SO, value
    if option == "--no-binary":
        option = "--only-binary"
    if option in _REFUSED:
        reason, hint = _REFUSED[option]
        raise OptionRefused(f"{origin}: {given} {value} {reason}.".replace("  ", " "), hint=hint)
    raise InputError(
        f"{origin}: the option {given!r} is not accepted{f' with {value!r}' if value else ''}.",
        hint="The farm takes requirements with --hash, and the lines -r, -c, --pre, --require-hashes and --no-binary.",
    )


def sha256s(options: Sequence[str], origin: str) -> frozenset[str]:
    """The sha256s of a line's `--hash` options; beside one of them, other digests of the same file add nothing."""
    found = {option: _HASH.fullmatch(option) for option in options}
    for option, hash_option in found.items():
        if hash_option is None:
            raise InputError(
                f"{origin}: {option!r} is not accepted.",
                hint="Hashes are given as --hash=sha256:HEX. Settings of one project's build belong into its recipe.",
            )
    accepted = frozenset(known[2] for known in found.values() if known and known[1] == "sha256")
    if options and not accepted:
        raise InputError(
            f"{origin}: there is no sha256 among the hashes, and the source index tells no other.",
            hint="Hashes are given as --hash=sha256:HEX.",
        )
    return accepted


def refused_editable(path: str, origin: str) -> OptionRefused:
    """The error for an editable requirement."""
    return OptionRefused(
        f"{origin}: --editable {path}: an editable install points into the tree and has its build backend run here, "
        "and the farm installs only wheels that were built in a sandbox.",
        hint=f"Install the tree as it is: wheelfarm install {path or 'PATH'}. After a change the same command builds "
        "what has changed. Or let the farm install what it needs (wheelfarm install -r pyproject.toml), and have "
        "pip --no-deps install the tree itself.",
    )


def _parts(line: str) -> tuple[str, str]:
    """Option and value of a line: `--name value`, `--name=value`, `-n value` or `-nvalue`."""
    found = re.match(r"(--[^\s=]+|-[A-Za-z])[\s=]*(.*)$", line, re.DOTALL)
    return (found[1], found[2].strip()) if found else (line.split()[0], "")
