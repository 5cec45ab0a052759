"""The upstreams file (docs/upstreams.md), read and checked by pydantic, which is imported where there is one."""

import re
import tomllib
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from packaging.utils import canonicalize_name
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from wheelfarm.errors import InputError
from wheelfarm_services.upstreams.settings import Routes, UpstreamSettings, may_match_the_same

_FILE_BYTES = 1 << 20
_PATTERN = re.compile(r"[A-Za-z0-9._*?-]{1,100}")
_PATHS = ("ca", "password-file", "netrc")


def _pattern(text: str) -> str:
    if not _PATTERN.fullmatch(text):
        raise ValueError("names are expected, in which * and ? stand for others")
    return canonicalize_name(text)


def _error_code(code: int) -> int:
    if code == 404:
        raise ValueError("404 means absent anyway")
    return code


Pattern = Annotated[str, AfterValidator(_pattern)]
ErrorCode = Annotated[int, Field(ge=400, le=599), AfterValidator(_error_code)]


class _Table(BaseModel):
    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        alias_generator=lambda name: name.replace("_", "-"),
        populate_by_name=True,
    )


class _Upstream(_Table):
    """A table `[[upstream]]`."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,59}$")]
    url: str
    kind: Literal["simple", "flat", "directory"] = "simple"
    serves: tuple[Pattern, ...] = Field(default=(), strict=False)
    public: bool = True
    username: str = ""
    password_env: str = ""
    password_file: Path | None = Field(default=None, strict=False)
    netrc: bool | Annotated[Path, Field(strict=False)] = False
    keyring: bool = False
    ca: Path | None = Field(default=None, strict=False)
    retries: Annotated[int, Field(ge=0, le=10)] = 2
    timeout: Annotated[float, Field(ge=1, le=600)] = 30.0
    requests_per_s: Annotated[float, Field(ge=0.01, le=10_000)] = 0.0
    ignore_error_codes: tuple[ErrorCode, ...] = Field(default=(), strict=False)
    trust_metadata: bool = False

    @field_validator("url")
    @classmethod
    def _is_plain(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https", "file") or not (parts.hostname or parts.scheme == "file"):
            raise ValueError("a URL is expected that begins with https://, http:// or file:///")
        if parts.username is not None or parts.password is not None:
            raise ValueError("it holds credentials; give username and password-env, password-file or keyring, or netrc")
        return url

    @model_validator(mode="before")
    @classmethod
    def _kind_by_url(cls, table: Any) -> Any:
        if isinstance(table, dict) and str(table.get("url", "")).startswith("file:"):
            return {"kind": "directory", **table}
        return table

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.kind == "directory") is not self.url.startswith("file:"):
            raise ValueError(f"kind {self.kind!r} does not go with {self.url}")
        ways = [name for name in ("password_env", "password_file", "netrc", "keyring") if getattr(self, name)]
        if len(ways) > 1:
            raise ValueError(f"{' and '.join(ways).replace('_', '-')} exclude each other")
        if bool(self.username) is not bool(set(ways) - {"netrc"}):
            raise ValueError("username and one of password-env, password-file and keyring belong together")
        return self


class _File(_Table):
    upstream: tuple[_Upstream, ...] = Field(min_length=1, strict=False)
    internal: tuple[Pattern, ...] = Field(default=(), strict=False)

    @model_validator(mode="after")
    def _is_unambiguous(self) -> Self:
        wrong = []
        names = [one.name for one in self.upstream]
        wrong += [f"two upstreams are named {name!r}" for name in sorted(set(names)) if names.count(name) > 1]
        served = [(one, pattern) for one in self.upstream for pattern in one.serves]
        wrong += [
            f"{mine!r} of {one.name!r} and {theirs!r} of {other.name!r} may stand for the same name, which only one "
            "upstream may serve by a pattern"
            for (one, mine), (other, theirs) in combinations(served, 2)
            if one is not other and may_match_the_same(mine, theirs)
        ]
        wrong += [
            f"{pattern!r} is internal, and {one.name!r}, which serves {theirs!r}, is public"
            for pattern in self.internal
            for one, theirs in served
            if one.public and may_match_the_same(pattern, theirs)
        ]
        if self.internal and all(one.public for one in self.upstream):
            wrong.append("there are internal names, and no upstream with public = false, which alone could serve them")
        if wrong:
            raise ValueError("; ".join(wrong))
        return self


def read_upstreams(path: Path) -> Routes:
    """Read an upstreams file; paths in it are relative to its folder. Raises InputError that names everything that is
    wrong with it."""
    try:
        with path.open("rb") as file:
            data = file.read(_FILE_BYTES + 1)
        if len(data) > _FILE_BYTES:
            raise ValueError(f"it is larger than {_FILE_BYTES >> 20} MiB")
        value = tomllib.loads(data.decode())
    except (OSError, ValueError) as error:
        raise InputError(f"The upstreams file {path} can't be read: {error}.") from error
    for table in value.get("upstream", []) if isinstance(value.get("upstream"), list) else []:
        for key in _PATHS:
            if isinstance(table, dict) and isinstance(table.get(key), str):
                table[key] = path.parent / Path(table[key]).expanduser()
    try:
        found = _File.model_validate(value)
    except ValidationError as error:
        wrong = "; ".join(_told(one["loc"], one["msg"], value) for one in error.errors())
        raise InputError(f"The upstreams file {path}: {wrong}.", hint="docs/upstreams.md has its format.") from None
    tables = tuple(UpstreamSettings(**one.model_dump()) for one in found.upstream)
    return Routes(upstreams=tables, internal=found.internal)


def _told(place: tuple[int | str, ...], message: str, value: Any) -> str:
    """One error as people read it: which upstream, which key, what is wrong. Values are not repeated: one may be a
    secret in the wrong place."""
    where = [str(part) for part in place]
    if len(place) > 1 and isinstance(place[1], int):
        table = value["upstream"][place[1]]
        name = table.get("name") if isinstance(table, dict) else None
        where[:2] = [f"upstream {name!r}" if isinstance(name, str) else f"upstream {place[1] + 1}"]
    return " ".join([*where[:2], message.removeprefix("Value error, ").replace("Extra inputs are", "the key is")])
