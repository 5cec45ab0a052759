"""The file of access tokens: what each may do, and a digest of its secret, never the secret itself.

A token is `wf_<id>_<secret>` with 256 random bits of secret. Against guessing, one round of SHA-256 is as good
as any slow hash for such a secret, and a request can't be made expensive by sending wrong ones.
"""

import hashlib
import hmac
import re
import secrets
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from enum import StrEnum
from pathlib import Path
from typing import Any

from wheelfarm.errors import InputError

TOKEN = re.compile(r"wf_([a-z0-9][a-z0-9-]{0,31})_[A-Za-z0-9_-]{43}")
"""The form of a whole token; its group is the id."""

_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_PATTERN = re.compile(r"[A-Za-z0-9._*?\[\]!-]{1,100}")
_FIELDS = {"sha256", "scopes", "targets", "tenant", "expires", "revoked", "note", "requests_per_minute"}


class Scope(StrEnum):
    """What a token is for. BUILD includes READ, ADMIN includes both."""

    READ = "read"
    BUILD = "build"
    ADMIN = "admin"

    def includes(self, other: "Scope") -> bool:
        return list(Scope).index(self) >= list(Scope).index(other)


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenRecord:
    """One token: `targets` are patterns of target names (none: all), `tenant` is who uses it ("" for the farm's own,
    who sees every tenant), `requests_per_minute` its limit (0: none)."""

    id: str
    sha256: str
    scope: Scope
    targets: tuple[str, ...] = ()
    tenant: str = ""
    expires: datetime | None = None
    revoked: bool = False
    note: str = ""
    requests_per_minute: int = 0

    def accepts(self, token: str, now: datetime) -> bool:
        """Whether `token` is this one, and in force; takes the same time however much of it is right."""
        known = hmac.compare_digest(digest(token), self.sha256)
        return known and not self.revoked and (self.expires is None or now < self.expires)


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenFile:
    """All tokens by id, and how many jobs each tenant may have open at once (no entry: any number)."""

    tokens: Mapping[str, TokenRecord] = field(default_factory=dict)
    open_jobs: Mapping[str, int] = field(default_factory=dict)


def new_token(token_id: str) -> str:
    """A fresh token of that id. Raises InputError for what can't be an id."""
    if not _ID.fullmatch(token_id):
        raise InputError(f"{token_id!r} can't be a token's id.", hint="Accepted: up to 32 of a-z, 0-9 and -")
    return f"wf_{token_id}_{secrets.token_urlsafe(32)}"


def digest(token: str) -> str:
    """What the file keeps of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def read_token_file(path: Path) -> TokenFile:
    """The tokens of a file. Raises InputError that tells everything that is wrong with it."""
    try:
        value = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"The token file {path} can't be read: {error.strerror}.") from error
    except ValueError as error:  # of TOML or of UTF-8
        raise InputError(f"The token file {path} is no TOML: {error}.") from error
    found, wrong = parse_token_file(value)
    if wrong:
        raise InputError(f"The token file {path} is not accepted:\n" + "\n".join(f"  {problem}" for problem in wrong))
    return found


def parse_token_file(value: Mapping[str, Any]) -> tuple[TokenFile, list[str]]:
    """The tokens of a parsed file, and what is wrong with it."""
    wrong = [f"{name}: is no part of a token file (tokens, tenants)" for name in set(value) - {"tokens", "tenants"}]
    tables = {part: value.get(part, {}) for part in ("tokens", "tenants")}
    wrong += [f"{part}: a table is expected" for part, table in tables.items() if not isinstance(table, dict)]
    if wrong:
        return TokenFile(), sorted(wrong)
    tokens: dict[str, TokenRecord] = {}
    for token_id, table in tables["tokens"].items():
        problems = list(_problems(token_id, table))
        wrong += [f"tokens.{token_id}: {problem}" for problem in problems]
        if not problems:
            tokens[token_id] = _record(token_id, table)
    open_jobs: dict[str, int] = {}
    for tenant, table in tables["tenants"].items():
        if not _ID.fullmatch(tenant) or not isinstance(table, dict) or set(table) != {"open_jobs"}:
            wrong.append(f"tenants.{tenant}: a table of a tenant with open_jobs is expected")
        elif not _is_count(table["open_jobs"]):
            wrong.append(f"tenants.{tenant}: open_jobs must be a whole number")
        else:
            open_jobs[tenant] = table["open_jobs"]
    return TokenFile(tokens=tokens, open_jobs=open_jobs), wrong


def _problems(token_id: str, table: Any) -> Iterator[str]:
    if not _ID.fullmatch(token_id):
        yield "the id must be up to 32 of a-z, 0-9 and -"
    if not isinstance(table, dict):
        yield "a table is expected"
        return
    if unknown := sorted(set(table) - _FIELDS):
        yield f"{', '.join(unknown)}: unknown (known: {', '.join(sorted(_FIELDS))})"
    if not _matches(table.get("sha256"), _DIGEST):
        yield "sha256 must be 64 hex digits, as `wheelfarm token create` writes them"
    scopes = table.get("scopes")
    if not isinstance(scopes, list) or not scopes or not all(scope in list(Scope) for scope in scopes):
        yield f"scopes must be a list of {', '.join(Scope)}"
    targets = table.get("targets", [])
    if not isinstance(targets, list) or not all(_matches(target, _PATTERN) for target in targets):
        yield "targets must be a list of names or patterns such as 'host-*'"
    if "targets" in table and targets == []:
        yield "targets is empty: leave it out to allow all, or revoke the token"
    if "tenant" in table and not _matches(table["tenant"], _ID):
        yield "tenant must be up to 32 of a-z, 0-9 and -"
    if "expires" in table and not isinstance(table["expires"], date):
        yield "expires must be a date such as 2027-01-31"
    if not isinstance(table.get("revoked", False), bool):
        yield "revoked must be true or false"
    if not _is_count(table.get("requests_per_minute", 0)):
        yield "requests_per_minute must be a whole number"


def _record(token_id: str, table: Mapping[str, Any]) -> TokenRecord:
    return TokenRecord(
        id=token_id,
        sha256=table["sha256"],
        scope=max(map(Scope, table["scopes"]), key=list(Scope).index),
        targets=tuple(table.get("targets", ())),
        tenant=table.get("tenant", ""),
        expires=_instant(table["expires"]) if "expires" in table else None,
        revoked=table.get("revoked", False),
        note=str(table.get("note", "")),
        requests_per_minute=table.get("requests_per_minute", 0),
    )


def _instant(value: date | datetime) -> datetime:
    """When a token expires: a date means its beginning, and what names no zone is in UTC."""
    moment = value if isinstance(value, datetime) else datetime.combine(value, time())
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _matches(value: object, form: re.Pattern[str]) -> bool:
    return isinstance(value, str) and form.fullmatch(value) is not None


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0
