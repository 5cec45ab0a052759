"""Requirements that would lead a resolver elsewhere: refused wherever foreign code or files may state them."""

import pytest

from tests.acceptance.conftest import Home
from tests.acceptance.test_policy import with_policy
from tests.support.projects import Project

HOSTILE = [
    "dep @ {url}",
    "dep @ file:///etc/passwd",
    "--index-url={url}",
    "-r /etc/passwd",
    "dep\n--index-url={url}",
    "./dep",
]
DIRECT = HOSTILE[:2]


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("place", ["build_requires", "asks"])
def test_hostile_build_requirement_is_refused_by_name(home: Home, place: str, text: str) -> None:
    hostile = text.format(url=home.upstream.url + "elsewhere")
    home.upstream.add(Project(name="app", **{place: [hostile]}), Project(name="dep"))  # type: ignore[arg-type]

    done = home.run("build", "app")

    assert done.code in (3, 15, 20), done.err  # 20: what a hook answers is read in the sandbox first
    assert "app" in done.err
    assert not [path for path in home.upstream.requests if "elsewhere" in path or "dep" in path]
    assert home.wheel_names() == []


@pytest.mark.parametrize(("text", "static"), [(DIRECT[0], True), (DIRECT[1], False)])
def test_direct_reference_in_metadata_is_never_followed(home: Home, text: str, static: bool) -> None:
    hostile = text.format(url=home.upstream.url + "elsewhere/dep-1.0.tar.gz")
    home.upstream.add(Project(name="app", requires_dist=[hostile], static=static), Project(name="dep"))

    done = home.run("install", "--target-dir", home.root / "target", "app")

    assert done.code != 0
    assert "Traceback" not in done.err
    assert not [path for path in home.upstream.requests if "elsewhere" in path]
    assert not (home.root / "target").exists()


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_requirement_of_a_recipe_is_refused_at_start_up(home: Home, text: str) -> None:
    import json

    folder = home.root / "recipes"
    folder.mkdir()
    hostile = json.dumps([text.format(url="https://elsewhere.example/x.whl")])
    (folder / "app.toml").write_text(f'project = "app"\n[[recipe]]\nreason = "R"\nbuild-requirements = {hostile}\n')

    done = home.run("recipe", "check", folder / "app.toml", environment=with_policy(home, ""))

    assert done.code in (2, 3), done.err
