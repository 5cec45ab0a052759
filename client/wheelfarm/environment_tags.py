"""Which wheels an environment takes, asked of its own interpreter every time, for no memory knows of `_manylinux`.

PEP 600 lets a distributor, or the project no-manylinux, tell by a module `_manylinux`, in site-packages or on
PYTHONPATH, that manylinux wheels are not wanted. Installers that remember what an interpreter told go by what was true
once.
"""

import json
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from wheelfarm.errors import BadInterpreter, UnfitTarget
from wheelfarm.target import Target
from wheelfarm.wheel import BuiltWheel

_ASK = """
import importlib.util, json, sys
spec = importlib.util.spec_from_file_location("packaging", sys.argv[1], submodule_search_locations=[sys.argv[2]])
sys.modules["packaging"] = importlib.util.module_from_spec(spec)
from packaging.tags import sys_tags
json.dump([str(tag) for tag in sys_tags()], sys.stdout)
"""
_PATIENCE_S = 30.0


@dataclass(frozen=True, kw_only=True, slots=True)
class EnvironmentTags:
    """The tags of the wheels that an environment takes, as texts."""

    shown: str
    tags: frozenset[str]

    def takes(self, wheel: BuiltWheel) -> bool:
        """Whether one of the tags in a wheel's name is among them."""
        return not self.tags.isdisjoint(wheel.tags)

    def suits(self, target: Target) -> bool:
        """Whether compiled wheels of a target may be for it: its ABI, its machine, and tags of the target's policy."""
        machine = target.platform.replace("-", "_")
        if f"{target.abi}-{target.abi}-{machine}" not in self.tags:
            return False
        libc = ("manylinux", "musllinux")
        return target.tag_policy == "native" or any(tag.split("-")[2].startswith(libc) for tag in self.tags)


def environment_tags(python: Path, shown: str) -> EnvironmentTags:
    """What the environment of an interpreter takes now. Raises BadInterpreter where that does not tell."""
    import packaging

    package = Path(packaging.__file__)
    command = [str(python), "-c", _ASK, str(package), str(package.parent)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S, check=False)
        tags = frozenset(map(str, json.loads(done.stdout.splitlines()[-1])))
    except (OSError, ValueError, IndexError, TypeError, subprocess.TimeoutExpired) as error:
        raise BadInterpreter(f"{python} does not tell which wheels it takes ({type(error).__name__}).") from error
    return EnvironmentTags(shown=shown, tags=tags)


def require_fit(
    wheels: Sequence[BuiltWheel], target: Target, environment: EnvironmentTags, others: Iterable[Target]
) -> None:
    """Raise UnfitTarget, naming the targets that suit it, unless an environment takes all wheels of a target."""
    unfit = [wheel for wheel in wheels if not environment.takes(wheel)]
    if not unfit:
        return
    named = ", ".join(wheel.filename for wheel in unfit[:3]) + (", …" if len(unfit) > 3 else "")
    raise UnfitTarget(
        f"{environment.shown} does not take what was built for {target.name}: {named}.",
        hint=near_targets(environment, (other for other in others if other.name != target.name)),
    )


def near_targets(environment: EnvironmentTags, targets: Iterable[Target]) -> str:
    """What to say of the targets there are: those that suit an environment, or else all."""
    listed = list(targets)
    suited = [target for target in listed if environment.suits(target)]
    told = ", ".join(
        f"{target.name} ({target.abi}, {target.platform}, {target.tag_policy})" for target in suited or listed
    )
    if suited:
        return f"Targets that suit it: {told}"
    return f"No target suits it. There are: {told}" if told else "There is no other target: wheelfarm target add"
