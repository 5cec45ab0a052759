"""What a wheel was built from and with, and which requirement brought it."""

import shutil

from tests.acceptance.conftest import Home
from tests.support.projects import Project, backend_project


def install_set(home: Home) -> None:
    """`app`, which needs `library` at run time; both are built with `tinybackend`, and `app` asks for `helper`."""
    home.upstream.add(
        Project(
            name="app",
            requires_dist=["library>=1; python_version >= '3'"],
            build_requires=["tinybackend>=1"],
            backend="tinybackend",
            asks=["helper"],
        ),
        Project(name="library", build_requires=["tinybackend"], backend="tinybackend"),
        Project(name="helper"),
        backend_project(),
    )
    done = home.run("install", "--venv", home.root / "env", "app<2")
    assert done.code == 0, done.err


def test_why_tells_the_sdist_the_build_requirements_and_the_requirement(home: Home) -> None:
    install_set(home)

    done = home.run("why", "library")

    assert done.code == 0, done.err
    assert f"listed at {home.upstream.url.removesuffix('simple/')}files/library-1.0.tar.gz" in done.out
    assert "app<2  asked for" in done.out
    assert '-> library>=1; python_version >= "3", needed by app' in done.out.replace("'", '"')
    assert "└── tinybackend 1.0  for tinybackend [builds itself]" in done.out


def test_why_tells_what_was_built_with_a_build_requirement(home: Home) -> None:
    install_set(home)

    told = home.run("why", "--json", "tinybackend==1.0").json

    filename = told["wheel"]["filename"]
    users = {use["filename"]: [step["requirement"] for step in use["way"]] for use in told["used_by"][filename]}
    assert users == {
        "app-1.0-1-py3-none-any.whl": ["tinybackend>=1"],
        "library-1.0-1-py3-none-any.whl": ["tinybackend"],
    }
    assert [step["requirement"] for step in told["brought_by"][0]["runtime"]] == ["app<2"]
    assert home.run("why", "--json", "helper").json["brought_by"][0]["builds"][0][1][0]["requirement"] == "helper"


def test_why_finds_a_wheel_that_was_copied_elsewhere_and_no_other_file_of_its_name(home: Home) -> None:
    install_set(home)
    (wheel,) = home.store.glob("wheels/*/app-1.0-1-py3-none-any.whl")
    copy = shutil.copy(wheel, home.root)

    assert home.run("why", "--json", copy).json["wheel"]["filename"] == wheel.name
    assert home.run("why", "--json", wheel.name).json["wheel"]["sha256"] == wheel.parent.name
    with open(copy, "ab") as file:  # noqa: PTH123
        file.write(b"more")
    assert home.run("why", copy).code == 14


def test_why_of_what_was_never_built_is_not_found(home: Home) -> None:
    assert home.run("why", "app").code == 33
    assert home.run("why", "app-1.0-1-py3-none-any.whl").code == 33
    assert home.run("why", "./app-1.0-1-py3-none-any.whl").code == 2
