"""What upstream yanks or removes of what nobody resolves any more."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.index_farm import TARGET, publish
from tests.support.values import make_sdist
from wheelfarm.errors import UpstreamError
from wheelfarm_services import layout
from wheelfarm_services.ledger import Ledger, redis_client
from wheelfarm_services.policy_book import PolicyBook
from wheelfarm_services.reconciliation import Reconciler
from wheelfarm_services.store import DirectoryStore
from wheelfarm_services.upstream_watch import UpstreamWatch
from wheelfarm_services.upstreams import ListedSdist, ProjectPage
from wheelfarm_services.wheel_index import WheelIndex
from wheelfarm_services.wheel_index.curation import REMOVED, Curation

HOUR_S = 3600.0


class Farm:
    """An index that has had 30 projects, of one of which it has a wheel, and an upstream with all but the `gone`, which
    may be `away`."""

    def __init__(self, folder: Path, redis_url: str) -> None:
        self.store = DirectoryStore.create(folder / "store")
        self.names = [f"app{number:02}" for number in range(30)]
        publish(self.store, "app07")
        self.note(self.names)
        self.time = 1_800_000_000.0
        self.asked: list[str] = []
        self.gone: set[str] = set()
        self.away = False
        self.redis = redis_client(redis_url)
        self.pages = WheelIndex(self.store).pages

    def note(self, names: list[str]) -> None:
        for name in names:
            self.store.put(layout.project_target(name, TARGET), b"")

    def page(self, name: str) -> ProjectPage | None:
        self.asked.append(name)
        if self.away:
            raise UpstreamError("It is away.")
        listed = ListedSdist(sdist=make_sdist(name, "1.0"), url=f"https://index.example/{name}")
        return None if name in self.gone else ProjectPage(name=name, sdists=(listed,), without_sdist=())

    def look(self, *, hours: float = 0) -> int:
        """What a reconciler does that many hours later, which has seen nothing before."""
        self.time += hours * HOUR_S
        follow = Curation(self.store, self.pages).follow
        return UpstreamWatch(self.store, self.redis, self, follow, now=lambda: self.time).look()


@pytest.fixture
def farm(tmp_path: Path, redis_url: str) -> Iterator[Farm]:
    farm = Farm(tmp_path, redis_url)
    yield farm
    farm.redis.close()


def test_each_project_is_asked_about_once_a_day_and_never_many_at_once(farm: Farm) -> None:
    assert farm.look() == 0, "they were asked about when they were built"
    assert [farm.look(hours=hours) for hours in (24, 0, 1)] == [2, 2, 2]
    for _ in range(22):
        farm.look(hours=1)
    assert sorted(farm.asked) == farm.names
    assert farm.look(hours=2) == 2
    assert farm.asked[-2:] == farm.asked[:2], "who was not asked about for longest"


def test_what_was_removed_is_yanked_although_nobody_resolves_it(farm: Farm) -> None:
    farm.gone = {"app07"}
    farm.look()
    farm.look(hours=24)
    for _ in range(20):
        farm.look(hours=1)
    yanked = {name: farm.pages.state(name).yanked("1.0") for name in farm.names}
    assert {name: why for name, why in yanked.items() if why} == {"app07": REMOVED}


def test_upstream_that_is_away_changes_nothing_and_is_soon_left_alone(farm: Farm) -> None:
    farm.away = True
    farm.note([f"more{number}" for number in range(100)])
    farm.look()
    assert farm.look(hours=24) == 3
    assert not list(farm.store.list("states/"))


def test_nobody_is_asked_where_policy_says_so(farm: Farm, tmp_path: Path) -> None:
    farm.look()
    (tmp_path / "policy.toml").write_text('follow-upstream = "no"')
    PolicyBook(farm.store).publish(tmp_path / "policy.toml")
    assert farm.look(hours=48) == 0
    assert farm.asked == []


class Idle:
    """Requests of which none is open."""

    def resubmit(self) -> int:
        return 0

    def close_expired(self) -> int:
        return 0


def test_one_of_all_reconcilers_looks(farm: Farm, ledger: Ledger) -> None:
    looks: list[int] = []
    looked = threading.Event()

    def look() -> None:
        looks.append(1)
        looked.set()

    reconcilers = [
        Reconciler(ledger, farm.redis, Idle(), lambda _: None, farm.pages, every_s=0.001, watch=look) for _ in range(3)
    ]
    for reconciler in reconcilers * 3:
        reconciler.reconcile()
    assert looked.wait(30)
    assert len(looks) == 1
