"""The farm's parts as processes: whether they are installed here, and what of this process's settings they get."""

import os
import sys
from collections.abc import Sequence
from dataclasses import fields
from importlib.util import find_spec
from typing import Literal, NoReturn

from wheelfarm.errors import FarmUnavailable
from wheelfarm.settings import Settings

Extra = Literal["services", "workers", "all"]

_NEEDED: dict[Extra, tuple[str, ...]] = {
    "services": ("wheelfarm_services", "celery", "starlette"),
    "workers": ("wheelfarm_workers", "celery", "installer"),
    "all": ("wheelfarm_services", "wheelfarm_workers", "celery", "starlette", "installer"),
}
"""Modules that tell a whole installation from the client alone, which has the parts' code but not what they need."""


def is_installed(extra: Extra) -> bool:
    """Whether that extra of the distribution is installed."""
    return all(find_spec(name) is not None for name in _NEEDED[extra])


def become(extra: Extra, module: str, arguments: Sequence[str], settings: Settings) -> NoReturn:
    """Go on as `python -m MODULE`, with these settings. Raises FarmUnavailable where the extra is not installed."""
    if not is_installed(extra):
        raise FarmUnavailable(
            f"This installation lacks the parts of the farm that {module} needs.",
            hint=f"pip install 'wheelfarm[{extra}]'",
        )
    os.execve(sys.executable, [sys.executable, "-m", module, *arguments], environment_of(settings))  # noqa: S606


def environment_of(settings: Settings) -> dict[str, str]:
    """What the farm's processes get: this process's environment, with the settings as they are here."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("WHEELFARM_")}
    given = {field.name: getattr(settings, field.name) for field in fields(settings)}
    changed = {name: value for name, value in given.items() if value != getattr(Settings(), name)}
    texts = {name: str(int(value) if isinstance(value, bool) else value) for name, value in changed.items()}
    return {**others, **{f"WHEELFARM_{name.upper()}": text for name, text in texts.items()}}
