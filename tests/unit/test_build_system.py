from dataclasses import replace
from typing import Any

import pytest

from tests.support.values import make_sdist
from wheelfarm.errors import BadSdist, DirectReferenceRefused
from wheelfarm.job import TREE_VERSION
from wheelfarm_services.build_system import (
    BuildSystem,
    checked_requirements,
    read_build_system,
    version_environment,
)
from wheelfarm_services.sdist_head import SdistHead


def read(pyproject: dict[str, Any] | None) -> BuildSystem:
    return read_build_system(make_sdist(), SdistHead(pkg_info=None, pyproject=pyproject, pyproject_sha256=""))


@pytest.mark.parametrize("pyproject", [None, {}, {"project": {"name": "app"}}])
def test_sdist_that_declares_nothing_is_built_by_setuptools(pyproject: dict[str, Any] | None) -> None:
    assert read(pyproject) == BuildSystem(
        requires=("setuptools>=40.8.0",), backend="setuptools.build_meta:__legacy__", backend_path=()
    )


def test_backend_that_is_not_named_is_setuptools_with_the_requirements_given() -> None:
    assert read({"build-system": {"requires": ["Cython"]}}) == BuildSystem(
        requires=("Cython",), backend="setuptools.build_meta:__legacy__", backend_path=()
    )


def test_declared_build_system_is_read() -> None:
    table = {"requires": ["b >= 1; os_name == 'posix'"], "build-backend": "b:api", "backend-path": [".", "tools/build"]}
    assert read({"build-system": table}) == BuildSystem(
        requires=('b>=1; os_name == "posix"',), backend="b:api", backend_path=(".", "tools/build")
    )


def test_backend_in_the_tree_may_need_nothing() -> None:
    assert read({"build-system": {"requires": [], "build-backend": "b", "backend-path": ["."]}}).requires == ()


@pytest.mark.parametrize(
    "table",
    [
        "setuptools",
        {},
        {"build-backend": "b"},
        {"requires": "setuptools"},
        {"requires": [1]},
        {"requires": [], "build-backend": ""},
        {"requires": [], "build-backend": ["b"]},
        {"requires": [], "build-backend": "b", "backend-path": "."},
        {"requires": [], "build-backend": "b", "backend-path": [1]},
    ],
)
def test_malformed_table_is_refused(table: object) -> None:
    with pytest.raises(BadSdist):
        read({"build-system": table})


def test_backends_are_told_the_version_where_pkg_info_does_not_say_it() -> None:
    head = SdistHead(pkg_info=None, pyproject=None, pyproject_sha256="")
    told = version_environment(make_sdist(version="1.5"), head)
    assert told["SETUPTOOLS_SCM_PRETEND_VERSION"] == told["PBR_VERSION"] == "1.5"
    assert version_environment(make_sdist(), replace(head, pkg_info=b"Name: app\n")) == {}
    assert version_environment(make_sdist(version=TREE_VERSION), head) == {}


@pytest.mark.parametrize("path", ["..", "../other", "a/../../b", "/usr/lib", "a/.."])
def test_backend_path_that_leads_out_is_refused(path: str) -> None:
    with pytest.raises(BadSdist, match="leads out"):
        read({"build-system": {"requires": [], "build-backend": "b", "backend-path": [".", path]}})


@pytest.mark.parametrize(
    "text", ["b @ https://example.org/b.tar.gz", "b @ file:///etc/passwd", "./b", "b-1.0-py3-none-any.whl"]
)
def test_build_requirement_that_is_a_url_or_a_path_is_refused(text: str) -> None:
    with pytest.raises(DirectReferenceRefused, match="build requirements of app==1"):
        read({"build-system": {"requires": [text]}})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "--index-url=https://evil.example/simple",
        "b --extra-index-url=https://evil.example/simple",
        "b\n--index-url=https://evil.example/simple",
        r"""b; os_name == "x' or os_name == \"y\" # \n--index-url=https://evil.example\nc; os_name == 'x" """,
    ],
)
def test_build_requirement_that_is_none_or_smuggles_an_option_is_refused(text: str) -> None:
    with pytest.raises(BadSdist, match="build requirements of app==1"):
        checked_requirements(make_sdist(), ["c", text])
