import json
from typing import Any

import pytest

from tests.support.values import make_built_wheel
from wheelfarm.errors import ProtocolError
from wheelfarm.wheel import BuiltWheel


def test_wheel_survives_its_way_over_the_wire() -> None:
    wheel = make_built_wheel(filename="app-1.0+cc-1-cp311-cp311-linux_x86_64.whl", version="1.0+cc")
    assert BuiltWheel.from_json(json.loads(json.dumps(wheel.to_json()))) == wheel


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "--index-url"),
        ("name", "App"),
        ("version", "1.0\n"),
        ("filename", "../app-1.0-1-py3-none-any.whl"),
        ("filename", "/etc/app.whl"),
        ("filename", ".app.whl"),
        ("filename", "-app.whl"),
        ("filename", "app.whl\n"),
        ("filename", "app\0.whl"),
        ("filename", "app.tar.gz"),
        ("filename", "a" * 300 + ".whl"),
        ("filename", None),
        ("sha256", "ab" * 31),
        ("sha256", 7),
        ("size", "7"),
        ("size", None),
    ],
)
def test_wheel_that_cannot_be_one_is_refused(field: str, value: Any) -> None:
    with pytest.raises(ProtocolError):
        BuiltWheel.from_json({**make_built_wheel().to_json(), field: value})


@pytest.mark.parametrize("field", ["name", "version", "filename", "sha256", "size"])
def test_wheel_that_lacks_a_field_is_refused(field: str) -> None:
    value = make_built_wheel().to_json()
    del value[field]
    with pytest.raises(ProtocolError):
        BuiltWheel.from_json(value)


@pytest.mark.parametrize("value", [None, "app", ["app"]])
def test_wheel_that_is_no_object_is_refused(value: Any) -> None:
    with pytest.raises(ProtocolError):
        BuiltWheel.from_json(value)
