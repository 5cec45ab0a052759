"""What becomes of wheels after they were published: yanked, quarantined, deleted, by operators and by upstream."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.values import make_built_wheel, make_sdist
from wheelfarm.errors import CorruptObject, InputError, NotFound, PolicyRefused
from wheelfarm.index_change import Action
from wheelfarm_services import layout
from wheelfarm_services.policy_book import PolicyBook
from wheelfarm_services.store import DirectoryStore
from wheelfarm_services.upstreams import ListedSdist, ProjectPage
from wheelfarm_services.wheel_index import Manifest, WheelIndex
from wheelfarm_services.wheel_index.curation import REMOVED, Curation

TARGETS = ("host-cp311", "host-cp312")


class Farm:
    """Two targets, each with wheels of two versions of one project."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = DirectoryStore.create(folder / "store")
        self.index = WheelIndex(self.store)
        self.curation = Curation(self.store, self.index.pages)
        self.wheels = [self.publish(target, version) for target in TARGETS for version in ("1.0", "2.0")]

    def publish(self, target: str, version: str, *, unstamped: str = "", **provenance: Any) -> Manifest:
        digest = unstamped or hashlib.sha256(f"{target} {version}".encode()).hexdigest()
        filename, tag = self.index.claim_name(target, f"app-{version}-py3-none-any.whl", digest)
        data = f"{digest} {tag}".encode()
        key = hashlib.sha256(digest.encode()).hexdigest()
        manifest = Manifest(
            wheel=make_built_wheel(version=version, data=data, filename=filename),
            unstamped_sha256=digest,
            metadata_sha256="1" * 64,
            requires_python="",
            target=target,
            provenance={"plan": {"build_key": key, "requirements": []}, **provenance},
        )
        (self.folder / "wheel").write_bytes(data)
        return self.index.publish(key, manifest, self.folder / "wheel", b"Metadata-Version: 2.1\n")

    def change(self, action: Action, version: str = "1.0", *, project: str = "app") -> Mapping[str, tuple[str, ...]]:
        return self.curation.change(action, project, version, "it is broken", by="x").files

    def set_policy(self, text: str) -> None:
        """Make a text the farm's policy, for whoever reads it from now on."""
        (self.folder / "policy.toml").write_text(text)
        PolicyBook(self.store).publish(self.folder / "policy.toml")
        self.index = WheelIndex(self.store)
        self.curation = Curation(self.store, self.index.pages)

    def page(self, target: str) -> Any:
        return json.loads(self.store.get(layout.project_page(target, "app")) or b"")

    def yanked(self, target: str = TARGETS[0]) -> dict[str, object]:
        return {file["filename"].split("-")[1]: file["yanked"] for file in self.page(target)["files"]}


@pytest.fixture
def farm(tmp_path: Path) -> Farm:
    return Farm(tmp_path)


def test_yank_is_told_on_every_index_and_taken_back(farm: Farm) -> None:
    files = farm.change(Action.YANK)
    assert files == dict.fromkeys(TARGETS, ("app-1.0-1-py3-none-any.whl",))
    assert [farm.yanked(target) for target in TARGETS] == [{"1.0": "it is broken", "2.0": False}] * 2
    flat = (farm.index.pages.render_stale(), farm.store.get(layout.flat_page(TARGETS[1])))[1] or b""
    assert flat.count(b'data-yanked="it is broken"') == 1
    farm.change(Action.UNYANK)
    assert farm.yanked() == {"1.0": False, "2.0": False}
    assert [event.action for event in farm.index.pages.state("app").events] == [Action.YANK, Action.UNYANK]


def test_wheel_that_is_built_of_a_yanked_version_is_yanked(farm: Farm) -> None:
    farm.change(Action.YANK)
    farm.publish(TARGETS[0], "1.0", unstamped="c" * 64)
    assert [file["yanked"] for file in farm.page(TARGETS[0])["files"]] == ["it is broken", "it is broken", False]


def test_quarantined_project_is_neither_listed_nor_served_until_it_is_released(farm: Farm) -> None:
    wheel = farm.wheels[0].wheel
    farm.curation.require_served(wheel.filename)
    farm.change(Action.QUARANTINE, "")
    assert farm.page(TARGETS[0])["files"] == []
    assert farm.page(TARGETS[1])["project-status"] == {"status": "quarantined", "reason": "it is broken"}
    with pytest.raises(PolicyRefused, match="quarantined, it is broken"):
        farm.curation.require_served(wheel.filename)
    farm.change(Action.RELEASE, "")
    farm.curation.require_served(wheel.filename)
    assert len(farm.page(TARGETS[0])["files"]) == 2


def test_deleted_wheel_is_gone_for_good_and_what_is_built_again_has_another_name(farm: Farm) -> None:
    gone = farm.wheels[0]
    farm.change(Action.DELETE)
    farm.index.pages.render_stale()
    assert [file["filename"] for file in farm.page(TARGETS[0])["files"]] == ["app-2.0-1-py3-none-any.whl"]
    keys = list(farm.store.list(""))
    assert not [key for key in keys if gone.wheel.sha256 in key]
    assert layout.index_entry(TARGETS[0], gone.wheel.filename) not in keys
    assert layout.name_claim(TARGETS[0], gone.wheel.filename) in keys
    assert farm.index.manifest(gone.provenance["plan"]["build_key"]) is None
    with pytest.raises(NotFound, match="was deleted: it is broken"):
        farm.curation.require_served(gone.wheel.filename)

    again = farm.publish(TARGETS[0], "1.0", unstamped=gone.unstamped_sha256)
    assert again.wheel.filename == "app-1.0-2-py3-none-any.whl"
    assert farm.page(TARGETS[0])["files"][0]["filename"] == again.wheel.filename
    farm.curation.require_served(again.wheel.filename)


@pytest.mark.parametrize(("project", "version"), [("other", "1.0"), ("app", "3.0")])
def test_what_is_on_no_index_is_not_changed(farm: Farm, project: str, version: str) -> None:
    with pytest.raises(NotFound):
        farm.change(Action.YANK, version, project=project)
    assert not list(farm.store.list("states/"))


@pytest.mark.parametrize("action", [Action.YANK, Action.UNYANK, Action.DELETE])
def test_whole_projects_are_quarantined_alone(farm: Farm, action: Action) -> None:
    with pytest.raises(InputError, match="needs a version"):
        farm.change(action, "")


def upstream_page(*listed: ListedSdist, without_sdist: tuple[str, ...] = ()) -> ProjectPage:
    return ProjectPage(name="app", sdists=listed, without_sdist=without_sdist)


def listed(version: str) -> ListedSdist:
    return ListedSdist(sdist=make_sdist(version=version), url="https://index.example/app")


def test_upstream_that_yanks_or_removes_is_followed_and_followed_back(farm: Farm) -> None:
    farm.curation.follow("app", upstream_page(replace(listed("1.0"), yanked="by its author")))
    assert farm.yanked() == {"1.0": "by its author", "2.0": REMOVED}
    farm.curation.follow("app", upstream_page(listed("1.0"), without_sdist=("2.0",)))
    assert farm.yanked() == {"1.0": False, "2.0": False}
    farm.curation.follow("app", None)
    assert farm.yanked(TARGETS[1]) == {"1.0": REMOVED, "2.0": REMOVED}
    farm.change(Action.UNYANK)
    assert farm.yanked() == {"1.0": False, "2.0": REMOVED}


def test_what_upstream_removes_is_quarantined_where_policy_says_so(farm: Farm) -> None:
    farm.set_policy('follow-upstream = "quarantine"')
    farm.curation.follow("app", upstream_page(replace(listed("1.0"), yanked="by its author")))
    assert farm.yanked() == {"1.0": "by its author"}
    with pytest.raises(PolicyRefused, match=f"quarantined, {REMOVED}"):
        farm.curation.require_served("app-2.0-1-py3-none-any.whl")
    tombstone = farm.index.pages.state("app").upstream["2.0"]
    assert (tombstone.action, tombstone.by) == (Action.QUARANTINE, "upstream")

    farm.change(Action.RELEASE, "2.0")
    assert farm.yanked() == {"1.0": "by its author", "2.0": False}, "an operator's word comes first"
    farm.change(Action.QUARANTINE, "2.0")
    farm.curation.follow("app", upstream_page(listed("1.0"), listed("2.0")))
    assert farm.yanked() == {"1.0": False}


def test_upstream_is_not_followed_where_policy_says_so(farm: Farm) -> None:
    farm.curation.follow("app", None)
    assert farm.yanked() == {"1.0": REMOVED, "2.0": REMOVED}
    farm.set_policy('follow-upstream = "no"')
    farm.curation.follow("app", None)
    assert farm.yanked() == {"1.0": False, "2.0": False}


def test_what_was_imported_is_not_missed_where_upstream_never_had_it(farm: Farm) -> None:
    sdist = make_sdist(version="3.0", data=b"of another farm")
    farm.publish(TARGETS[0], "3.0", job={"sdist": asdict(sdist)})
    farm.curation.follow("app", None)
    assert farm.yanked() == {"1.0": REMOVED, "2.0": REMOVED, "3.0": False}
    farm.store.put(layout.sdist_record(sdist.sha256), b"{}")
    farm.curation.follow("app", None)
    assert farm.yanked()["3.0"] == REMOVED


def test_tombstone_tells_since_when(farm: Farm) -> None:
    moments = iter((1_780_000_000.0, 1_790_000_000.0, 1_790_000_000.0))
    curation = Curation(farm.store, farm.index.pages, now=lambda: next(moments))
    curation.follow("app", upstream_page(listed("1.0")))
    curation.follow("app", None)
    found = farm.index.pages.state("app").upstream
    assert {version: event.at[:7] for version, event in found.items()} == {"1.0": "2026-09", "2.0": "2026-05"}


def test_upstream_is_not_followed_in_what_was_never_built(farm: Farm) -> None:
    farm.curation.follow("other", upstream_page(replace(listed("1.0"), yanked="")))
    assert not list(farm.store.list("states/"))


def test_upstream_that_says_the_same_again_changes_nothing(farm: Farm) -> None:
    page = upstream_page(replace(listed("1.0"), yanked=""), listed("2.0"))
    farm.curation.follow("app", page)
    assert farm.yanked() == {"1.0": True, "2.0": False}
    before = {key: farm.store.get(key) for key in farm.store.list("")}
    farm.curation.follow("app", page)
    assert {key: farm.store.get(key) for key in farm.store.list("")} == before


def test_state_of_before_quarantines_were_followed_is_read(farm: Farm) -> None:
    known = {"events": [], "upstream": {"1.0": REMOVED, "2.0": "by its author"}}
    farm.store.put(layout.project_state("app"), json.dumps(known).encode())
    farm.index.pages.renew(TARGETS[0], "app")
    assert farm.yanked() == {"1.0": REMOVED, "2.0": "by its author"}
    farm.curation.follow("app", upstream_page(replace(listed("2.0"), yanked="by its author")))
    assert farm.yanked() == {"1.0": REMOVED, "2.0": "by its author"}
    farm.curation.require_served(farm.wheels[0].wheel.filename)
    farm.change(Action.UNYANK)
    assert farm.yanked() == {"1.0": False, "2.0": "by its author"}


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", b'{"events": [{}], "upstream": {}}', b'{"events": 1, "upstream": {}}']
)
def test_state_that_cannot_be_read_is_told_of_and_nothing_is_served_by_it(farm: Farm, data: bytes) -> None:
    farm.store.put(layout.project_state("app"), data)
    for use in (lambda: farm.change(Action.YANK), lambda: farm.curation.require_served(farm.wheels[0].wheel.filename)):
        with pytest.raises(CorruptObject, match=r"states/app\.json"):
            use()
