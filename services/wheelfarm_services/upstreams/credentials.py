"""Credentials for an upstream: from its URL, the environment, a file, netrc or the keyring.

They are read when the upstream is asked first, sent to its own origin alone, and told only by where they are from.
User names and passwords are taken as they are: whatever they hold, nobody has to encode it.
"""

import netrc
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from wheelfarm.errors import InputError
from wheelfarm_services.upstreams.settings import UpstreamSettings

_KEYRING_S = 30.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Credentials:
    """What authenticates requests, None for nothing, and what may be `told` of it."""

    auth: httpx.BasicAuth | None
    told: str


def credentials_of(settings: UpstreamSettings, environment: Mapping[str, str] = os.environ) -> Credentials:
    """The credentials that an upstream's settings name. Raises InputError where there are none of that kind."""
    where = f"upstream {settings.name!r}"
    url = httpx.URL(settings.url)
    if url.userinfo:
        return _basic(url.username, url.password, "those of its URL")
    if settings.netrc:
        file = settings.netrc if isinstance(settings.netrc, Path) else _usual_netrc(environment)
        return _from_netrc(file, url.host, where)
    if settings.keyring:
        return _from_keyring(settings.username, settings.url, where)
    if settings.password_file is not None:
        return _basic(
            settings.username, _read_secret(settings.password_file, where), f"those of {settings.password_file}"
        )
    if settings.password_env:
        secret = environment.get(settings.password_env, "")
        if not secret:
            raise InputError(
                f"{where}: its password is to be found in the variable {settings.password_env}, which is not set.",
                hint="Set it where the farm's services run, and nowhere else.",
            )
        return _basic(settings.username, secret, f"those of the variable {settings.password_env}")
    return Credentials(auth=None, told="no credentials were sent, for none are configured")


def _basic(username: str, password: str, origin: str) -> Credentials:
    return Credentials(auth=httpx.BasicAuth(username, password), told=f"credentials were sent, {origin}")


def _read_secret(path: Path, where: str) -> str:
    try:
        return path.read_text().strip()
    except (OSError, ValueError) as error:
        raise InputError(f"{where}: its password file {path} can't be read: {error}.") from error


def _usual_netrc(environment: Mapping[str, str]) -> Path:
    return Path(environment.get("NETRC") or "~/.netrc").expanduser()


def _from_netrc(file: Path, host: str, where: str) -> Credentials:
    try:
        found = netrc.netrc(file).authenticators(host)
    except (OSError, netrc.NetrcParseError) as error:
        raise InputError(f"{where}: {file} can't be read: {error}.") from error
    if found is None:
        raise InputError(f"{where}: {file} has no entry for {host}.")
    return _basic(found[0], found[2] or "", f"those of {file}")


def _from_keyring(username: str, url: str, where: str) -> Credentials:
    """What the `keyring` command has, as uv and pip ask it."""
    command = shutil.which("keyring")
    if command is None:
        raise InputError(f"{where}: the command keyring is not installed.", hint="pip install keyring")
    try:
        done = subprocess.run(
            [command, "get", url, username], capture_output=True, text=True, timeout=_KEYRING_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise InputError(f"{where}: the keyring did not answer within {_KEYRING_S:.0f} s; is it locked?") from None
    if done.returncode != 0 or not done.stdout.strip():
        raise InputError(f"{where}: the keyring has no password of {username!r} for {url}.")
    return _basic(username, done.stdout.rstrip("\n"), "those of the keyring")
