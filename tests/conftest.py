"""Options of the whole suite."""

import pytest


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
