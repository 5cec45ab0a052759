"""The main job with a bucket of a real S3 server as the store, by a farm of separate processes and by embedded ones."""

import re
from collections.abc import Iterator

import pytest

from tests.acceptance.conftest import Home
from tests.support.fleet import SeparateFarm, separate_farm
from tests.support.projects import Project, backend_project
from tests.support.s3 import Bucket
from wheelfarm_services.wheel_index import WheelIndex

SET = (
    Project(name="app", requires_dist=["library"], build_requires=["tinybackend"], backend="tinybackend"),
    Project(name="library", static=False),
    backend_project(),
)


def settings_of(bucket: Bucket) -> dict[str, str]:
    settings = bucket.settings()
    return {"WHEELFARM_STORE": settings.store, "WHEELFARM_S3_ENDPOINT": settings.s3_endpoint}


@pytest.fixture
def farm(home: Home, bucket: Bucket) -> Iterator[SeparateFarm]:
    folder = home.root / "farm"
    folder.mkdir()
    with separate_farm(folder, home.upstream.url, **settings_of(bucket)) as made:
        made.start_broker()
        made.start_services()
        made.start_worker("w1", "--slots", "2")
        home.settings |= made.client
        yield made


def test_services_and_worker_share_a_bucket(home: Home, farm: SeparateFarm, bucket: Bucket) -> None:
    home.upstream.add(*SET)

    done = home.run("install", "--venv", home.root / "env", "app")

    assert done.code == 0, done.err + farm.logs()
    assert (home.root / "env" / "bin" / "python").exists()
    store = bucket.store()
    wheels = sorted(key.rpartition("/")[2] for key in store.list("wheels/") if key.endswith(".whl"))
    assert wheels == [f"{name}-1.0-1-py3-none-any.whl" for name in ("app", "library", "tinybackend")]
    WheelIndex(store).pages.render_stale()
    (page,) = (key for key in store.list("flat/") if key.endswith(".html"))
    linked = re.findall(r">([^<>]+\.whl)<", (store.get(page) or b"").decode())
    assert sorted(linked) == wheels
    assert list(store.list("requests/")) == []
    assert home.run("why", "app").code == 0
    assert home.run("gc", "--json").json["removed"] == {}
    assert not (farm.root / "store").exists()
    (target,) = {key.split("/")[1] for key in store.list("index/")}
    export = home.run("export", "--json", "--target", target, "--with-build-requirements", home.root / "export")
    assert export.code == 0, export.err + farm.logs()
    assert sorted(path.name for path in (home.root / "export").glob("*.whl")) == wheels
    again = home.run("export", "--verify", "--sha256", export.json["sha256"], home.root / "export")
    assert again.code == 0, again.err


def test_wheel_that_was_damaged_in_the_bucket_is_built_anew(home: Home, farm: SeparateFarm, bucket: Bucket) -> None:
    home.upstream.add(*SET)
    assert home.run("build", "library", "--out", home.root / "first").code == 0
    store = bucket.store()
    (key,) = (key for key in store.list("wheels/") if key.endswith(".whl"))
    store.put(key, b"damaged")

    elsewhere = {"WHEELFARM_CACHE": str(home.root / "c")}
    refused = home.run("build", "library", "--out", home.root / "second", environment=elsewhere)
    done = home.run("build", "library", "--out", home.root / "second", environment=elsewhere)

    assert refused.code == 36
    assert key in refused.err
    assert "Run the command again" in refused.err
    assert done.code == 0, done.err + farm.logs()
    assert done.out.strip().endswith(key.rpartition("/")[2])
    assert store.get(f"quarantine/{key}") == b"damaged"


def test_build_requirement_that_is_lost_is_built_anew(home: Home, farm: SeparateFarm, bucket: Bucket) -> None:
    home.upstream.add(*SET, Project(name="other", build_requires=["tinybackend"], backend="tinybackend"))
    assert home.run("build", "app", "--out", home.root / "first").code == 0
    store = bucket.store()
    for key in [key for key in store.list("wheels/") if "tinybackend" in key or "app" in key]:
        store.delete(key)

    done = home.run("build", "app", "other", "--out", home.root / "second")

    assert done.code == 0, done.err + farm.logs()
    assert "built    tinybackend==1.0" in done.err
    assert sum("tinybackend" in key for key in store.list("wheels/")) == 2


def test_embedded_farms_of_two_machines_share_a_bucket(home: Home, bucket: Bucket) -> None:
    home.upstream.add(*SET)
    home.settings |= settings_of(bucket)
    first = home.run("install", "--venv", home.root / "env", "app")
    other = {"WHEELFARM_CACHE": str(home.root / "other"), "XDG_RUNTIME_DIR": str(home.root / "data")}

    second = home.run("install", "--venv", home.root / "env2", "app", environment=other)

    assert first.code == 0, first.err + home.farm_log()
    assert "built" in first.err
    assert second.code == 0, second.err + home.farm_log()
    assert not re.search(r"^built ", second.err, re.MULTILINE), second.err
    assert not (home.root / "data" / "wheelfarm" / "wheels").exists()


def test_bucket_that_cannot_be_used_ends_the_command_with_the_reason(home: Home, bucket: Bucket) -> None:
    home.settings |= settings_of(bucket)
    done = home.run("build", "app", environment={"AWS_SECRET_ACCESS_KEY": "wrong-secret"})
    assert done.code == 30
    assert "The secret key is not that of the access key" in done.err
    assert "wrong-secret" not in done.err + home.farm_log()
