"""Garbage collection: what goes, what never does, and that a run may be killed at any moment."""

import hashlib
import json
import os
import random
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from tests.support.values import make_built_wheel, make_job, make_sdist, make_target
from wheelfarm.errors import FarmUnavailable, InputError
from wheelfarm.garbage import GarbageReport, GarbageRules
from wheelfarm.job import Job, Sdist
from wheelfarm.wheel import BuiltWheel
from wheelfarm_services import layout
from wheelfarm_services.garbage import collect_garbage
from wheelfarm_services.store import DirectoryStore
from wheelfarm_services.tenancy import Thing
from wheelfarm_services.wheel_index import Manifest, Plan, PlannedRequirement, WheelIndex, build_key

DAY_S = 86400.0
RULES = GarbageRules()
TARGETS = ("host-a", "host-b")


class Farm:
    """A store with a history, and how old each part of it is."""

    def __init__(self, root: Path) -> None:
        self.store = DirectoryStore.create(root / "store")
        self.index = WheelIndex(self.store)
        self.work = root / "work"
        self.work.mkdir(exist_ok=True)

    def age(self, days: float, *prefixes: str) -> None:
        """Have all objects below some prefixes be that old."""
        then = self.store.now() - days * DAY_S
        for prefix in prefixes:
            for key in self.store.list(prefix):
                os.utime(self.store.root / key, (then, then))

    def sdist(self, name: str) -> Sdist:
        sdist = make_sdist(name, data=name.encode())
        self.store.put(layout.sdist(sdist.sha256), name.encode())
        listed = {"sdist": asdict(sdist), "url": "http://x", "upload_time": ""}
        self.store.put(layout.sdist_record(sdist.sha256), json.dumps(listed).encode())
        self.store.put(layout.static_metadata(sdist.sha256), b"Name: x\n")
        self.store.put(layout.hook_requirements(sdist.sha256, "r" * 64), b"[]")
        return sdist

    def plan(self, sdist: Sdist, *needs: PlannedRequirement, target: str = TARGETS[0]) -> tuple[Job, Plan]:
        job = replace(make_job(sdist), target=target)
        key = build_key(sdist=sdist.sha256, target=target, needs=[need.wheel.sha256 for need in needs])
        return job, self.index.record_plan(job, Plan(build_key=key, requirements=needs))

    def wheel(self, name: str, *needs: PlannedRequirement, target: str = TARGETS[0]) -> PlannedRequirement:
        """A wheel that was built and published, in answer to a request for its sdist."""
        sdist = self.sdist(name)
        return self.publish(sdist, *self.plan(sdist, *needs, target=target))

    def publish(self, sdist: Sdist, job: Job, plan: Plan, **more: object) -> PlannedRequirement:
        data = f"wheel of {sdist.name} for {job.target}".encode()
        sha256 = hashlib.sha256(data).hexdigest()
        filename, _ = self.index.claim_name(job.target, f"{sdist.name}-1.0-py3-none-any.whl", sha256)
        wheel = replace(make_built_wheel(sdist.name, filename=filename), sha256=sha256, size=len(data))
        (self.work / filename).write_bytes(data)
        manifest = Manifest(
            wheel=wheel,
            unstamped_sha256=sha256,
            metadata_sha256="1" * 64,
            requires_python="",
            target=job.target,
            provenance={"job": {**job.to_json(), **more}, "plan": plan.to_json()},
        )
        self.index.publish(plan.build_key, manifest, self.work / filename, b"Name: x\n")
        return PlannedRequirement(sdist=sdist, wheel=wheel)

    def local(self, name: str) -> tuple[str, PlannedRequirement]:
        """A tree that a client sent, the sdist made of it, and its wheel."""
        tree = hashlib.sha256(f"tree of {name}".encode()).hexdigest()
        sdist = make_sdist(name, data=name.encode())
        for sha256 in (tree, sdist.sha256):
            self.store.put(layout.local_archive(sha256), name.encode())
        self.store.put(layout.local_record(sdist.sha256), json.dumps(asdict(sdist)).encode())
        self.store.put_new(layout.local_sdist(tree, "f" * 64), json.dumps(asdict(sdist)).encode())
        return tree, self.publish(sdist, *self.plan(sdist), source_view="local")

    def keys(self) -> set[str]:
        return set(self.store.list(""))

    def collect(self, rules: GarbageRules = RULES, *, dry_run: bool = False) -> GarbageReport:
        return collect_garbage(self.store, rules, dry_run=dry_run)


@pytest.fixture
def farm(tmp_path: Path) -> Farm:
    return Farm(tmp_path)


def wheel_key(wheel: BuiltWheel) -> str:
    return layout.wheel(wheel.sha256, wheel.filename)


def require_sound(farm: Farm, targets: tuple[str, ...] = TARGETS) -> None:
    """Everything listed can be installed and explained: its wheel is there, its sdist, and all it was built with."""
    for target in targets:
        farm.index.pages.render_stale()
        page = (farm.store.get(layout.flat_page(target)) or b"").decode()
        for entry in farm.index.entries(target):
            assert f">{entry.wheel.filename}<" in page
            plan = Plan.from_json(entry.provenance["plan"])
            for wheel in [entry.wheel, *(need.wheel for need in plan.requirements)]:
                assert farm.store.size(wheel_key(wheel)) is not None
                assert farm.store.get(layout.wheel_metadata(wheel.sha256, wheel.filename)) is not None
            for sdist in [entry.provenance["job"]["sdist"], *(asdict(need.sdist) for need in plan.requirements)]:
                assert farm.store.get(layout.sdist(sdist["sha256"])) is not None
                assert farm.store.get(layout.sdist_record(sdist["sha256"])) is not None
            job = Job.from_json(entry.provenance["job"])
            assert farm.index.find(job) == entry
    for key in farm.store.list("manifests/"):
        assert farm.index.manifest(key.split("/")[1].removesuffix(".json")) is not None


def test_whatever_is_on_an_index_stays_however_old(farm: Farm) -> None:
    tool = farm.wheel("tool")
    farm.wheel("app", tool)
    before = farm.keys()
    farm.age(10_000, "")
    assert farm.collect().removed == {}
    assert farm.keys() == before
    require_sound(farm)


def test_sdist_and_plan_of_which_no_wheel_came_go_when_they_are_old(farm: Farm) -> None:
    kept = farm.wheel("app")
    farm.plan(farm.sdist("failing"))
    before = farm.keys()
    farm.age(29, "")
    assert farm.collect().removed == {}
    farm.age(31, "")
    report = farm.collect()
    assert {kind: found.objects for kind, found in report.removed.items()} == {
        "plans": 1,
        "sdists": 2,
        "metadata": 1,
        "requires": 1,
    }
    assert {key.split("/")[0] for key in before - farm.keys()} == {"plans", "sdists", "metadata", "requires"}
    assert kept.sdist.sha256 in "".join(farm.store.list("sdists/"))
    require_sound(farm)


def test_sdist_that_is_asked_for_again_counts_as_new(farm: Farm) -> None:
    sdist = farm.sdist("failing")
    farm.age(31, "")
    assert farm.store.renew(layout.sdist(sdist.sha256))
    farm.collect()
    assert farm.store.get(layout.sdist(sdist.sha256)) is not None


def test_sdists_of_an_open_request_stay(farm: Farm) -> None:
    sdist = farm.sdist("waiting")
    farm.store.put(layout.open_request("1" * 32), json.dumps({"sdists": [asdict(sdist)]}).encode())
    farm.age(400, "sdists/", "metadata/", "requires/")
    assert farm.collect().removed == {}
    farm.age(400, "")
    assert {"requests", "sdists"} <= set(farm.collect().removed)


def test_wheel_that_was_never_committed_goes_after_its_grace(farm: Farm) -> None:
    farm.wheel("app")
    farm.store.put(layout.wheel(hashlib.sha256(b"lost").hexdigest(), "lost-1.0-1-py3-none-any.whl"), b"lost")
    assert farm.collect().removed == {}
    farm.age(2, "wheels/")
    assert farm.collect().removed["wheels"].objects == 1
    require_sound(farm)


def test_names_are_never_given_back(farm: Farm) -> None:
    farm.wheel("app")
    claims = set(farm.store.list("names/"))
    farm.age(400, "")
    farm.collect(replace(RULES, forgotten_targets=TARGETS))
    assert set(farm.store.list("names/")) == claims
    assert not farm.index.entries(TARGETS[0])


def test_logs_failures_and_quarantine_go_by_age(farm: Farm) -> None:
    for key in (
        layout.build_log_chunk("a" * 64, "0001", 0),
        layout.failure("b" * 64),
        layout.quarantined("patches/" + "c" * 64),
    ):
        farm.store.put(key, b"{}")
    assert farm.collect().removed == {}
    farm.age(31, "")
    assert set(farm.collect().removed) == {"logs", "failures", "quarantine"}
    assert farm.keys() == set()


def test_local_sources_go_with_their_wheels_unless_a_resolution_remembers_them(farm: Farm) -> None:
    _, forgotten = farm.local("forgotten")
    tree, remembered = farm.local("remembered")
    farm.age(31, "")
    farm.store.put("locks/" + "d" * 64 + "/wheels.json", json.dumps([asdict(remembered.wheel)]).encode())
    farm.collect()
    left = farm.keys()
    assert not [key for key in left if forgotten.wheel.sha256 in key or forgotten.sdist.sha256 in key]
    assert {wheel_key(remembered.wheel), layout.local_wheel(remembered.wheel.sha256)} <= left
    assert layout.local_archive(remembered.sdist.sha256) in left
    assert layout.local_archive(tree) not in left


def test_of_what_clients_sent_the_oldest_goes_beyond_the_quota(farm: Farm) -> None:
    for number, days in enumerate((20, 10, 5, 0.5)):
        key = layout.local_archive(f"{number}" * 64)
        farm.store.put(key, b"x" * (600 << 10))
        farm.age(days, key)
    report = farm.collect(replace(RULES, local_mib=1))
    assert report.removed["local"].objects == 3
    assert list(farm.store.list("local/")) == [layout.local_archive("3" * 64)]


def test_pages_of_upstreams_go_unless_an_sdist_that_stays_is_on_them(farm: Farm) -> None:
    kept = farm.wheel("app").sdist
    pages = {
        "used": json.dumps({"page": {"sdists": [asdict(kept)]}}),
        "unused": json.dumps({"page": {"sdists": [asdict(make_sdist("other", data=b"other"))]}}),
        "absent": '{"page": null}',
    }
    for name, text in pages.items():
        farm.store.put(layout.upstream_page("ab" * 8, name), text.encode())
    farm.age(29, "")
    assert farm.collect().removed == {}
    farm.age(31, "")
    assert farm.collect().removed["upstreams"].objects == 2
    assert list(farm.store.list("upstreams/")) == [layout.upstream_page("ab" * 8, "used")]


def test_notes_of_tenants_go_when_nothing_is_left_of_what_they_were_told_of(farm: Farm) -> None:
    wheel = farm.wheel("app").wheel
    _, local = farm.local("lib")
    job = make_job().id
    farm.store.put(layout.build_log_chunk(job, "run", 0), b"log")
    there = {(Thing.WHEEL, wheel.sha256), (Thing.LOCAL, local.sdist.sha256), (Thing.JOB, job)}
    gone = {(thing, "0" * 64) for thing in Thing}
    for thing, name in there | gone:
        farm.store.put(layout.grant("team", thing, name), b"")
    farm.age(29, "")
    assert farm.collect().removed == {}
    farm.age(31, "tenants/")
    assert farm.collect().removed["tenants"].objects == 3
    assert set(farm.store.list("tenants/")) == {layout.grant("team", thing, name) for thing, name in there}
    farm.age(31, "")
    farm.collect()
    assert list(farm.store.list("tenants/")) == [layout.grant("team", Thing.WHEEL, wheel.sha256)]


def test_metadata_that_was_replaced_goes_and_the_newest_revision_stays_with_its_target(farm: Farm) -> None:
    target, forgotten, sha256 = make_target(), "f" * 64, "1" * 64
    farm.store.put(layout.target(target.name, target.revision), b"{}")
    keys = [layout.revised_metadata(target.revision, "app", sha256, number) for number in (1, 2, 3)]
    other = layout.revised_metadata(target.revision, "app", "2" * 64, 1)
    for key in (*keys, other, layout.revised_metadata(forgotten, "app", sha256, 1)):
        farm.store.put(key, b"Name: app\n")
    assert farm.collect().removed == {}
    farm.age(2, "")
    assert farm.collect().removed["revisions"].objects == 3
    assert set(farm.store.list("revisions/")) == {keys[-1], other}


def test_forgotten_target_goes_with_its_wheels_and_no_other_does(farm: Farm) -> None:
    mine, other = farm.wheel("app", target=TARGETS[0]), farm.wheel("app", target=TARGETS[1])
    farm.age(31, "")
    farm.collect(replace(RULES, forgotten_targets=(TARGETS[0],)))
    left = farm.keys()
    assert wheel_key(mine.wheel) not in left
    assert wheel_key(other.wheel) in left
    assert layout.flat_page(TARGETS[0]) not in left
    require_sound(farm)


def test_dry_run_tells_the_same_and_removes_nothing(farm: Farm) -> None:
    farm.wheel("app")
    farm.plan(farm.sdist("failing"))
    farm.local("lib")
    farm.age(31, "")
    before = farm.keys()
    told = farm.collect(dry_run=True)
    assert farm.keys() == before
    done = farm.collect()
    assert (told.dry_run, told.removed) == (True, done.removed)
    assert farm.collect().removed == {}


def test_document_that_cannot_be_read_ends_the_run_before_anything_goes(farm: Farm) -> None:
    farm.plan(farm.sdist("failing"))
    farm.age(31, "")
    (farm.store.root / "index" / "host-a").mkdir(parents=True)
    (farm.store.root / "index" / "host-a" / "loop.json").symlink_to("loop.json")
    before = farm.keys()
    with pytest.raises(FarmUnavailable):
        farm.collect()
    assert farm.keys() == before


class Killed(Exception):
    """The collector ended in the middle."""


class MortalStore(DirectoryStore):
    """A store whose user is killed at its n-th removal, before or after it."""

    left = 0

    def delete_older(self, key: str, than: float) -> bool:
        self.left -= 1
        if self.left == 0:
            raise Killed
        return super().delete_older(key, than)


def random_history(farm: Farm, chance: random.Random) -> None:
    """Wheels, failed builds, local trees, and a mixture of ages."""
    built: list[PlannedRequirement] = []
    for number in range(chance.randint(4, 9)):
        needs = chance.sample(built, min(len(built), chance.randint(0, 2)))
        match chance.choice(["wheel", "wheel", "plan", "local", "lost"]):
            case "wheel":
                built.append(farm.wheel(f"wheel{number}", *needs, target=chance.choice(TARGETS)))
            case "plan":
                farm.plan(farm.sdist(f"plan{number}"), *needs)
            case "local":
                farm.local(f"local{number}")
            case _:
                farm.store.put(layout.wheel(f"{number}" * 64, "lost-1-py3-none-any.whl"), b"lost")
                farm.store.put(layout.build_log_chunk(f"{number}" * 64, "0001", 0), b"log")
    farm.index.pages.render_stale()
    for key in farm.store.list(""):
        farm.age(chance.choice([0, 5, 40, 400]), key)


def interrupted_runs(farm: Farm, rules: GarbageRules) -> Iterator[None]:
    """Runs that are killed at their first removal, their second, …, until one ends by itself."""
    mortal = MortalStore(farm.store.root)
    for last in range(1, 1000):
        mortal.left = last
        try:
            collect_garbage(mortal, rules, dry_run=False)
        except Killed:
            yield
            continue
        return


@pytest.mark.parametrize("seed", range(6))
def test_store_is_sound_after_any_run_and_any_run_that_was_killed(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    farm, twin = Farm(tmp_path / "a"), Farm(tmp_path / "b")
    random_history(farm, random.Random(seed))
    random_history(twin, random.Random(seed))
    assert farm.keys() == twin.keys()
    rules = replace(RULES, forgotten_targets=chance.choice([(), (TARGETS[1],)]))
    for _ in interrupted_runs(farm, rules):
        require_sound(farm)
    twin.collect(rules)
    require_sound(twin)
    assert farm.keys() == twin.keys()


@pytest.mark.parametrize(
    "value", [{"unused_days": 0.5}, {"grace_days": 0}, {"local_mib": -1}, {"x": 1}, {"unused_days": "30"}]
)
def test_rules_that_are_not_understood_are_refused(value: dict[str, object]) -> None:
    with pytest.raises(InputError):
        GarbageRules.from_json(value)
