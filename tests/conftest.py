"""Options of the whole suite."""

import os
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.support.ceph import Gateway
    from tests.support.s3 import Bucket


FIRST = (
    "test_chaos",
    "test_root_targets",
    "test_upstreams",
    "test_export",
    "test_config",
    "test_outages",
    "test_openapi",
)
"""The files that take long for the number of their tests."""
FOLDERS = ("acceptance", "integration", "deployment", "unit")


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # a shell has what it starts in the background ignore it, and so would each command that a test interrupts
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_xdist_auto_num_workers() -> int:
    """One process more than there are cores: most tests wait more than they compute."""
    return len(os.sched_getaffinity(0)) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have what takes long come first: files are handed out in this order, and at the end nobody waits for another."""

    def rank(item: pytest.Item) -> int:
        folder = item.path.parent.name
        return 0 if item.path.stem in FIRST else 1 + FOLDERS.index(folder) if folder in FOLDERS else 9

    items.sort(key=rank)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--write-docs",
        action="store_true",
        help="write what the tests find into the tables of docs/ instead of comparing it with them",
    )


@pytest.fixture(scope="session")
def write_docs(request: pytest.FixtureRequest) -> bool:
    """Whether findings are written instead of compared."""
    return bool(request.config.getoption("--write-docs"))


@pytest.fixture(scope="session")
def gateway() -> Iterator["Gateway"]:
    """A real S3 server, started when the first test needs it, with its user's credentials in the environment."""
    from tests.support.ceph import run_gateway
    from tests.support.s3 import credentials

    with credentials(), run_gateway() as running:
        yield running


@pytest.fixture
def bucket(gateway: "Gateway") -> "Bucket":
    """An empty bucket of it."""
    from tests.support.s3 import make_bucket

    return make_bucket(gateway)
