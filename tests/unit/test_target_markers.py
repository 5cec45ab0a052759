import os
import sys
from dataclasses import replace

import pytest
from packaging.markers import Marker, default_environment

from tests.support.values import make_target
from wheelfarm.errors import InputError
from wheelfarm.target_markers import marker_environment, uv_options

ARM = replace(make_target(), platform="linux-aarch64", python_version="3.13.0rc1")


def test_every_marker_is_the_targets() -> None:
    found = marker_environment(ARM)
    assert found.keys() == default_environment().keys()
    assert (found["platform_machine"], found["python_version"], found["python_full_version"]) == (
        "aarch64",
        "3.13",
        "3.13.0rc1",
    )


@pytest.mark.parametrize("marker", ["platform_release == ''", "platform_version == ''", "python_version < '3.14'"])
def test_target_has_no_kernel(marker: str) -> None:
    assert Marker(marker).evaluate({**marker_environment(ARM)})


def test_uv_resolves_by_the_targets_facts_with_whatever_interpreter_there_is() -> None:
    options = uv_options(replace(ARM, python="/nowhere/python"))
    assert options == [
        *("--python", sys.executable),
        *("--python-version", "3.13.0rc1"),
        *("--python-platform", "aarch64-unknown-linux-gnu"),
    ]


def test_machine_without_a_name_in_uv_is_refused_elsewhere() -> None:
    with pytest.raises(InputError, match="armv7l"):
        uv_options(replace(ARM, platform="linux-armv7l"))


def test_machine_without_a_name_in_uv_is_resolved_for_on_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    there = os.uname_result(("Linux", "board", "6.1", "#1", "armv7l"))
    monkeypatch.setattr(os, "uname", lambda: there)
    assert "--python-platform" not in uv_options(replace(ARM, platform="linux-armv7l"))


def test_other_implementation_takes_the_targets_interpreter_or_says_what_is_wanting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys.implementation, "name", "pypy")
    assert uv_options(replace(ARM, python=sys.executable))[1] == sys.executable
    with pytest.raises(InputError, match="pypy"):
        uv_options(replace(ARM, python="/nowhere/python"))
