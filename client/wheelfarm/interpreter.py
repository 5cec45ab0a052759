"""Python distributions that a farm keeps: how they are named, by uv and by python-build-standalone, and found.

A *key* is what uv calls a distribution: `cpython-3.13.1+freethreaded-linux-x86_64-gnu`, that is implementation,
version, variant, system, architecture and C library. Of one key there are *builds*, such as `20261120`.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from wheelfarm.digest import SHA256
from wheelfarm.errors import InputError, NotFound, ProtocolError

BUILD = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,39}")
ARCHIVE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,199}\.(tar\.gz|tgz|tar\.zst)")
"""Both kinds that uv unpacks on every system."""
KEY = re.compile(
    r"(?P<name>[a-z]{1,20})-(?P<version>[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3})(?P<prerelease>(?:(?:a|b|rc)[0-9]{1,3})?)"
    r"(?:\+(?P<variant>freethreaded|debug|freethreaded\+debug))?"
    r"-(?P<os>[a-z][a-z0-9]{0,19})-(?P<arch>[a-z0-9_]{1,20})-(?P<libc>[a-z0-9]{1,20})"
)
KEY_FORM = re.sub(r"\?P<[a-z]+>", "?:", KEY.pattern)
_STANDALONE = re.compile(
    r"cpython-(?P<version>[0-9.]+(?:(?:a|b|rc)[0-9]+)?)\+(?P<build>[0-9]{8}(?:T[0-9]{4})?)-(?P<arch>[a-z0-9_]+)-"
    r"(?:unknown-linux-(?P<linux>[a-z0-9]+)|apple-(?P<darwin>darwin)|pc-(?P<windows>windows)-msvc(?:-shared|-static)?)"
    r"(?:-(?P<options>[a-z+_-]+))?-(?P<flavour>install_only_stripped|install_only|full)\.tar\.(?:gz|zst)"
)
_ARCH_LEVEL = re.compile(r"(x86_64)_(v[234])")
_FLAVOURS = ("install_only_stripped", "install_only", "full")
"""Of archives of one key and build, uv prefers them in this order, and so does the farm."""
_REFERENCE = re.compile(
    r"(?:(?P<name>[a-z]+)-)?(?P<version>[0-9]+\.[0-9]+\.[0-9]+(?:(?:a|b|rc)[0-9]+)?)(?P<more>(?:\+[^+]+)*)"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Interpreter:
    """A Python distribution: its key and build, its archive, and what was found in it.

    `size` is the archive's in bytes; `root` the folder of the installation within the archive ("" where it has no top
    folder); `prefix` the one that it was configured with, empty where it doesn't tell; `source` where it came from.
    """

    key: str
    build: str
    filename: str
    sha256: str
    size: int
    root: str
    prefix: str
    source: str

    def __post_init__(self) -> None:
        """Raises InputError for what can be no distribution."""
        parsed_key(self.key)
        forms = {"build": BUILD, "filename": ARCHIVE_NAME, "sha256": SHA256}
        for name, form in forms.items():
            if not form.fullmatch(str(getattr(self, name))):
                raise InputError(f"{name}: {getattr(self, name)!r} is malformed.", hint=f"Accepted: {form.pattern}")

    @property
    def parts(self) -> dict[str, str]:
        """The parts of its key: name, version, prerelease, variant, os, arch, libc; empty where it has none."""
        return parsed_key(self.key)

    @property
    def platform(self) -> str:
        """Such as `linux-x86_64-gnu`."""
        parts = self.parts
        return f"{parts['os']}-{parts['arch']}-{parts['libc']}"

    @property
    def reference(self) -> str:
        """What a target names it by: `3.12.1+20261120`, `pypy-3.10.14+7.3.17`, `3.13.1+freethreaded+20261120`."""
        parts = self.parts
        name = "" if parts["name"] == "cpython" else f"{parts['name']}-"
        variant = f"+{parts['variant']}" if parts["variant"] else ""
        return f"{name}{parts['version']}{parts['prerelease']}{variant}+{self.build}"

    @property
    def preference(self) -> tuple[Any, ...]:
        """What sorts builds of one key from the newest to the oldest, and archives of one build as uv prefers them."""
        numbers = tuple(-int(number) for number in re.findall(r"[0-9]+", self.build))
        flavour = next((rank for rank, name in enumerate(_FLAVOURS) if f"-{name}." in self.filename), len(_FLAVOURS))
        return (numbers, flavour, self.filename)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        try:
            return cls(**{field.name: value[field.name] for field in fields(cls)})
        except (LookupError, TypeError, InputError) as error:
            raise ProtocolError("The farm answered with no Python distribution.") from error


def parsed_key(key: str) -> dict[str, str]:
    """The parts of a key, empty where it has none. Raises InputError."""
    found = KEY.fullmatch(key)
    if found is None:
        raise InputError(
            f"{key!r} is not the key of a Python distribution.", hint="Such as: cpython-3.12.1-linux-x86_64-gnu"
        )
    return {name: value or "" for name, value in found.groupdict().items()}


def arch_of(arch: str) -> tuple[str, str | None]:
    """The family and the variant of an architecture as keys have it: `x86_64_v3` is `x86_64` and `v3`."""
    level = _ARCH_LEVEL.fullmatch(arch)
    return (level[1], level[2]) if level else (arch, None)


def named_like_standalone(filename: str) -> tuple[str, str] | None:
    """Key and build of an archive that is named as python-build-standalone names them; None for other names."""
    found = _STANDALONE.fullmatch(filename)
    if found is None:
        return None
    options = set(re.split(r"[+-]", found["options"] or ""))
    variant = "+".join(name for name in ("freethreaded", "debug") if name in options)
    system = "linux" if found["linux"] else found["darwin"] or found["windows"]
    version = "+".join(filter(None, (found["version"], variant)))
    key = f"cpython-{version}-{system}-{found['arch']}-{found['linux'] or 'none'}"
    return (key, found["build"]) if KEY.fullmatch(key) else None


def newest_by_key(interpreters: Iterable[Interpreter]) -> dict[str, Interpreter]:
    """Of each key the archive of the newest build that is preferred, sorted by key."""
    found: dict[str, Interpreter] = {}
    for interpreter in sorted(interpreters, key=lambda one: one.preference):
        found.setdefault(interpreter.key, interpreter)
    return dict(sorted(found.items()))


def chosen(reference: str, platform: str, interpreters: Iterable[Interpreter]) -> Interpreter:
    """What a reference means on a platform such as `linux-x86_64-gnu`: of a version without a build the newest one.

    Raises InputError for what is no reference, NotFound naming what there is.
    """
    found = _REFERENCE.fullmatch(reference)
    more = found["more"].split("+")[1:] if found else []
    variants = [word for word in more if word in ("freethreaded", "debug")]
    builds = [word for word in more if word not in variants]
    if found is None or len(builds) > 1 or variants != more[: len(variants)]:
        raise InputError(
            f"{reference!r} names no Python distribution.",
            hint="VERSION or VERSION+BUILD, such as 3.12.1+20261120; 3.13.1+freethreaded+20261120; pypy-3.10.14",
        )
    wanted = "+".join([f"{found['name'] or 'cpython'}-{found['version']}", *variants]) + f"-{platform}"
    every = list(interpreters)
    fitting = [one for one in every if one.key == wanted and builds in ([], [one.build])]
    if fitting:
        return min(fitting, key=lambda one: one.preference)
    there = sorted({one.reference for one in every if one.platform == platform})
    raise NotFound(
        f"The farm keeps no Python {reference} for {platform}. It has: {', '.join(there) or 'none'}.",
        hint="wheelfarm python add brings one in, wheelfarm python list shows them all.",
    )
