from pathlib import Path

import pytest

from tests.support.values import make_built_wheel
from tests.unit.test_explanations import TARGET, Index
from wheelfarm.errors import NotFound
from wheelfarm.index_change import Action
from wheelfarm_services import layout
from wheelfarm_services.exports import Exports
from wheelfarm_services.store import DirectoryStore
from wheelfarm_services.wheel_index import WheelIndex
from wheelfarm_services.wheel_index.project_state import Event, ProjectState


@pytest.fixture
def index(tmp_path: Path) -> Index:
    """An app that needs a library, which was built with a tool that was built with another one."""
    index = Index(tmp_path)
    index.add("maker")
    index.add("tool", "maker")
    index.add("library", "tool")
    index.add("app", requires_dist=("Library[x]>=1 ; python_version > '3'", "absent", "not a requirement!"))
    index.add("other")
    return index


def exported(store: DirectoryStore, *projects: str, build_requirements: bool = False, unseen: str = "") -> list[str]:
    found = Exports(store, WheelIndex(store)).export(
        TARGET, projects, build_requirements=build_requirements, sees=lambda sha256: sha256 != unseen
    )
    names = [manifest["wheel"]["name"] for manifest in found["manifests"]]
    assert set(found["pages"]) == {"index.html", "simple/index.html"} | {f"simple/{name}/index.html" for name in names}
    return names


def test_wheels_that_others_were_only_built_with_stay_behind(index: Index) -> None:
    assert exported(index.store) == ["app", "library", "other"]
    assert exported(index.store, build_requirements=True) == ["app", "library", "maker", "other", "tool"]


def test_projects_come_with_what_they_require(index: Index) -> None:
    assert exported(index.store, "app") == ["app", "library"]
    assert exported(index.store, "app", build_requirements=True) == ["app", "library", "maker", "tool"]
    assert exported(index.store, "tool") == ["tool"]
    with pytest.raises(NotFound, match="no wheel of absent"):
        exported(index.store, "app", "absent")


def test_every_version_comes_along(index: Index) -> None:
    index.add("app", wheel=make_built_wheel("app", "2.0", data=b"2"))
    assert exported(index.store, "app") == ["app", "app", "library"]


def test_what_may_not_be_chosen_by_default_stays_behind(index: Index) -> None:
    for name, action, version in (("other", Action.YANK, "1.0"), ("library", Action.QUARANTINE, "")):
        event = Event(action=action, version=version, reason="why", at="2026-01-01T00:00:00Z", by="me")
        index.store.put(layout.project_state(name), ProjectState(events=(event,)).to_json())
    assert exported(index.store, "app") == ["app"]
    assert {"other", "library"}.isdisjoint(exported(index.store))


def test_tenant_gets_what_it_sees(index: Index) -> None:
    assert exported(index.store, unseen=index.wheels["other"].sha256) == ["app", "library"]


def test_pages_link_to_files_beside_them(index: Index) -> None:
    wheel = make_built_wheel("app", "2.0", filename="app-2.0+x-1-py3-none-any.whl", data=b"2")
    index.add("app", wheel=wheel)
    pages = Exports(index.store, WheelIndex(index.store)).export(
        TARGET, ["app"], build_requirements=False, sees=lambda _: True
    )["pages"]
    href = f"app-2.0%2Bx-1-py3-none-any.whl#sha256={wheel.sha256}"
    assert f'href="{href}"' in pages["index.html"]
    assert f'href="../../{href}"' in pages["simple/app/index.html"]
    assert 'href="app/"' in pages["simple/index.html"]


def test_empty_index_is_no_export(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="nothing on the index"):
        exported(DirectoryStore.create(tmp_path / "store"))
