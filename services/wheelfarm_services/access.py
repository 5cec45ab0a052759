"""Who asks, and what that allows: tokens of the token file, and the farm's own token."""

import hmac
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path

from starlette.requests import HTTPConnection

from wheelfarm.errors import Forbidden, InputError
from wheelfarm.token_file import TOKEN, Scope, TokenFile, TokenRecord, digest, read_token_file
from wheelfarm_services.basic_auth import basic_credentials

logger = logging.getLogger(__name__)

PRINCIPAL = "wheelfarm.principal"
"""Under this key a request's scope has who sent it, once that is known."""
_NOBODY = TokenRecord(id="", sha256=digest(""), scope=Scope.READ, revoked=True)

_GONE = (-1,)


@dataclass(frozen=True, kw_only=True, slots=True)
class Principal:
    """The bearer of a token. Without a tenant, or with the scope admin, it sees what belongs to any tenant."""

    token: str
    scope: Scope
    tenant: str = ""
    targets: tuple[str, ...] = ()
    requests_per_minute: int = 0

    @property
    def sees_all(self) -> bool:
        return not self.tenant or self.scope is Scope.ADMIN

    def may_see(self, tenant: str) -> bool:
        """Whether what belongs to that tenant is shown."""
        return self.sees_all or self.tenant == tenant

    def resolution(self, resolution_id: str) -> str:
        """The id of a resolution, kept apart from those of other tenants."""
        return f"{self.tenant}:{resolution_id}" if self.tenant else resolution_id

    def require(self, scope: Scope) -> None:
        """Raises Forbidden naming the scope that is missing."""
        if not self.scope.includes(scope):
            raise Forbidden(
                f"The token {self.token!r} has the scope {self.scope!r}, and this needs {scope!r}.",
                hint="Ask those who run the farm for a token with that scope.",
            )

    def may_use(self, target: str) -> bool:
        """Whether the token is for a target of that name."""
        return not self.targets or any(fnmatchcase(target, pattern) for pattern in self.targets)

    def require_target(self, name: str) -> None:
        """Raises Forbidden naming the target that the token is not for."""
        if not self.may_use(name):
            raise Forbidden(
                f"The token {self.token!r} is not for the target {name!r}, but for {', '.join(self.targets)}.",
                hint="Ask those who run the farm for a token for that target.",
            )


OPERATOR = Principal(token="WHEELFARM_TOKEN", scope=Scope.ADMIN)  # noqa: S106  (its name, not its value)
"""The bearer of the farm's own token."""


class Access:
    """Recognises tokens: the farm's own, and those of a token file, which is read again when it has changed."""

    def __init__(self, token: str, file: Path | None = None, *, now: Callable[[], datetime] | None = None) -> None:
        self._token = token.encode()
        self._path = file
        self._now = now or (lambda: datetime.now(UTC))
        self._read = read_token_file(file) if file else TokenFile()
        self._stamp = _stamp(file)

    def principal(self, authorization: str) -> Principal | None:
        """The bearer of the token in an `Authorization` header: Bearer, or Basic's password; None for nobody."""
        scheme, _, given = authorization.partition(" ")
        secret = basic_credentials(authorization)[1] if scheme.lower() == "basic" else given.strip()
        if scheme.lower() not in ("basic", "bearer") or not secret:
            return None
        if self._token and hmac.compare_digest(secret.encode(), self._token):
            return OPERATOR
        found = TOKEN.fullmatch(secret)
        record = self._tokens().tokens.get(found[1], _NOBODY) if found else _NOBODY
        if not record.accepts(secret, self._now()):
            return None
        return Principal(
            token=record.id,
            scope=record.scope,
            tenant=record.tenant,
            targets=record.targets,
            requests_per_minute=record.requests_per_minute,
        )

    def open_jobs(self, tenant: str) -> int | None:
        """How many jobs a tenant may have open at once; None: any number."""
        return self._tokens().open_jobs.get(tenant)

    def _tokens(self) -> TokenFile:
        """The file as it is now; as it was, while what is in it is wrong; none of its tokens, where it is gone."""
        stamp = _stamp(self._path)
        if self._path is not None and stamp != self._stamp:
            try:
                self._read = read_token_file(self._path)
                logger.info("token file read again", extra={"tokens": len(self._read.tokens)})
            except InputError as error:
                if stamp == _GONE:
                    self._read = TokenFile()
                    logger.error("token file gone, none of its tokens is taken", extra={"reason": error.message})
                else:
                    logger.error("token file not accepted, the last one stands", extra={"reason": error.message})
            self._stamp = stamp
        return self._read


def principal_of(http: HTTPConnection) -> Principal:
    """Who sent a request."""
    found = http.scope[PRINCIPAL]
    assert isinstance(found, Principal)  # noqa: S101  (the middleware lets nobody else through)
    return found


def _stamp(path: Path | None) -> tuple[int, ...]:
    try:
        status = path.stat() if path else None
    except OSError:
        return _GONE
    return (status.st_mtime_ns, status.st_size, status.st_ino) if status else ()
