"""`wheelfarm token`: make, list and revoke the tokens of a farm's token file."""

import fcntl
import os
import re
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wheelfarm.commands.command import Command, reporting, shared_options
from wheelfarm.errors import InputError, NotFound
from wheelfarm.token_file import Scope, TokenFile, TokenRecord, digest, new_token, parse_token_file, read_token_file

if TYPE_CHECKING:
    from tomlkit import TOMLDocument

_FILE = click.option("--file", type=click.Path(path_type=Path), help="The token file, instead of WHEELFARM_TOKENS.")


@click.group("token")
def token_command() -> None:
    """Make, list and revoke tokens of the token file. The services read the file again when it has changed."""


@token_command.command("create")
@click.option("--id", "token_id", help="Its name in the file and the audit log. Default: made up.")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice([scope.value for scope in Scope]),
    multiple=True,
    help="What it may do. Default: read.",
)
@click.option("--target", "targets", multiple=True, help="A target, or a pattern of targets, that it is for.")
@click.option("--tenant", help="Whose it is: it sees nothing of other tenants. Without one it sees every tenant.")
@click.option("--expires", help="When it ends: a date (2027-01-31) or from now on (90d, 12h).")
@click.option("--requests-per-minute", type=click.IntRange(min=1), help="How often it may be used.")
@click.option("--note", help="What it is for.")
@_FILE
@shared_options
def create_command(token_id: str | None, file: Path | None, scopes: tuple[str, ...], **given: Any) -> None:
    """Make a token and print it: this once, for the file keeps a digest only."""
    facts = {name: given.pop(name) for name in ("targets", "tenant", "expires", "requests_per_minute", "note")}
    with reporting(**given) as command:
        path = _path(command, file)
        name = token_id or secrets.token_hex(4)
        token = new_token(name)
        entry: dict[str, Any] = {"sha256": digest(token), "scopes": list(scopes or [Scope.READ])}
        entry |= {fact: value for fact, value in facts.items() if value}
        if "targets" in entry:
            entry["targets"] = list(facts["targets"])
        if facts["expires"]:
            entry["expires"] = expiry(facts["expires"], datetime.now(UTC))
        with _edited(path) as document:
            tokens = document.setdefault("tokens", _table(is_super=True))
            if name in tokens:
                raise InputError(f"{path} has a token {name!r} already.", hint="Give another --id, or revoke that one.")
            tokens[name] = entry
        command.reporter.say(f"{name} is in {path}; what follows is shown this once:")
        command.answer({"id": name, "token": token, "file": str(path)}, [token])


@token_command.command("list")
@_FILE
@shared_options
def list_command(file: Path | None, **given: Any) -> None:
    """List the tokens: what they may do, and until when."""
    with reporting(**given) as command:
        found = read_token_file(_path(command, file))
        now = datetime.now(UTC)
        command.answer(_as_json(found, now), [_line(token, now) for token in found.tokens.values()])


@token_command.command("revoke")
@click.argument("token_id", metavar="ID")
@_FILE
@shared_options
def revoke_command(token_id: str, file: Path | None, **given: Any) -> None:
    """Refuse a token from now on. Its entry stays, so that its id is not given twice."""
    with reporting(**given) as command:
        path = _path(command, file)
        with _edited(path) as document:
            if token_id not in document.get("tokens", {}):
                raise NotFound(f"{path} has no token {token_id!r}.", hint="wheelfarm token list")
            document["tokens"][token_id]["revoked"] = True
        command.answer({"id": token_id, "revoked": True}, [f"{token_id} is revoked"])


def expiry(text: str, now: datetime) -> datetime:
    """The end of a token's time, whole seconds in UTC. Raises InputError."""
    if span := re.fullmatch(r"(\d{1,5})([dh])", text):
        number = int(span[1])
        return (now + (timedelta(days=number) if span[2] == "d" else timedelta(hours=number))).replace(microsecond=0)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InputError(f"{text!r} is no time.", hint="Give a date such as 2027-01-31, or 90d, or 12h.") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _path(command: Command, file: Path | None) -> Path:
    path = file or command.settings.tokens
    if not path.name:
        raise InputError("No token file is named.", hint="Set WHEELFARM_TOKENS, or give --file.")
    return path


@contextmanager
def _edited(path: Path) -> "Iterator[TOMLDocument]":
    """The file to be changed, what people wrote in it kept; written whole or not at all, one writer at a time."""
    try:
        import tomlkit
    except ImportError:
        raise InputError(
            "Tokens are made where the farm's services are installed.", hint="pip install wheelfarm[services]"
        ) from None
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if path.exists():
            read_token_file(path)
        document = tomlkit.parse(path.read_text(encoding="utf-8") if path.exists() else "")
        yield document
        if wrong := parse_token_file(document.unwrap())[1]:
            raise InputError("That can't be a token: " + "; ".join(wrong) + ".")
        _replace(path, tomlkit.dumps(document))
    finally:
        os.close(lock)


def _replace(path: Path, text: str) -> None:
    """Written beside and moved into place; readable as it was before, a new file to its owner alone."""
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o600
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), mode)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)


def _table(*, is_super: bool) -> Any:
    import tomlkit

    return tomlkit.table(is_super_table=is_super)


def _state(token: TokenRecord, now: datetime) -> str:
    if token.revoked:
        return "revoked"
    return "expired" if token.expires and token.expires <= now else "in force"


def _line(token: TokenRecord, now: datetime) -> str:
    until = f" until {token.expires:%Y-%m-%d %H:%M} UTC" if token.expires else ""
    facts = [token.scope, f"tenant {token.tenant}" if token.tenant else "", " ".join(token.targets), token.note]
    return f"{token.id}  {_state(token, now)}{until}  " + "  ".join(fact for fact in facts if fact)


def _as_json(found: TokenFile, now: datetime) -> dict[str, Any]:
    return {
        "tokens": [
            {
                "id": token.id,
                "scope": token.scope,
                "state": _state(token, now),
                "targets": list(token.targets),
                "tenant": token.tenant,
                "expires": token.expires.isoformat() if token.expires else None,
                "note": token.note,
            }
            for token in found.tokens.values()
        ]
    }
