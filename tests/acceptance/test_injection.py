"""Requirements that would lead a resolver elsewhere: refused wherever foreign code or files may state them."""

from collections.abc import Iterator

import pytest

from tests.acceptance.conftest import Home, held_farm, open_home
from tests.acceptance.test_policy import with_policy
from tests.support.projects import Project
from tests.support.upstream import Upstream

HOSTILE = [
    "dep @ {url}",
    "dep @ file:///etc/passwd",
    "--index-url={url}",
    "-r /etc/passwd",
    "dep\n--index-url={url}",
    "./dep",
]
DIRECT = HOSTILE[:2]


@pytest.fixture(scope="module")
def shared() -> Iterator[Home]:
    """One home, its farm running, whose upstream has a project that nobody may be led to."""
    with Upstream() as upstream, open_home(upstream) as home:
        upstream.add(Project(name="dep"))
        with held_farm(home):
            yield home


@pytest.mark.parametrize("number", range(len(HOSTILE)), ids=[repr(text) for text in HOSTILE])
@pytest.mark.parametrize("place", ["build_requires", "asks"])
def test_hostile_build_requirement_is_refused_by_name(shared: Home, place: str, number: int) -> None:
    hostile = HOSTILE[number].format(url=shared.upstream.url + "elsewhere")
    name = f"{place.partition('_')[0]}{number}"
    shared.upstream.add(Project(name=name, **{place: [hostile]}))  # type: ignore[arg-type]

    done = shared.run("build", name)

    assert done.code in (3, 15, 20), done.err  # 20: what a hook answers is read in the sandbox first
    assert name in done.err
    assert not [path for path in shared.upstream.requests if "elsewhere" in path or "dep" in path]
    assert [wheel for wheel in shared.wheel_names() if wheel.startswith(name)] == []


@pytest.mark.parametrize(("name", "text", "static"), [("stated", DIRECT[0], True), ("computed", DIRECT[1], False)])
def test_direct_reference_in_metadata_is_never_followed(shared: Home, name: str, text: str, static: bool) -> None:
    hostile = text.format(url=shared.upstream.url + "elsewhere/dep-1.0.tar.gz")
    shared.upstream.add(Project(name=name, requires_dist=[hostile], static=static))

    done = shared.run("install", "--target-dir", shared.root / "target", name)

    assert done.code != 0
    assert "Traceback" not in done.err
    assert not [path for path in shared.upstream.requests if "elsewhere" in path]
    assert not (shared.root / "target").exists()


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_requirement_of_a_recipe_is_refused_at_start_up(home: Home, text: str) -> None:
    import json

    folder = home.root / "recipes"
    folder.mkdir()
    hostile = json.dumps([text.format(url="https://elsewhere.example/x.whl")])
    (folder / "app.toml").write_text(f'project = "app"\n[[recipe]]\nreason = "R"\nbuild-requirements = {hostile}\n')

    done = home.run("recipe", "check", folder / "app.toml", environment=with_policy(home, ""))

    assert done.code in (2, 3), done.err
