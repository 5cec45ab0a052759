"""Logging of the farm's processes: a constant sentence, its facts behind it as `name=value`."""

import logging
from logging.handlers import RotatingFileHandler
from pathlib import Path

_LOG_BYTES, _OLD_LOGS = 10_000_000, 5
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


class FactFormatter(logging.Formatter):
    """Adds the facts given by `extra=` to each line, on one line whatever they hold."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  (logging's own name)
        facts = {name: value for name, value in vars(record).items() if name not in _STANDARD}
        shown = "".join(f" {name}={str(value)!a}" for name, value in facts.items())
        return super().formatMessage(record) + shown


def log_to_file(folder: Path, name: str) -> None:
    """Log there, instead of to stderr, in files of ten megabytes of which the last five are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    handler = RotatingFileHandler(folder / f"{name}.log", maxBytes=_LOG_BYTES, backupCount=_OLD_LOGS, encoding="utf-8")
    logging.getLogger().handlers = [handler]
    handler.setFormatter(_formatter())


def log_to_stderr() -> None:
    """Log from INFO on. Libraries that log URLs, which may hold credentials, or every token, are kept quiet."""
    handler = logging.StreamHandler()
    handler.setFormatter(_formatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for library in ("httpx", "httpcore", "celery"):
        logging.getLogger(library).setLevel(logging.WARNING)


def _formatter() -> logging.Formatter:
    return FactFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
