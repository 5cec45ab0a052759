"""The policy file (WHEELFARM_POLICY): TOML, read whole and strictly; what is unknown or malformed is refused by name.

cooldown = "7 days"                    # an sdist enters that long after its upload
yanked = "pinned"                      # or "never"
require-hashes = false                 # true: every request gives the sha256 of every sdist
follow-upstream = "yank"               # or "quarantine", "no"

[[allow]]                              # with any of these, nothing else enters
project = "acme-*"
versions = ">=1"

[[deny]]
project = "example"
versions = "<2.31"
reason = "CVE-2030-0001: leaks credentials on redirects."

[[cooldown-exception]]
project = "example"
versions = "==2.32.1"
reason = "Mends CVE-2030-0001."
expires = 2030-12-31

[[no-upload-time]]
project = "acme-*"
reason = "Our own index tells no upload times."

[[hashes]]
project = "cryptography"
sha256 = ["0f…", "a1…"]

[[prebuilt]]
project = "example-gpu"
version = "1.4"
filename = "example_gpu-1.4-py3-none-any.whl"
sha256 = "5c…"
reason = "Its sources are not published."
expires = 2030-12-31
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import TypeVar

from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import Version

from wheelfarm.digest import SHA256
from wheelfarm.errors import InputError
from wheelfarm.policy import CooldownException, FollowUpstream, Policy, Prebuilt, Rule, Yanked
from wheelfarm.toml_table import Table, load_toml, read_text

T = TypeVar("T")

_PATTERN = re.compile(r"[a-z0-9*?\[\]!-]{1,100}")
_DURATION = re.compile(r"(\d{1,4}) (hour|day|week)s?")
_NO_DATE = date.min


@dataclass(frozen=True, kw_only=True, slots=True)
class PolicyFile:
    """A policy, where it came from, and its text."""

    origin: str
    source: str
    policy: Policy


def read_policy_file(path: Path) -> PolicyFile:
    """Read a policy. Raises InputError naming the file and the key."""
    return parse_policy(read_text(path), origin=str(path))


def parse_policy(text: str, *, origin: str) -> PolicyFile:
    """The policy of a file's text. Raises InputError."""
    table = Table(load_toml(text, origin), origin)
    policy = Policy(
        cooldown=_duration(table, "cooldown"),
        yanked=_yanked(table),
        require_hashes=table.take("require-hashes", bool, False),
        follow_upstream=_follow_upstream(table),
        allow=_entries(table, "allow", lambda entry: _rule(entry, reasoned=False)),
        deny=_entries(table, "deny", _rule),
        cooldown_exceptions=_entries(table, "cooldown-exception", _cooldown_exception),
        untimed=_entries(table, "no-upload-time", _rule),
        hashes=_entries(table, "hashes", _hashes),
        prebuilt=_entries(table, "prebuilt", _prebuilt),
    )
    table.end()
    return PolicyFile(origin=origin, source=text, policy=policy)


def _entries(table: Table, key: str, read: Callable[[Table], T]) -> tuple[T, ...]:
    found = []
    for number, value in enumerate(table.take(key, list, []), 1):
        entry = Table(value, f"{table.origin}, {key} {number}")
        found.append(read(entry))
        entry.end()
    return tuple(found)


def _rule(entry: Table, *, reasoned: bool = True) -> Rule:
    pattern = entry.take("project", str, "")
    if not _PATTERN.fullmatch(pattern):
        raise entry.refused("project", f"{pattern!r} is no normalised name or pattern of such (acme-*)")
    reason = _reason(entry) if reasoned else entry.take("reason", str, "")
    return Rule(project=pattern, versions=entry.specifier("versions"), reason=reason)


def _cooldown_exception(entry: Table) -> CooldownException:
    return CooldownException(rule=_rule(entry), expires=_expires(entry))


def _hashes(entry: Table) -> tuple[str, frozenset[str]]:
    hashes = entry.take("sha256", list, [])
    if not hashes or not all(isinstance(one, str) and SHA256.fullmatch(one) for one in hashes):
        raise entry.refused("sha256", "a list of sha256s (64 lower-case hex digits each) is expected")
    return _project(entry), frozenset(hashes)


def _prebuilt(entry: Table) -> Prebuilt:
    project, version, filename = _project(entry), entry.take("version", str, ""), entry.take("filename", str, "")
    try:
        told, told_version, _, _ = parse_wheel_filename(filename)
        of_it = told == project and told_version == Version(version)
    except ValueError:  # InvalidWheelFilename, InvalidVersion
        of_it = False
    if not of_it:
        raise entry.refused("filename", f"{filename!r} is not the name of a wheel of {project} {version!r}")
    sha256 = entry.take("sha256", str, "")
    if not SHA256.fullmatch(sha256):
        raise entry.refused("sha256", f"64 lower-case hex digits are expected, not {sha256!r:.80}")
    return Prebuilt(
        project=project,
        version=str(Version(version)),
        filename=filename,
        sha256=sha256,
        reason=_reason(entry),
        expires=_expires(entry),
    )


def _project(entry: Table) -> str:
    name = entry.take("project", str, "")
    if not name or canonicalize_name(name) != name:
        raise entry.refused("project", f"a normalised name is expected, not {name!r:.80}")
    return name


def _reason(entry: Table) -> str:
    reason = " ".join(entry.take("reason", str, "").split())
    if not reason or not reason.isprintable():
        raise InputError(f"{entry.origin}: 'reason' is missing: users are told why.")
    return reason.rstrip(".")


def _expires(entry: Table) -> date:
    expires = entry.take("expires", date, _NO_DATE)
    if expires == _NO_DATE:
        raise InputError(f"{entry.origin}: 'expires' is missing: the last day of the exception, such as 2030-12-31.")
    return expires


def _duration(table: Table, key: str) -> timedelta:
    text = table.take(key, str, "")
    found = _DURATION.fullmatch(text)
    if text and not found:
        raise table.refused(key, f"a time such as '7 days', '12 hours' or '2 weeks' is expected, not {text!r:.80}")
    return timedelta(**{f"{found[2]}s": int(found[1])}) if found else timedelta()


def _yanked(table: Table) -> Yanked:
    match table.take("yanked", str, "pinned"):
        case "pinned":
            return "pinned"
        case "never":
            return "never"
        case other:
            raise table.refused("yanked", f"'pinned' or 'never' is expected, not {other!r:.80}")


def _follow_upstream(table: Table) -> FollowUpstream:
    match table.take("follow-upstream", str, "yank"):
        case "yank":
            return "yank"
        case "quarantine":
            return "quarantine"
        case "no":
            return "no"
        case other:
            raise table.refused("follow-upstream", f"'yank', 'quarantine' or 'no' is expected, not {other!r:.80}")
