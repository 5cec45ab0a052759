"""The wheelhouse: the farm's wheels on this machine, and the resolutions that are remembered of them.

It is a folder of the store's own shape. With the embedded farm it *is* the store, so nothing is copied; with a farm
elsewhere it is a cache beside the user's others. A remembered resolution is a PEP 751 lock of farm wheels, which uv
installs as it stands: then no farm, no resolver and no sandbox is started.
"""

import json
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from wheelfarm.digest import digest_of, sha256_of_file
from wheelfarm.errors import ProtocolError
from wheelfarm.files import write_whole
from wheelfarm.requirements import Requirements
from wheelfarm.target import Target
from wheelfarm.wheel import BuiltWheel

REMEMBERED_S = 86400.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Remembered:
    """A resolution that was built before: its wheels, and the lock file that names them by path and hash."""

    wheels: tuple[BuiltWheel, ...]
    lock: Path
    age_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class PastResolution:
    """What was asked for once, when it was resolved (seconds since the epoch), and to which wheels."""

    asked: tuple[str, ...]
    resolved_at: float
    wheels: tuple[BuiltWheel, ...]


class Wheelhouse:
    """Wheels and remembered locks below one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def wheel(self, wheel: BuiltWheel) -> Path:
        """Where a wheel lies, or would."""
        return self.root / "wheels" / wheel.sha256 / wheel.filename

    def missing(self, wheels: Iterable[BuiltWheel]) -> list[BuiltWheel]:
        """The wheels that are not here, or not with the bytes that they should have."""
        return [wheel for wheel in wheels if not self._whole(wheel)]

    def recall(
        self, requirements: Requirements, target: Target, *, local: Sequence[str] = (), policy: str = ""
    ) -> Remembered | None:
        """What these requirements, with local sources of these identities, resolved to under a policy of that identity
        within the last day, where every wheel of it is still here."""
        folder = self._lock_folder(requirements, target, local, policy)
        try:
            wheels = tuple(map(BuiltWheel.from_json, json.loads((folder / "wheels.json").read_text())))
            age_s = time.time() - (folder / "pylock.toml").stat().st_mtime
            lock = (folder / "pylock.toml").read_text()
        except (OSError, ValueError, TypeError, ProtocolError):
            return None
        if not 0 <= age_s <= REMEMBERED_S or lock != self._lock(wheels) or self.missing(wheels):
            return None
        return Remembered(wheels=wheels, lock=folder / "pylock.toml", age_s=age_s)

    def remember(
        self,
        requirements: Requirements,
        target: Target,
        wheels: Sequence[BuiltWheel],
        *,
        local: Sequence[str] = (),
        local_lines: Sequence[str] = (),
        policy: str = "",
    ) -> Remembered:
        """Remember that these requirements, with local sources of these identities, resolved to these wheels, all of
        which are here, under that policy. `local_lines` are the requirements by which the local sources took part."""
        folder = self._lock_folder(requirements, target, local, policy)
        folder.mkdir(parents=True, exist_ok=True)
        lines = [*requirements.lines, *local_lines] or [f"{wheel.name}=={wheel.version}" for wheel in wheels]
        asked = json.dumps({"lines": lines, "target": target.name})
        listed = json.dumps([wheel.to_json() for wheel in wheels])
        for name, text in (("asked.json", asked), ("wheels.json", listed), ("pylock.toml", self._lock(wheels))):
            write_whole(folder / name, text)
        return Remembered(wheels=tuple(wheels), lock=folder / "pylock.toml", age_s=0.0)

    def past_resolutions(self, target: str) -> list[PastResolution]:
        """Everything that was ever resolved for a target of that name and is not removed, newest first."""
        found = []
        for path in self.root.glob("locks/*/asked.json"):
            with suppress(OSError, ValueError, TypeError, LookupError, ProtocolError):
                asked = json.loads(path.read_text())
                listed = path.with_name("wheels.json")
                resolution = PastResolution(
                    asked=tuple(map(str, asked["lines"])),
                    resolved_at=listed.stat().st_mtime,
                    wheels=tuple(map(BuiltWheel.from_json, json.loads(listed.read_text()))),
                )
                found += [resolution] if asked["target"] == target else []
        return sorted(found, key=lambda resolution: -resolution.resolved_at)

    def _lock_folder(self, requirements: Requirements, target: Target, local: Sequence[str], policy: str) -> Path:
        asked = [
            sorted(requirements.lines),
            sorted(requirements.constraints),
            requirements.lock and requirements.lock.identity,
            sorted(local),
            sorted(requirements.preferred.items()),
        ]
        switches = [requirements.prerelease, requirements.require_hashes]
        hashes = {name: sorted(found) for name, found in requirements.hashes.items()}
        facts = ["lock", asked, switches, hashes, target.name, target.revision, "default", policy]
        return self.root / "locks" / digest_of(facts)

    def _lock(self, wheels: Sequence[BuiltWheel]) -> str:
        """A PEP 751 lock; its paths are relative to itself, in `locks/<digest>/`."""
        text = 'lock-version = "1.0"\ncreated-by = "wheelfarm"\n'
        for wheel in wheels:
            path = f"../../wheels/{wheel.sha256}/{wheel.filename}"
            text += f"\n[[packages]]\nname = {json.dumps(wheel.name)}\nversion = {json.dumps(wheel.version)}\n"
            text += f"[[packages.wheels]]\nname = {json.dumps(wheel.filename)}\npath = {json.dumps(path)}\n"
            text += f'size = {wheel.size}\nhashes = {{ sha256 = "{wheel.sha256}" }}\n'
        return text

    def _whole(self, wheel: BuiltWheel) -> bool:
        path = self.wheel(wheel)
        return path.exists() and path.stat().st_size == wheel.size and sha256_of_file(path) == wheel.sha256
