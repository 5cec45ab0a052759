"""What a line of a log looks like, as text and as JSON."""

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from wheelfarm_services.logs import bound, configure_logs

logger = logging.getLogger("tests.logs")


@pytest.fixture
def root_logger() -> Iterator[logging.Logger]:
    """The root logger, as it was afterwards."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), logger.level
    logger.setLevel(logging.INFO)
    yield root
    for handler in set(root.handlers) - set(handlers):
        handler.close()
    root.handlers = handlers
    logger.setLevel(level)


def test_bound_facts_are_on_every_line_until_they_end(root_logger: logging.Logger, tmp_path: Path) -> None:
    configure_logs(tmp_path, "part", "text")
    with bound(job="abc", target="host"):
        logger.info("one", extra={"sdist": "a b\nc"})
        with bound(job="def"):
            logger.info("two")
    logger.info("three")
    one, two, three = (tmp_path / "part.log").read_text().splitlines()
    assert one.endswith(r"INFO tests.logs: one job='abc' target='host' sdist='a b\nc'")
    assert two.endswith("two job='def' target='host'")
    assert three.endswith("tests.logs: three")


def test_json_lines_hold_facts_and_errors(root_logger: logging.Logger, tmp_path: Path) -> None:
    configure_logs(tmp_path, "part", "json")
    with bound(job="abc"):
        try:
            raise ValueError("line\nbreak")
        except ValueError:
            logger.exception("failed for %s", "x", extra={"message_of": tmp_path, "time": "not this"})
    (line,) = (tmp_path / "part.log").read_text().splitlines()
    told = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", told.pop("time"))
    assert "ValueError: line\nbreak" in told.pop("error")
    assert told == {
        "job": "abc",
        "message_of": str(tmp_path),
        "level": "ERROR",
        "logger": "tests.logs",
        "message": "failed for x",
    }
