"""Options of the whole suite."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.support.ceph import Gateway
    from tests.support.s3 import Bucket


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
