import hashlib
from pathlib import Path

import pytest

from tests.unit.test_interpreter_routes import KEY, NAME, python_archive
from wheelfarm.errors import InputError, NotFound
from wheelfarm.target_definition import parse_definition
from wheelfarm_services import layout
from wheelfarm_services.interpreters import InterpreterShelf
from wheelfarm_services.store import DirectoryStore, Store
from wheelfarm_workers.distributions import Distributions

DEFINED = """
from = "python:3.12.1+20261120"
distribution = "3.12.1+20261120 sha256:{sha256}"
python = "/install/bin/python3"
[interpreter]
version = "3.12.1"
abi = "cp312"
platform = "linux-x86_64"
prefix = "/install"
"""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return DirectoryStore.create(tmp_path / "store")


def keep(store: Store, folder: Path, data: bytes) -> str:
    path = folder / "archive"
    path.write_bytes(data)
    sha256 = hashlib.sha256(data).hexdigest()
    InterpreterShelf(store).take(path, key=KEY, build="20261120", filename=NAME, sha256=sha256, source="")
    return sha256


def test_distribution_is_unpacked_once_and_shown_at_its_prefix(store: Store, tmp_path: Path) -> None:
    sha256 = keep(store, tmp_path, python_archive())
    distributions = Distributions(lambda: store, tmp_path / "cache")
    assert distributions.chosen("3.12.1", "linux-x86_64-gnu").sha256 == sha256
    mount = distributions.mount(sha256)
    assert (mount.target, mount.writable, distributions.python(sha256)) == ("/install", False, "/install/bin/python3")
    store.delete(layout.interpreter_archive(sha256))
    assert distributions.mount(sha256) == mount
    assert not [path for path in (tmp_path / "cache").iterdir() if path.name.startswith("tmp")]


def test_distribution_that_is_gone_is_told_with_the_remedy(store: Store, tmp_path: Path) -> None:
    distributions = Distributions(lambda: store, tmp_path / "cache")
    with pytest.raises(InputError, match="keeps the Python distribution sha256:0000"):
        distributions.mount("0" * 64)
    with pytest.raises(NotFound):
        distributions.chosen("3.12.1", "linux-x86_64-gnu")


def test_other_bytes_of_a_distribution_are_another_revision() -> None:
    def never(_: str) -> object:
        pytest.fail("no interpreter of the host's is asked")

    found = {}
    for sha256 in ("a" * 64, "b" * 64):
        definition = parse_definition(DEFINED.format(sha256=sha256), name="own", origin="own")
        assert parse_definition(definition.to_toml(), name="own", origin="own") == definition
        target = definition.target(never)  # type: ignore[arg-type]
        assert (target.python, target.prefix, target.abi) == ("/install/bin/python3", "/install", "cp312")
        found[target.interpreter] = target.revision
    assert list(found) == [f"3.12.1+20261120 sha256:{letter * 64}" for letter in "ab"]
    assert len(set(found.values())) == 2


@pytest.mark.parametrize("value", ["3.12.1", "sha256:" + "a" * 64, "x sha256:abc", "../x sha256:" + "a" * 64])
def test_malformed_distribution_is_refused(value: str) -> None:
    with pytest.raises(InputError, match="REFERENCE sha256"):
        parse_definition(f'distribution = "{value}"\npython = "/x"\n', name="own", origin="own")
