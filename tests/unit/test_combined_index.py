"""Several targets' wheels behind one URL."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.index_farm import publish
from tests.support.values import make_target
from tests.unit.test_api import Farm
from wheelfarm.target import Target
from wheelfarm_services.wheel_index.page import SIMPLE_JSON

OLDER = make_target("host-cp311")
NEWER = replace(make_target("host-cp312"), abi="cp312", python_version="3.12.1")
TWIN = make_target("host-twin")
BOTH = f"/combined/{NEWER.name},{OLDER.name}/"


def put(farm: Farm, *targets: Target) -> None:
    for target in targets:
        farm.requests.register(target)


def page(farm: Farm, path: str) -> Any:
    answer = farm.client.get(path, headers={"Accept": SIMPLE_JSON})
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.fixture
def farm(tmp_path: Path) -> Farm:
    farm = Farm(tmp_path)
    put(farm, OLDER, NEWER, TWIN)
    return farm


def test_wheels_of_all_targets_are_listed_and_of_one_name_the_first_targets(farm: Farm) -> None:
    older = publish(farm.store, "app", target=OLDER.name, text="older")
    newer = publish(farm.store, "app", target=NEWER.name, text="newer")
    publish(farm.store, "app", "0.9", target=OLDER.name)
    publish(farm.store, "other", target=OLDER.name)
    assert older.filename == newer.filename

    found = page(farm, BOTH + "app/")
    assert found["versions"] == ["0.9", "1.0"]
    assert found["files"][1]["hashes"] == {"sha256": newer.sha256}
    reverse = page(farm, f"/combined/{OLDER.name},{NEWER.name}/app/")
    assert reverse["files"][1]["hashes"] == {"sha256": older.sha256}
    assert page(farm, BOTH)["projects"] == [{"name": "app"}, {"name": "other"}]
    url = httpx.URL(f"http://farm{BOTH}app/").join(found["files"][0]["url"])
    assert farm.client.get(url.path).status_code == 200


def test_targets_whose_wheels_nobody_could_tell_apart_are_refused(farm: Farm) -> None:
    answer = farm.client.get(f"/combined/{OLDER.name},{TWIN.name}/app/")
    assert answer.status_code == 400
    assert "both build cp311 for linux-x86_64" in answer.json()["message"]


def test_what_none_of_them_has_is_not_found_and_not_built(farm: Farm) -> None:
    publish(farm.store, "app", target=OLDER.name)
    answer = farm.client.get(BOTH + "nothing/")
    assert answer.status_code == 404
    assert "builds nothing on demand" in answer.json()["hint"]
    assert farm.client.get("/combined/unknown/").status_code == 404
    assert farm.client.get(f"{BOTH}App/", follow_redirects=False).headers["location"] == "../app/"
