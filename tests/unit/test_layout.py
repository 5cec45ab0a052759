from pathlib import Path

import pytest

from tests.support.values import make_job, make_target
from wheelfarm_services import layout
from wheelfarm_services.store import DirectoryStore

SHA256 = "ab" * 32
WHEEL = "app-1!2.0+cc.1-1-cp311-cp311-linux_x86_64.whl"
RUN = "1795000000000-1"
KEYS = {
    "sdist": layout.sdist(SHA256),
    "sdist_record": layout.sdist_record(SHA256),
    "static_metadata": layout.static_metadata(SHA256),
    "revised_metadata": layout.revised_metadata(make_target().revision, "app", SHA256, 1),
    "built_metadata": layout.built_metadata(SHA256, make_target().revision),
    "hook_requirements": layout.hook_requirements(SHA256, make_target().revision),
    "plan": layout.plan(make_job().request_key),
    "manifest": layout.manifest(SHA256),
    "wheel": layout.wheel(SHA256, WHEEL),
    "wheel_metadata": layout.wheel_metadata(SHA256, WHEEL),
    "name_claim": layout.name_claim(make_target().name, WHEEL),
    "index_entry": layout.index_entry(make_target().name, WHEEL),
    "flat_page": layout.flat_page(make_target().name),
    "project_page": layout.project_page(make_target().name, "app"),
    "root_page": layout.root_page(make_target().name),
    "stale_note": layout.stale_note(make_target().name, "app", "0" * 32),
    "project_target": layout.project_target("app", make_target().name),
    "project_state": layout.project_state("app"),
    "target": layout.target(make_target().name, make_target().revision),
    "open_request": layout.open_request("ab" * 16),
    "grant": layout.grant("team-a", "wheels", SHA256),
    "build_log": layout.build_log_chunk(make_job(), RUN, 0),
}


@pytest.mark.parametrize("kind", KEYS)
def test_every_kind_of_object_has_a_key_that_the_store_takes(kind: str, tmp_path: Path) -> None:
    store = DirectoryStore.create(tmp_path / "store")
    store.put(KEYS[kind], b"data")
    assert store.get(KEYS[kind]) == b"data"


def test_no_two_kinds_share_a_key() -> None:
    assert len(set(KEYS.values())) == len(KEYS)


def test_folders_are_where_their_objects_lie() -> None:
    assert KEYS["index_entry"].startswith(layout.index_entries(make_target().name))
    assert KEYS["open_request"].startswith(layout.open_requests())
    assert KEYS["build_log"].startswith(layout.build_logs(make_job()))


def test_metadata_lies_beside_its_wheel_under_the_name_of_pep_658() -> None:
    assert KEYS["wheel_metadata"] == KEYS["wheel"] + ".metadata"


def test_chunks_of_a_log_are_in_their_order() -> None:
    chunks = [layout.build_log_chunk(make_job(), RUN, start) for start in (0, 7, 1 << 20, 64 << 20)]
    assert chunks == sorted(chunks)
    assert layout.build_log_chunk(make_job().id, RUN, 0) == chunks[0]
    assert all(chunk.startswith(layout.build_log_run(make_job(), RUN)) for chunk in chunks)
