"""The farm's policy as a command knows it before it asks the farm: what was resolved under another one is not taken up.

The embedded farm's policy is a file of this machine. Another farm's is asked for, and remembered for as long as its
source index remembers a page.
"""

import json
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from wheelfarm.digest import digest_of
from wheelfarm.errors import InputError
from wheelfarm.files import write_whole

if TYPE_CHECKING:
    from wheelfarm.farm import Farm
    from wheelfarm.settings import Settings
    from wheelfarm.wheel import BuiltWheel

_AGE_S = 600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownPolicy:
    """The text of a policy, "" for none."""

    source: str

    @property
    def identity(self) -> str:
        """What a resolution is remembered under: the text and the day (UTC), for exceptions end with one."""
        return digest_of([self.source, time.strftime("%Y-%m-%d", time.gmtime())]) if self.source else ""

    def require_served(self, wheels: "Iterable[BuiltWheel]") -> None:
        """Raise PolicyRefused where one of these wheels of the farm is of what is denied now."""
        if self.source:
            from wheelfarm.policy_file import parse_policy

            policy = parse_policy(self.source, origin="the farm's policy").policy
            for wheel in wheels:
                policy.require_served(wheel.name, wheel.version)


def local_policy(settings: "Settings") -> KnownPolicy:
    """The policy of an embedded farm that these settings start."""
    if not settings.policy.name:
        return KnownPolicy(source="")
    from wheelfarm.toml_table import read_text

    return KnownPolicy(source=read_text(settings.policy))


def remembered_policy(folder: Path) -> KnownPolicy | None:
    """What a farm's policy was in the last minutes; None where that is not known."""
    path = folder / "policy.json"
    with suppress(OSError, ValueError, LookupError, TypeError):
        if 0 <= time.time() - path.stat().st_mtime <= _AGE_S:
            return KnownPolicy(source=str(json.loads(path.read_text())["source"]))
    return None


def ask_policy(farm: "Farm", folder: Path, settings: "Settings") -> KnownPolicy:
    """The policy of the farm, remembered in a folder.

    Raises InputError when an embedded farm runs under another one than this command was given.
    """
    policy = KnownPolicy(source=farm.policy()["source"])
    if not settings.url:
        if policy != local_policy(settings):
            raise InputError(
                "The farm of this store was started by a command with another policy.",
                hint="Wait until that command has ended, or give both the same WHEELFARM_POLICY.",
            )
        return policy
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "policy.json", json.dumps({"source": policy.source}))
    return policy
