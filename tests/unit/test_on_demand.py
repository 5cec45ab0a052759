import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import httpx
import pytest
from redis import Redis
from starlette.applications import Starlette

from tests.support.asgi import asgi_client
from tests.support.values import make_target
from tests.support.waiting import PATIENCE_S, wait_until
from tests.unit.test_explanations import TARGET, Index
from wheelfarm.errors import BuildFailed, FarmUnavailable, UnknownProject, WheelfarmError
from wheelfarm.target import Target
from wheelfarm.token_file import digest, new_token
from wheelfarm_services import layout
from wheelfarm_services.access import Access
from wheelfarm_services.answer_memory import AnswerMemory
from wheelfarm_services.auth import Authenticated
from wheelfarm_services.fleet import Fleet
from wheelfarm_services.index_routes import index_operations
from wheelfarm_services.on_demand import STARTS_PER_MINUTE, OnDemand
from wheelfarm_services.on_demand_routes import building_on_demand, held_s
from wheelfarm_services.operation import routes_of
from wheelfarm_services.rate_limits import RateLimits
from wheelfarm_services.store import DirectoryStore
from wheelfarm_services.tenancy import Tenancy
from wheelfarm_services.wheel_index import WheelIndex

PAGE = f"/simple/{TARGET}/app/"


class Memory:
    """As much of Redis as is used, without an end of anything."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}

    def get(self, key: str) -> str | None:
        return self.values.get(key)

    def set(self, key: str, value: str, *, ex: int, nx: bool = False) -> bool:
        if nx and key in self.values:
            return False
        self.values[key] = value
        return True

    def expire(self, key: str, seconds: int) -> bool:
        return key in self.values


class Limits:
    """Counts, and refuses more than is allowed a minute."""

    def __init__(self) -> None:
        self.uses: list[str] = []

    def wait_s(self, token: str, per_minute: int) -> float:
        self.uses.append(token)
        return 7.0 if len(self.uses) > per_minute else 0.0


class Nobody:
    """A fleet without workers."""

    def workers(self) -> list[object]:
        return []


class Farm:
    """An index that builds on demand; builds wait for `go`, then raise `error` or put the project on the index."""

    def __init__(self, folder: Path, *, patterns: tuple[str, ...] = ("host-*",), scope: str = "build") -> None:
        self.index = Index(folder)
        self.add("other")
        self.built: list[tuple[str, str]] = []
        self.go = threading.Event()
        self.error: WheelfarmError | None = None
        self.redis, self.limits = Memory(), Limits()
        self.token = new_token("ci")
        file = folder / "tokens.toml"
        file.write_text(f'[tokens.ci]\nsha256 = "{digest(self.token)}"\nscopes = ["{scope}"]\n')
        demand = OnDemand(
            patterns,
            redis=cast(Redis, self.redis),
            store=self.index.store,
            fleet=cast(Fleet, Nobody()),
            limits=cast(RateLimits, self.limits),
            build=self._build,
        )
        operations = index_operations(self.index.store, WheelIndex(self.index.store), Tenancy(self.index.store))
        covered = building_on_demand(operations, demand, held=lambda _: 0.0)
        self.client = asgi_client(
            Authenticated(AnswerMemory(Starlette(routes=routes_of(covered))), Access("", file)),
            Authorization=f"Bearer {self.token}",
        )

    def _build(self, requirement: str, target: Target, token: str, goes_on: Callable[[], None]) -> None:
        self.built.append((requirement, token))
        self.go.wait(PATIENCE_S)
        goes_on()
        if self.error:
            raise self.error
        self.add(requirement.partition("=")[0])

    def add(self, project: str) -> None:
        """Put a project on the index of a target that is defined."""
        self.index.add(project)
        target = make_target()  # in place of what it was, at once: others ask meanwhile
        self.index.store.put(layout.target(TARGET, target.revision), json.dumps(target.to_json()).encode())

    def ended(self, path: str = PAGE) -> httpx.Response:
        """The answer when the build has ended."""
        self.go.set()
        answers: list[httpx.Response] = []

        def is_final() -> bool:
            answers.append(self.client.get(path))
            return '"building"' not in answers[-1].text

        assert wait_until(is_final)
        return answers[-1]


@pytest.fixture
def farm(tmp_path: Path) -> Farm:
    return Farm(tmp_path)


def test_missing_project_is_built_once_and_asked_for_again_until_it_is_there(farm: Farm) -> None:
    for _ in range(3):
        answer = farm.client.get(PAGE)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert farm.ended().status_code == 200
    assert farm.built == [("app", farm.token)], "with the token of who asked"
    assert farm.client.get(PAGE).status_code == 200
    assert farm.token not in str(farm.redis.values)


def test_version_that_is_wanted_is_built_though_there_are_others(farm: Farm) -> None:
    farm.add("app")
    assert farm.client.get(PAGE).status_code == 200
    assert farm.client.get(PAGE, params={"want": "01.5"}).status_code == 503
    farm.ended(f"{PAGE}?want=1.5")
    assert [requirement for requirement, _ in farm.built] == ["app==1.5"]
    assert farm.client.get(PAGE, params={"want": "; x"}).status_code == 400


def test_version_that_is_wanted_is_looked_for_each_time(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DirectoryStore, "now", lambda _: time.time() + 60)  # pages count as written long ago
    wanted = f"{PAGE}?want=1.5"
    assert farm.ended(wanted).status_code == 200
    farm.redis.values.clear()
    assert farm.client.get(wanted).status_code == 503
    assert farm.client.get(PAGE).status_code == 200


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UnknownProject("There is no app."), 404),
        (BuildFailed("It is broken."), 422),
        (FarmUnavailable("A part is away."), 503),
    ],
)
def test_failure_is_told_with_its_reason_and_remembered(farm: Farm, error: WheelfarmError, status: int) -> None:
    farm.error = error
    for _ in range(2):
        answer = farm.ended()
        assert (answer.status_code, answer.json()["message"]) == (status, error.message)
    assert len(farm.built) == 1


@pytest.mark.parametrize(
    "path", [PAGE.replace(TARGET, "other-target"), PAGE.replace("app", "%3B"), PAGE.replace("app", "a%20@%20http")]
)
def test_nothing_is_built_for_other_targets_or_of_no_project(farm: Farm, path: str) -> None:
    assert farm.client.get(path).status_code in (301, 404)
    assert farm.client.get(path, params={"want": "1"}).status_code in (301, 404)
    assert farm.built == []


def test_token_that_may_only_read_starts_nothing(tmp_path: Path) -> None:
    farm = Farm(tmp_path, scope="read")
    assert farm.client.get(PAGE).status_code == 404
    assert farm.client.get(PAGE, params={"want": "1"}).status_code == 404
    assert farm.built == []


def test_target_that_nobody_defined_is_not_found(tmp_path: Path) -> None:
    farm = Farm(tmp_path, patterns=("*",))
    assert farm.client.get("/simple/nothing/app/").status_code == 404
    assert farm.redis.values == {}


def test_only_so_many_are_begun_at_once_and_a_minute(farm: Farm) -> None:
    for number in range(12):
        assert farm.client.get(PAGE.replace("app", f"app{number}")).status_code == 503
    assert wait_until(lambda: len(farm.built) == 8)
    assert len(farm.limits.uses) == 8, "what is not begun does not count"
    farm.ended(PAGE.replace("app", "app1"))
    farm.limits.uses = ["x"] * STARTS_PER_MINUTE
    assert wait_until(lambda: farm.client.get(PAGE.replace("app", "more")).status_code == 429)
    assert farm.client.get(PAGE.replace("app", "more")).headers["retry-after"] == "7"


def test_installers_are_kept_waiting_for_less_than_their_patience() -> None:
    assert held_s('pip/26.3 {"ci":null}') < 15
    assert 15 < held_s("uv/0.13.9 {}") < 30
    assert held_s("") < 15
