"""The farm's policy, and which recipes it has, as a command knows them before it asks the farm: what was resolved and
built under others is not taken up.

Those of the embedded farm are files of this machine. Another farm's are asked for, and remembered for as long as its
source index remembers a page.
"""

import json
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from wheelfarm.digest import digest_of, sha256_of_file
from wheelfarm.errors import InputError
from wheelfarm.files import write_whole

if TYPE_CHECKING:
    from wheelfarm.farm import Farm
    from wheelfarm.settings import Settings
    from wheelfarm.wheel import BuiltWheel

_AGE_S = 600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownPolicy:
    """The text of a policy, "" for none, and the digest of the farm's recipes, "" for those of the embedded one where
    it has the shipped ones alone."""

    source: str
    recipes: str = ""

    @property
    def identity(self) -> str:
        """What a resolution is remembered under: both, and with a policy the day (UTC), for exceptions end with one."""
        day = time.strftime("%Y-%m-%d", time.gmtime()) if self.source else ""
        return digest_of([self.source, day, self.recipes]) if self.source or self.recipes else ""

    def require_served(self, wheels: "Iterable[BuiltWheel]") -> None:
        """Raise PolicyRefused where one of these wheels of the farm is of what is denied now."""
        if self.source:
            from wheelfarm.policy_file import parse_policy

            policy = parse_policy(self.source, origin="the farm's policy").policy
            for wheel in wheels:
                policy.require_served(wheel.name, wheel.version)


def local_policy(settings: "Settings") -> KnownPolicy:
    """The policy of an embedded farm that these settings start."""
    recipes = local_recipes(settings)
    if not settings.policy.name:
        return KnownPolicy(source="", recipes=recipes)
    from wheelfarm.toml_table import read_text

    return KnownPolicy(source=read_text(settings.policy), recipes=recipes)


def local_recipes(settings: "Settings") -> str:
    """The digest of the recipes and patches of that farm's operator; "" where there are none, or where they can't be
    read, which the services will tell."""
    with suppress(OSError):
        found = settings.recipes.iterdir() if settings.recipes.name else ()
        paths = sorted(path for path in found if path.suffix in (".toml", ".patch"))
        return digest_of([[path.name, sha256_of_file(path)] for path in paths]) if paths else ""
    return ""


def remembered_policy(folder: Path) -> KnownPolicy | None:
    """What a farm's policy was in the last minutes; None where that is not known."""
    path = folder / "policy.json"
    with suppress(OSError, ValueError, LookupError, TypeError):
        if 0 <= time.time() - path.stat().st_mtime <= _AGE_S:
            told = json.loads(path.read_text())
            return KnownPolicy(source=str(told["source"]), recipes=str(told["recipes"]))
    return None


def ask_policy(farm: "Farm", folder: Path, settings: "Settings") -> KnownPolicy:
    """The policy of the farm, remembered in a folder.

    Raises InputError when an embedded farm runs under another one than this command was given.
    """
    told = farm.policy()
    if not settings.url:
        policy = local_policy(settings)
        if policy.source != told["source"]:
            raise InputError(
                "The farm of this store was started by a command with another policy.",
                hint="Wait until that command has ended, or give both the same WHEELFARM_POLICY.",
            )
        return policy
    policy = KnownPolicy(source=told["source"], recipes=told.get("recipes", ""))
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "policy.json", json.dumps({"source": policy.source, "recipes": policy.recipes}))
    return policy
