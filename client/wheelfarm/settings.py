"""Settings: read once from the environment at an entry point, checked there, passed down."""

import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from wheelfarm.errors import InputError

SandboxName = Literal["bubblewrap", "none"]
LogFormat = Literal["text", "json"]
Addressing = Literal["auto", "path", "virtual"]
_PREFIX = "WHEELFARM_"
_OF_PATHS = ("file", "redis+socket")
"""URL schemes that name a path of this machine, not a host."""
_RUNTIME = re.compile(r"[A-Za-z0-9/][A-Za-z0-9._/-]{0,199}")
RESOURCE_CLASS = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
_BUCKET = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9_!+=~-][A-Za-z0-9._!+=~-]*)*")


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """One deployment in three URLs (farm, broker, store), and how builds run in it.

    Each field is read from the variable WHEELFARM_<FIELD>. Without `url` a command uses the embedded farm of its
    `store`, whose `url`, `broker` and `token` its keeper makes up. Times are in seconds, sizes in MiB.
    """

    url: str = ""
    token: str = ""
    broker: str = ""
    store: str = ""
    index: str = ""
    cache: Path = Path()
    cache_mib: int = 20480
    """How large a worker's cache of sdists and trees may grow; 0: without a bound."""
    sandbox: SandboxName = "bubblewrap"
    slots: int = 2
    lease_s: float = 30.0
    drain_s: float = 25.0
    """How long a worker that is told to end goes on with the jobs that it has; then it hands them back."""
    store_patience_s: float = 900.0
    """How long a worker keeps what it has made while the store can't be reached; then its job fails, to be retried."""
    request_alive_s: float = 900.0
    """How long a request lives that its client asks no more about, for it may have been killed; detached ones stay."""
    build_timeout_s: float = 3600.0
    build_memory_mib: int = 8192
    build_disk_mib: int = 4096
    build_cores: int = 0
    """How many cores one build may use at once; 0: as many as the worker has, and memory of 1 GiB each allows."""
    upstreams: Path = Path()
    """The file that says which upstreams sdists come from; without one they come from `index`, or from the index that
    this machine's tools use."""
    offline: bool = False
    """Whether the source index asks no upstream: it lists and gives what is in the store."""
    recipes: Path = Path()
    """The operator's own recipe files; one of a project that the farm has a recipe for replaces it."""
    targets: Path = Path()
    """The folder of the target definitions and root filesystems of this machine (docs/targets.md)."""
    resource_class: str = ""
    """What a worker's machine is good for, as its operator calls it: targets of that class are built on such alone."""
    container_runtime: str = ""
    """The runtime that podman and docker are told to use; not given: runc, where podman finds it, or the engine's."""
    policy: Path = Path()
    """The policy file: what may enter the farm (docs/policy.md)."""
    s3_endpoint: str = ""
    """The server of an `s3://` store where it is not AWS; credentials come by boto3's own chain."""
    s3_region: str = ""
    s3_ca: Path = Path()
    """The certificates to trust when talking to that server."""
    s3_addressing: Addressing = "auto"
    """Whether the bucket stands in the path or in the host name; auto: in the path where an endpoint is given."""
    tokens: Path = Path()
    """The file of the tokens that the API takes beside `token`: digests, never secrets (docs/tokens.md)."""
    audit: Path = Path()
    """Where the API writes who did what, one JSON line each; not given: into its log."""
    logs: Path = Path()
    """A folder for the logs of services and workers, a file each that is rotated; else they go to stderr."""
    log_format: LogFormat = "text"
    """Whether a line of those logs is text or a JSON object."""
    metrics: str = ""
    """HOST:PORT where a service, a reconciler or a worker tells its metrics, to whoever asks; not given: nowhere."""
    on_demand: str = ""
    """For services: patterns of the targets, with commas between, whose index has built what it lacks for whoever asks
    and may (docs/clients.md)."""
    worker: str = ""
    """The worker's name. One that is given again says that its former bearer is dead: its jobs are taken back."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], *, required: Collection[str] = ()) -> "Settings":
        """Raises InputError naming every variable that is unknown, malformed or, of those `required`, not given, with
        its value and what is accepted."""
        given = {name.removeprefix(_PREFIX): value for name, value in environment.items() if name.startswith(_PREFIX)}
        known = {field.name.upper(): field.name for field in fields(cls)}
        values = {
            "store": _default_store(environment),
            "cache": str(_default_cache(environment)),
            "targets": str(_default_targets(environment)),
            "slots": _cores(),
        }
        values |= {known[name]: value for name, value in given.items() if value and name in known}
        errors = [_unknown(name, known) for name in sorted(set(given) - set(known))]
        errors += [_missing(name) for name in required if not values.get(name)]
        read: dict[str, object] = {}
        for name, value in values.items():
            try:
                read[name] = _ACCEPT.get(name, _text)(name, value)
            except InputError as error:
                errors.append(error)
        if errors:
            raise all_in_one(errors)
        return cls(**read)  # type: ignore[arg-type]


def require_all(checks: Iterable[Callable[[], object]]) -> None:
    """Run all the checks. Raises one InputError that tells everything that they raise."""
    errors = []
    for check in checks:
        try:
            check()
        except InputError as error:
            errors.append(error)
    if errors:
        raise all_in_one(errors)


def all_in_one(errors: Sequence[InputError]) -> InputError:
    """One error that tells all of them, each with its hint."""
    if len(errors) == 1:
        return errors[0]
    told = "\n".join(f"  {error.message}" + (f" {error.hint}" if error.hint else "") for error in errors)
    return InputError(f"{len(errors)} settings are not accepted:\n{told}")


def _unknown(name: str, known: Mapping[str, str]) -> InputError:
    accepted = ", ".join(_PREFIX + name for name in sorted(known))
    return InputError(f"{_PREFIX}{name} is not a setting.", hint=f"Settings: {accepted}")


def _missing(name: str) -> InputError:
    return InputError(f"{_PREFIX}{name.upper()} is not given, and nothing can be done without it here.")


def _default_store(environment: Mapping[str, str]) -> str:
    return (_xdg(environment, "XDG_DATA_HOME", ".local/share") / "wheelfarm").as_uri()


def _default_cache(environment: Mapping[str, str]) -> Path:
    return _xdg(environment, "XDG_CACHE_HOME", ".cache") / "wheelfarm"


def _default_targets(environment: Mapping[str, str]) -> Path:
    return _xdg(environment, "XDG_DATA_HOME", ".local/share") / "wheelfarm-targets"


def _xdg(environment: Mapping[str, str], variable: str, fallback: str) -> Path:
    given = Path(environment.get(variable, ""))
    return given if given.is_absolute() else Path(environment.get("HOME") or Path.home()) / fallback


def _cores() -> str:
    return str(min(8, len(os.sched_getaffinity(0))))


def _text(name: str, value: str) -> str:
    return value


def _url(*schemes: str) -> Callable[[str, str], str]:
    def accept(name: str, value: str) -> str:
        try:
            parts = urlsplit(value)
            whole = parts.scheme in schemes and bool(parts.path if parts.scheme in _OF_PATHS else parts.hostname)
        except ValueError:
            whole = False
        if not whole or (parts.scheme in _OF_PATHS and parts.netloc):
            accepted = " or ".join(f"{scheme}://{'/' if scheme in _OF_PATHS else ''}…" for scheme in schemes)
            raise _malformed(name, _without_password(value), accepted)
        return value.rstrip("/")

    return accept


def _farm_url(name: str, value: str) -> str:
    url = _url("http", "https")(name, value)
    if "@" in urlsplit(url).netloc:
        raise InputError(
            f"{_PREFIX}{name.upper()}={_without_password(value)!r} holds credentials, which would get about with it.",
            hint="Give the farm's token as WHEELFARM_TOKEN.",
        )
    return url


def _store(name: str, value: str) -> str:
    if value.startswith("s3://"):
        if not _BUCKET.fullmatch(value.rstrip("/")):
            raise _malformed(name, _without_password(value), "s3://bucket or s3://bucket/prefix")
        return value.rstrip("/")
    return _url("file")(name, Path(value).absolute().as_uri() if "://" not in value else value)


def _endpoint(name: str, value: str) -> str:
    if "@" in value:
        raise _malformed(name, _without_password(value), "a URL without credentials: those come by boto3's own chain")
    return _url("http", "https")(name, value)


def _switch(name: str, value: str) -> bool:
    if value not in ("0", "1"):
        raise _malformed(name, value, "1 or 0")
    return value == "1"


def _path(name: str, value: str) -> Path:
    return Path(value).absolute()


def _one_of(*accepted: str) -> Callable[[str, str], str]:
    def accept(name: str, value: str) -> str:
        if value not in accepted:
            raise _malformed(name, value, " or ".join(accepted))
        return value

    return accept


def _number(kind: type[int] | type[float], low: float, high: float) -> Callable[[str, str], float]:
    def accept(name: str, value: str) -> float:
        try:
            number = kind(value)
        except ValueError:
            number = kind(-1)
        if not low <= number <= high:
            raise _malformed(name, value, f"a {'whole ' if kind is int else ''}number from {low:.7g} to {high:.7g}")
        return number

    return accept


def _address(name: str, value: str) -> str:
    from wheelfarm.listening import Address  # which most commands have no use for

    try:
        Address.parse(value)
    except InputError as error:
        raise _malformed(name, value, "HOST:PORT") from error
    if value.startswith("unix:"):
        raise _malformed(name, value, "HOST:PORT")
    return value


def _matching(pattern: re.Pattern[str], form: str) -> Callable[[str, str], str]:
    def accept(name: str, value: str) -> str:
        if not pattern.fullmatch(value):
            raise _malformed(name, value, form)
        return value

    return accept


def _malformed(name: str, value: str, accepted: str) -> InputError:
    return InputError(f"{_PREFIX}{name.upper()}={value!r} is not accepted.", hint=f"Accepted: {accepted}")


def _without_password(url: str) -> str:
    """The URL as it may be shown, however malformed: nothing of what stands before its last `@` but the scheme."""
    return re.sub(r"^([A-Za-z][A-Za-z0-9+.-]*://)?.*@", r"\1…@", url, flags=re.DOTALL)


_ACCEPT: Mapping[str, Callable[[str, str], object]] = {
    "url": _farm_url,
    "broker": _url("redis", "rediss", "redis+socket"),
    "store": _store,
    "index": _url("http", "https"),
    "cache": _path,
    "s3_endpoint": _endpoint,
    "s3_ca": _path,
    "s3_addressing": _one_of("auto", "path", "virtual"),
    "sandbox": _one_of("bubblewrap", "none"),
    "cache_mib": _number(int, 0, 1 << 30),
    "slots": _number(int, 1, 64),
    "lease_s": _number(float, 1, 3600),
    "request_alive_s": _number(float, 10, 7 * 86400),
    "drain_s": _number(float, 0, 7 * 86400),
    "store_patience_s": _number(float, 0, 7 * 86400),
    "build_timeout_s": _number(float, 1, 7 * 86400),
    "build_memory_mib": _number(int, 64, 1 << 20),
    "build_disk_mib": _number(int, 64, 1 << 20),
    "build_cores": _number(int, 0, 1024),
    "recipes": _path,
    "policy": _path,
    "targets": _path,
    "resource_class": _matching(RESOURCE_CLASS, "lower-case letters, digits, . _ and -, 100 at most"),
    "container_runtime": _matching(_RUNTIME, "a name, such as runc or runsc, or a path"),
    "logs": _path,
    "log_format": _one_of("text", "json"),
    "metrics": _address,
    "upstreams": _path,
    "offline": _switch,
    "worker": _matching(re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"), "letters, digits, . _ and -, 100 at most"),
    "on_demand": _matching(
        re.compile(r"[A-Za-z0-9._*?\[\]!-]+(,[A-Za-z0-9._*?\[\]!-]+)*"),
        "patterns of target names, such as host-*,el9-*",
    ),
    "tokens": _path,
    "audit": _path,
}
