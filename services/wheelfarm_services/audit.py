"""The audit log: who did what to which, one JSON line each. It names tokens by their id and holds no secret."""

import json
import logging
from logging.handlers import WatchedFileHandler
from pathlib import Path
from typing import Any

from starlette.requests import Request as HttpRequest

_logger = logging.getLogger("wheelfarm.audit")


def keep_audit(path: Path | None) -> None:
    """Write the audit log to a file, which may be moved away to rotate it, or to stderr."""
    handler = WatchedFileHandler(path, encoding="utf-8") if path else logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    _logger.handlers = [handler]
    _logger.propagate = False
    _logger.setLevel(logging.INFO)


def audit(http: HttpRequest, status: int, *, action: str, at: float, **facts: Any) -> None:
    """Note what was asked for and how it was answered. `at` is the time, in seconds since the epoch."""
    line = {
        "at": round(at, 3),
        "client": http.client.host if http.client else "",
        **facts,
        "action": action,
        "path": http.url.path[:500],
        "status": status,
    }
    _logger.info(json.dumps(line))
