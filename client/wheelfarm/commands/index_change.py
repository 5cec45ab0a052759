"""What the verbs that change what is on the indexes have in common."""

from typing import Any

import click

from wheelfarm.commands.command import reporting
from wheelfarm.errors import InputError
from wheelfarm.index_change import Action, IndexChange

PROJECT = click.argument("project", metavar="PROJECT[==VERSION]")
REASON = click.option("--reason", required=True, help="Why; installers and people are told.")

_TOLD = {
    Action.YANK: "yanked",
    Action.UNYANK: "no longer yanked",
    Action.QUARANTINE: "quarantined",
    Action.RELEASE: "released from quarantine",
    Action.DELETE: "deleted",
}


def change_index(action: Action, project: str, reason: str, *, needs_version: bool, **shared: Any) -> None:
    """Have the farm do it, and tell which files it was about."""
    with reporting(**shared) as command:
        name, version = _parsed(project, needs_version=needs_version)
        with command.farm() as farm:
            change = farm.change_index(action, name, version, reason)
        command.answer(change.to_json(), _lines(change))


def _parsed(text: str, *, needs_version: bool) -> tuple[str, str]:
    """The normalised name and version; "" for every version."""
    from packaging.utils import canonicalize_name
    from packaging.version import Version

    name, separator, version = (part.strip() for part in text.partition("=="))
    try:
        project = canonicalize_name(name, validate=True)
        version = str(Version(version)) if separator or needs_version else ""
    except ValueError as error:  # InvalidName and InvalidVersion are
        raise InputError(f"{text!r} is no project with a version.", hint="Write it as app==1.0") from error
    return project, version


def _lines(change: IndexChange) -> list[str]:
    told = _TOLD[change.action]
    return [f"{told} {filename} on {target}" for target, names in sorted(change.files.items()) for filename in names]
