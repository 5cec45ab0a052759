import io
import json
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.support.asgi import operations_client
from tests.support.ledger import FakeLedger, make_record
from tests.support.projects import Project, make_tar_gz
from tests.support.values import make_built_wheel, make_job, make_sdist, make_target
from wheelfarm.errors import InputError
from wheelfarm.forecast import DurationSource, Forecast
from wheelfarm.job import Failure, FailureClass, JobState, Sdist
from wheelfarm.target import HOST_QUEUE
from wheelfarm_services import layout
from wheelfarm_services.build_history import BuildHistory, PastBuild, expected_seconds
from wheelfarm_services.build_system import BuildSystem
from wheelfarm_services.doubts import compiles, needed_tools, stated_doubts
from wheelfarm_services.failures import Failures
from wheelfarm_services.forecasts import Forecasts, forecast_operations
from wheelfarm_services.ledger import Ledger
from wheelfarm_services.past_durations import tell_durations
from wheelfarm_services.recipe_book import RecipeBook
from wheelfarm_services.requests import Requests
from wheelfarm_services.sdist_head import SdistHead, read_head
from wheelfarm_services.source_index import SourceIndex
from wheelfarm_services.stated_build import StatedBuild
from wheelfarm_services.store import DirectoryStore
from wheelfarm_services.submissions import subject_of
from wheelfarm_services.targets import RegisteredTargets
from wheelfarm_services.tenancy import Tenancy
from wheelfarm_services.wheel_index import Manifest, Plan, WheelIndex

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TARGET = make_target()


class Sources:
    """A source index that lists the sdists that it was given."""

    def __init__(self) -> None:
        self.sdists: dict[Sdist, bytes] = {}
        self.heads_read = 0

    def mirror(self, sdist: Sdist) -> None:
        if sdist not in self.sdists:
            raise InputError("not listed")

    def head(self, sdist: Sdist) -> SdistHead:
        self.heads_read += 1
        return read_head(sdist, io.BytesIO(self.sdists[sdist]))


class Services:
    def __init__(self, folder: Path) -> None:
        self.store = DirectoryStore.create(folder / "store")
        self.ledger = FakeLedger()
        self.fake = Sources()
        self.sources: SourceIndex = self.fake  # type: ignore[assignment]  # all that forecasts ask is there
        self.wheels = WheelIndex(self.store)
        self.requests = Requests(self.store, self.ledger.as_ledger, self.sources, self.wheels, RecipeBook(self.store))
        self.requests.register(TARGET)
        self.forecasts = Forecasts(self.store, self.ledger.as_ledger, self.sources, self.requests, clock=lambda: NOW)

    def add(self, data: bytes, *, name: str = "app", upload_time: str = "") -> Sdist:
        sdist = make_sdist(name, data=data)
        self.fake.sdists[sdist] = data
        listed = {"sdist": asdict(sdist), "url": "http://x", "upload_time": upload_time}
        self.store.put(layout.sdist_record(sdist.sha256), json.dumps(listed).encode())
        return sdist

    def built(self, name: str, version: str, **provenance: Any) -> Manifest:
        filename = f"{name}-{version}-1-py3-none-any.whl"
        manifest = Manifest(
            wheel=make_built_wheel(name, version, filename=filename),
            unstamped_sha256="0" * 64,
            metadata_sha256="1" * 64,
            requires_python="",
            target=TARGET.name,
            provenance=provenance,
        )
        self.store.put(layout.wheel(manifest.wheel.sha256, filename), b"wheel")
        self.wheels.enlist(manifest)
        return manifest

    def one(self, sdist: Sdist) -> Forecast:
        (found,) = self.forecasts.of([sdist], TARGET)
        return found


@pytest.fixture
def services(tmp_path: Path) -> Services:
    return Services(tmp_path)


def test_build_requirements_are_the_stated_ones_and_what_the_backend_was_heard_to_ask_for(services: Services) -> None:
    sdist = services.add(Project(name="app", build_requires=["tiny>=1"], backend="tiny").sdist())
    found = services.one(sdist)
    assert (found.requires, found.backend, found.backend_asked) == (("tiny>=1",), "tiny", False)
    services.store.put(layout.hook_requirements(sdist.sha256, TARGET.revision), b'["helper"]')
    found = services.one(sdist)
    assert (found.requires, found.backend_asked) == (("helper", "tiny>=1"), True)


def test_archive_is_read_once(services: Services) -> None:
    sdist = services.add(Project(name="app", build_requires=["tiny>=1"], backend="tiny").sdist())
    assert services.one(sdist) == services.one(sdist)
    assert services.fake.heads_read == 1


def test_cached_wheel_is_told(services: Services) -> None:
    sdist = services.add(Project(name="app").sdist())
    manifest = services.built("app", "1.0")
    services.wheels.record_plan(make_job(sdist), Plan(build_key="5" * 64, requirements=()))
    services.store.put(layout.manifest("5" * 64), manifest.to_json())
    assert services.one(sdist).wheel == manifest.wheel


def test_remembered_failure_is_told_and_a_passing_one_is_not(services: Services) -> None:
    sdist = services.add(Project(name="app").sdist())
    job = make_job(sdist)
    for error, told in (("build-failed", True), ("farm-unavailable", False), ("upstream", False)):
        failure = Failure(failure_class=FailureClass.BUILD, error=error, message="m")
        record = make_record(
            job.id, state=JobState.FAILED, failure=json.dumps(failure.to_json()), spec=json.dumps(job.to_json())
        )
        services.ledger.records[job.id] = record
        assert (services.one(sdist).failure is not None) is told


def test_failure_that_the_store_remembers_is_told_when_the_ledger_has_forgotten_it(services: Services) -> None:
    sdist = services.add(Project(name="app").sdist())
    failure = Failure(failure_class=FailureClass.MISSING, error="build-failed", message="no header")
    Failures(services.store).remember(make_job(sdist).request_key, failure, build_key="5" * 64, limits={}, for_s=60)
    assert services.one(sdist).failure == failure


def test_recipe_has_its_say(services: Services, tmp_path: Path) -> None:
    text = """
        project = "app"
        [[recipe]]
        reason = "Old C code."
        build-constraints = ["cython<3"]
        extra-build-requirements = ["helper"]
    """
    (tmp_path / "app.toml").write_text(text)
    RecipeBook(services.store).publish(tmp_path)
    found = services.one(services.add(Project(name="app", build_requires=["cython"]).sdist()))
    assert (found.requires, found.constraints, found.recipe) == (("cython", "helper"), ("cython<3",), "Old C code.")


@pytest.mark.parametrize(
    "files", [{"pyproject.toml": b"not toml ["}, {"pyproject.toml": b"[build-system]\nrequires = ['x @ http://y']\n"}]
)
def test_sdist_that_cannot_be_built_is_told_and_does_not_stop_the_others(
    services: Services, files: dict[str, bytes]
) -> None:
    bad = services.add(make_tar_gz({f"app-1.0/{name}": data for name, data in files.items()}))
    good = services.add(Project(name="good").sdist(), name="good")
    first, second = services.forecasts.of([bad, good], TARGET)
    assert [doubt.likely for doubt in first.doubts] == [True]
    assert second.doubts == ()


def test_sdist_that_the_source_index_does_not_list_is_refused(services: Services) -> None:
    with pytest.raises(InputError):
        services.one(make_sdist("unlisted"))


def test_setup_py_of_long_ago_is_doubted(services: Services) -> None:
    data = make_tar_gz({"app-1.0/PKG-INFO": b"Metadata-Version: 1.1\nName: app\nVersion: 1.0\n"})
    found = services.one(services.add(data, upload_time="2014-05-01T00:00:00Z"))
    assert any("2014" in doubt.text for doubt in found.doubts)
    assert found.backend == "setuptools.build_meta:__legacy__"


def test_history_has_each_recorded_duration(services: Services) -> None:
    services.built("app", "1.0", duration_s=2.0, build_system={"backend": "b", "requires": []})
    services.built("old", "1.0")
    history = BuildHistory(services.store)
    assert history.of(TARGET.name) == [PastBuild(name="app", version="1.0", backend="b", native=False, seconds=2.0)]
    services.built("new", "1.0", duration_s=3.0)
    assert [build.name for build in history.of(TARGET.name)] == ["app", "new"]
    assert history.of("host-other") == []


def test_ledger_that_begins_is_told_how_long_projects_took(services: Services) -> None:
    for version, seconds in (("1.0", 2.0), ("2.0", 30.0), ("3.0", 4.0)):
        services.built("app", version, duration_s=seconds)
    services.built("old", "1.0")
    told: dict[str, float] = {}
    ledger = cast(Ledger, SimpleNamespace(remember_seconds=told.update))
    targets = RegisteredTargets(services.store)
    targets.register(TARGET)
    services.store.put(layout.target("host-broken", "0" * 64), b"{}")
    tell_durations(services.store, ledger, targets)
    assert told == {subject_of(replace(make_job(make_sdist("app")), queue=HOST_QUEUE)): 4.0}


@pytest.mark.parametrize(
    ("past", "expected"),
    [
        (["app 1.0 x 4", "app 2.0 b 1"], (4.0, DurationSource.VERSION)),
        (["app 0.9 x 4", "app 2.0 b 6", "c 1.0 b 1"], (5.0, DurationSource.PROJECT)),
        (["c 1.0 b 1", "d 1 b:x 2", "e 1 b 9", "f 1 b 99 native"], (2.0, DurationSource.BACKEND)),
        (["d 1.0 x 9", "d 2.0 x 7", "c 1.0 b 8", "e 1 b 99 native"], (8.0, DurationSource.TARGET)),
        (["c 1.0 b 1", "d 1.0 b 9", "e 1 b 99 native"], (None, DurationSource.NONE)),
        ([], (None, DurationSource.NONE)),
    ],
)
def test_most_alike_past_builds_tell_the_duration(
    past: list[str], expected: tuple[float | None, DurationSource]
) -> None:
    builds = [
        PastBuild(name=name, version=version, backend=backend, seconds=float(seconds), native=bool(native))
        for name, version, backend, seconds, *native in map(str.split, past)
    ]
    assert expected_seconds(make_sdist("app"), "b", False, builds) == expected


def stated(*requires: str, pyproject: bool = True, requires_python: str = "") -> StatedBuild:
    system = BuildSystem(requires=requires, backend="b", backend_path=())
    return StatedBuild(build_system=system, has_pyproject=pyproject, requires_python=requires_python)


def test_tools_of_build_requirements_are_told() -> None:
    assert needed_tools(["Maturin>=1,<2", "setuptools"]) == ("cargo",)
    assert needed_tools(["meson_python", "scikit-build-core"]) == ("cmake", "ninja")
    assert needed_tools(["setuptools"]) == ()
    assert compiles(["setuptools", "Cython<4"])
    assert not compiles(["setuptools"])


@pytest.mark.parametrize(
    ("one", "python", "uploaded", "words"),
    [
        (stated(), "3.13.0", "2010-01-01T00:00:00Z", []),
        (stated(requires_python="<3.12"), "3.12.0", "", [("Requires-Python <3.12", True)]),
        (stated(requires_python="nonsense"), "3.12.0", "", []),
        (stated(requires_python=">=3.8"), "3.12.0", "", []),
        (stated(pyproject=False), "3.11.7", "2025-01-01T00:00:00Z", []),
        (stated(pyproject=False), "3.12.0", "not a time", [("distutils", False)]),
        (stated(pyproject=False), "3.11.7", "2012-01-01T00:00:00.123456Z", [("2012", False)]),
        (stated(pyproject=False), "3.11.7", "2012-01-01T00:00:00", []),
    ],
)
def test_doubts_are_those_that_the_sdist_states(
    one: StatedBuild, python: str, uploaded: str, words: list[tuple[str, bool]]
) -> None:
    found = stated_doubts(one, uploaded, python, NOW)
    assert len(found) == len(words)
    for doubt, (word, likely) in zip(found, words, strict=True):
        assert word in doubt.text
        assert doubt.likely is likely


def test_route_answers_in_the_order_of_the_question_and_refuses_what_is_malformed(services: Services) -> None:
    client = operations_client(
        forecast_operations(
            services.store, services.ledger.as_ledger, services.sources, services.requests, Tenancy(services.store)
        )
    )
    sdists = [services.add(Project(name=name).sdist(), name=name) for name in ("b", "a")]
    question: dict[str, Any] = {"target": TARGET.name, "target_revision": TARGET.revision}
    asked = {**question, "sdists": [asdict(sdist) for sdist in sdists]}
    answer = [Forecast.from_json(value) for value in client.post("/forecasts", json=asked).json()]
    assert [forecast.sdist for forecast in answer] == sdists
    wrong: tuple[object, ...] = (
        [],
        {},
        {**question, "sdists": {}},
        {**question, "sdists": ["app"]},
        {**asked, "target": "absent"},
    )
    for body in wrong:
        assert client.post("/forecasts", json=body).status_code == 400
    assert list(services.store.list("requests/")) == []
    assert services.ledger.submitted == {}


def test_sdist_that_is_not_here_is_brought_only_for_who_may_have_that_done(services: Services) -> None:
    sdist = services.add(Project(name="app").sdist())
    (unknown,) = services.forecasts.of([sdist], TARGET, bring=False)
    assert services.fake.heads_read == 0
    assert [doubt.likely for doubt in unknown.doubts] == [False]
    assert "not here yet" in unknown.doubts[0].text
    services.store.put(layout.sdist(sdist.sha256), b"brought")
    (known,) = services.forecasts.of([sdist], TARGET, bring=False)
    assert known == services.one(sdist)
