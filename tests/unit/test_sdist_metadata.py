from pathlib import Path

import pytest

from tests.support.values import make_sdist, make_target
from wheelfarm.revision import MetadataRevision
from wheelfarm_services.sdist_metadata import SdistMetadata
from wheelfarm_services.store import DirectoryStore

SDIST = make_sdist()
REVISION = make_target().revision


def told(*requirements: str) -> bytes:
    return "\n".join(["Name: app", "Version: 1.0", *(f"Requires-Dist: {one}" for one in requirements)]).encode()


@pytest.fixture
def known(tmp_path: Path) -> SdistMetadata:
    return SdistMetadata(DirectoryStore.create(tmp_path / "store"))


def settle(known: SdistMetadata, built: bytes, stated: bytes | None = None) -> MetadataRevision:
    return known.settle(SDIST, REVISION, stated=stated, built=built)


def test_wheel_that_tells_what_its_sdist_states_changes_nothing(known: SdistMetadata) -> None:
    assert settle(known, told("b >= 1"), told("B>=1.0")) == MetadataRevision()
    assert known.newest(SDIST, REVISION) == (0, told("B>=1.0"))


def test_first_wheel_of_an_sdist_without_static_metadata_tells_it(known: SdistMetadata) -> None:
    assert settle(known, told("b")) == MetadataRevision()
    assert known.newest(SDIST, REVISION) == (0, told("b"))
    assert known.newest(SDIST, "f" * 64) == (0, None)


def test_each_other_truth_is_a_revision_and_is_repeated_for_nothing(known: SdistMetadata) -> None:
    stated = told("a")
    one = MetadataRevision(revision=1, differences=("-Requires-Dist: a", "+Requires-Dist: b"))
    assert [settle(known, told("b"), stated) for _ in range(2)] == [one, one]
    assert settle(known, told("c"), stated).revision == 2
    assert settle(known, told("a"), stated) == MetadataRevision(revision=3)
    assert known.newest(SDIST, REVISION) == (3, told("a"))
    assert known.revision(SDIST, REVISION, 1) == told("b")


def test_revision_is_one_targets_alone(known: SdistMetadata) -> None:
    settle(known, told("b"), told("a"))
    assert known.newest(SDIST, "f" * 64) == (0, told("a"))
    assert known.revisions("app", REVISION) == {SDIST.sha256: 1}
    assert known.revisions("app", "f" * 64) == {}


def test_revisions_are_counted_beyond_nine(known: SdistMetadata) -> None:
    for number in range(12):
        settle(known, told(f"b{number}"), told("a"))
    assert known.revisions("app", REVISION) == {SDIST.sha256: 12}


def test_metadata_that_a_job_computed_is_the_first(known: SdistMetadata) -> None:
    known.keep_computed(SDIST, REVISION, told("a"))
    known.keep_computed(SDIST, REVISION, told("z"))
    assert settle(known, told("b")).differences == ("-Requires-Dist: a", "+Requires-Dist: b")
