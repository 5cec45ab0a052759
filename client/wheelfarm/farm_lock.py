"""Locks of the farm's own wheels: written so that stock uv and pip install exactly them, and read again.

A lock is for one target, for wheels are, and says so: it names each wheel with its URL, size and sha256 and nothing
that could be built or fetched instead. Equal wheels give equal bytes, and nothing in it is a secret.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from wheelfarm.errors import InputError, ProtocolError
from wheelfarm.project_file import read_toml
from wheelfarm.requirements import LOCK_HEADER
from wheelfarm.target import Target
from wheelfarm.wheel import BuiltWheel

_CREATED_BY = "wheelfarm"
_LINE = re.compile(
    r"(\S+) @ \S+/wheels/([0-9a-f]{64})/(\S+\.whl) --hash=sha256:([0-9a-f]{64})  # (\S+), ([0-9]+) bytes"
)
_FILE_BYTES = 16 << 20


class LockFormat(StrEnum):
    """PEP 751, or a requirements file of direct references (PEP 508) with hashes."""

    PYLOCK = "pylock"
    REQUIREMENTS = "requirements"

    @classmethod
    def of(cls, path: Path) -> "LockFormat":
        """The format of a lock by its name. Raises InputError for a name that uv and pip would not take as one."""
        if path.suffix == ".txt":
            return cls.REQUIREMENTS
        if re.fullmatch(r"pylock(\.[^.]+)?\.toml", path.name):
            return cls.PYLOCK
        raise InputError(
            f"{path} is no name of a lock.",
            hint="PEP 751 names locks pylock.toml or pylock.NAME.toml; a requirements file ends with .txt.",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class WheelSource:
    """Where wheels lie for who installs them, as `wheels/SHA256/NAME` at a farm's `url` or in a `folder` of this
    machine."""

    url: str = ""
    folder: Path = Path()

    def url_of(self, wheel: BuiltWheel) -> str:
        """The wheel's URL, without credentials."""
        place = f"wheels/{wheel.sha256}/{quote(wheel.filename)}"
        if not self.url:
            return f"{self.folder.absolute().as_uri()}/{place}"
        return f"{_without_credentials(self.url)}/{place}"

    def path_below(self, folder: Path, wheel: BuiltWheel) -> str:
        """The wheel's path relative to `folder`; "" where it does not lie there."""
        path, root = self.folder.resolve() / "wheels" / wheel.sha256 / wheel.filename, folder.resolve()
        return "" if self.url or not path.is_relative_to(root) else path.relative_to(root).as_posix()


def render_lock(path: Path, wheels: Sequence[BuiltWheel], target: Target, source: WheelSource) -> str:
    """The text of the lock that is to lie at `path`, whose name tells its format."""
    ordered = sorted(wheels, key=lambda wheel: (wheel.name, wheel.filename))
    if LockFormat.of(path) is LockFormat.PYLOCK:
        return _pylock(ordered, target, source, path.parent)
    lines = [f"{LOCK_HEADER}, for {_described(target)} alone."]
    for wheel in ordered:
        told = f"{wheel.version}, {wheel.size} bytes"
        lines.append(f"{wheel.name} @ {source.url_of(wheel)} --hash=sha256:{wheel.sha256}  # {told}")
    return "\n".join(lines) + "\n"


def locked_versions(path: Path) -> dict[str, str] | None:
    """The versions that a lock of the farm at `path` names, by project; None where there is no file.

    Raises InputError for a file that is not a lock of the farm.
    """
    if not path.exists():
        return None
    wheels = pylock_wheels(_toml(path)) if path.suffix == ".toml" else requirements_wheels(path)
    if wheels is None:
        raise InputError(
            f"{path} is there already, and `wheelfarm lock` did not write it.",
            hint="Name another file with --output, or move this one away.",
        )
    return {wheel.name: wheel.version for wheel in wheels}


def pylock_wheels(lock: Mapping[str, Any]) -> tuple[BuiltWheel, ...] | None:
    """The wheels of a PEP 751 lock that the farm wrote; None for one of somebody else. Raises InputError for one that
    was edited since."""
    if lock.get("created-by") != _CREATED_BY:
        return None
    try:
        return tuple(_built_wheel(package) for package in lock.get("packages", []))
    except (LookupError, TypeError, ValueError, AttributeError, ProtocolError):
        raise InputError(
            "The farm's lock was edited: there is a package in it that is no wheel of the farm.",
            hint="Edit what it is made from instead, and write it anew with `wheelfarm lock`.",
        ) from None


def requirements_wheels(path: Path) -> tuple[BuiltWheel, ...] | None:
    """The wheels of a requirements file that the farm wrote; None for any other file. Raises InputError for one that
    was edited since."""
    try:
        with path.open("rb") as file:
            if file.read(len(LOCK_HEADER)) != LOCK_HEADER.encode():
                return None
            lines = file.read(_FILE_BYTES).decode(errors="replace").splitlines()
    except OSError:
        return None  # whoever reads it as what it is tells why it can't be
    return tuple(map(_wheel_of_line, lines[1:]))


def _wheel_of_line(line: str) -> BuiltWheel:
    found = _LINE.fullmatch(line)
    if found is None or found[2] != found[4]:
        raise InputError(
            f"The farm's lock was edited: {line[:200]!r} is no wheel of it.",
            hint="Edit what it is made from instead, and write it anew with `wheelfarm lock`.",
        )
    name, sha256, filename, _, version, size = found.groups()
    value = {"name": name, "version": version, "filename": unquote(filename), "sha256": sha256, "size": int(size)}
    return BuiltWheel.from_json(value)


def _pylock(wheels: Sequence[BuiltWheel], target: Target, source: WheelSource, folder: Path) -> str:
    minor = ".".join(target.python_version.split(".")[:2])
    environment = (
        f"python_version == '{minor}' and implementation_name == 'cpython' "
        f"and sys_platform == 'linux' and platform_machine == '{target.machine}'"
    )
    lines = [
        'lock-version = "1.0"',
        f"environments = [{json.dumps(environment)}]",
        *([f'requires-python = "=={minor}.*"'] if target.python_version.replace(".", "").isdigit() else []),
        f'created-by = "{_CREATED_BY}"',
    ]
    for wheel in wheels:
        path = source.path_below(folder, wheel)
        place = f"path = {json.dumps(path)}" if path else f"url = {json.dumps(source.url_of(wheel))}"
        lines += [
            "",
            "[[packages]]",
            f"name = {json.dumps(wheel.name)}",
            f"version = {json.dumps(wheel.version)}",
            "[[packages.wheels]]",
            f"name = {json.dumps(wheel.filename)}",
            place,
            f"size = {wheel.size}",
            f'hashes = {{ sha256 = "{wheel.sha256}" }}',
        ]
    lines += ["", "[tool.wheelfarm]", f"target = {json.dumps(target.name)}", f'python = "{target.python_version}"']
    return "\n".join(lines) + "\n"


def _built_wheel(package: Mapping[str, Any]) -> BuiltWheel:
    (wheel,) = package["wheels"]
    value = {"name": package["name"], "version": package["version"], "filename": wheel["name"]}
    return BuiltWheel.from_json({**value, "sha256": wheel["hashes"]["sha256"], "size": wheel["size"]})


def _described(target: Target) -> str:
    return f"{target.name} (CPython {target.python_version} on {target.platform})"


def _without_credentials(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl().rstrip("/")


def _toml(path: Path) -> dict[str, Any]:
    try:
        return read_toml(path)
    except InputError:
        return {}
