"""Logging of the farm's processes: a constant sentence, its facts behind it as `name=value`, or all of it as JSON."""

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

from wheelfarm.settings import LogFormat

_LOG_BYTES, _OLD_LOGS = 10_000_000, 5
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


_bound: ContextVar[Mapping[str, str]] = ContextVar("bound", default={})  # noqa: B039  (never changed, only replaced)


@contextmanager
def bound(**facts: str) -> Iterator[None]:
    """Have every line that is logged within tell these facts, too."""
    token = _bound.set({**_bound.get(), **facts})
    try:
        yield
    finally:
        _bound.reset(token)


def carrier() -> Callable[..., Any]:
    """Calls a function with its arguments as if it were called here, in whatever thread: with the facts that are bound
    here and now, and as a part of the span. Any number of threads may use it at once."""
    context = copy_context()
    return lambda function, *arguments: context.copy().run(function, *arguments)


class FactFormatter(logging.Formatter):
    """Adds the facts that are bound and those given by `extra=` to each line, on one line whatever they hold."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  (logging's own name)
        shown = "".join(f" {name}={str(value)!a}" for name, value in _facts(record).items())
        return super().formatMessage(record) + shown


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (RFC 3339, UTC), level, logger, message, the facts, and the trace of an error."""

    def format(self, record: logging.LogRecord) -> str:
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            **_facts(record),
            "time": f"{at}.{int(record.msecs):03}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def log_to_file(folder: Path, name: str, form: LogFormat = "text") -> None:
    """Log there, instead of to stderr, in files of ten megabytes of which the last five are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    handler = RotatingFileHandler(folder / f"{name}.log", maxBytes=_LOG_BYTES, backupCount=_OLD_LOGS, encoding="utf-8")
    logging.getLogger().handlers = [handler]
    handler.setFormatter(_formatter(form))


def log_to_stderr() -> None:
    """Log from INFO on. Libraries that log URLs, which may hold credentials, or every token, are kept quiet."""
    handler = logging.StreamHandler()
    handler.setFormatter(_formatter("text"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for library in ("httpx", "httpcore", "celery"):
        logging.getLogger(library).setLevel(logging.WARNING)


def configure_logs(folder: Path, name: str, form: LogFormat) -> None:
    """Log as the settings say, from now on."""
    if folder.name:
        log_to_file(folder, name, form)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(_formatter(form))


def _facts(record: logging.LogRecord) -> dict[str, object]:
    given = {name: value for name, value in vars(record).items() if name not in _STANDARD}
    return {**_bound.get(), **given}


def _formatter(form: LogFormat) -> logging.Formatter:
    if form == "json":
        return JsonFormatter()
    return FactFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
