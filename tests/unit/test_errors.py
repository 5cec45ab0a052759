import json

import pytest

from wheelfarm import errors
from wheelfarm.errors import WheelfarmError, error_from_json

CLASSES = [found for found in vars(errors).values() if isinstance(found, type) and issubclass(found, WheelfarmError)]

INTERFACE = {
    "error": 1,
    "input": 2,
    "direct-reference": 3,
    "no-environment": 4,
    "option-refused": 5,
    "bad-tree": 6,
    "bad-interpreter": 7,
    "too-large": 8,
    "no-solution": 10,
    "unknown-project": 11,
    "no-sdist": 12,
    "upstream": 13,
    "metadata-unsettled": 16,
    "hash-mismatch": 14,
    "bad-sdist": 15,
    "build-failed": 20,
    "build-timeout": 21,
    "build-limit": 22,
    "bad-wheel": 23,
    "broken-wheel": 26,
    "build-cycle": 24,
    "cancelled": 25,
    "farm-unavailable": 30,
    "sandbox-unavailable": 31,
    "system-packages-missing": 27,
    "worker-lost": 32,
    "no-worker": 39,
    "not-found": 33,
    "protocol": 34,
    "machine-unfit": 35,
    "corrupt-object": 36,
    "disk-full": 37,
    "other-index": 45,
    "unauthorized": 41,
    "forbidden": 42,
    "too-many-requests": 43,
    "conflict": 44,
    "install-failed": 40,
    "unfit-target": 47,
    "lock-outdated": 48,
    "not-closed": 18,
    "policy": 17,
    "bad-python": 19,
}


def test_codes_and_exit_codes_are_never_renumbered() -> None:
    assert {cls.code: cls.exit_code for cls in CLASSES} == INTERFACE


def test_codes_and_exit_codes_are_distinct() -> None:
    assert len({cls.code for cls in CLASSES}) == len(CLASSES)
    assert len({cls.exit_code for cls in CLASSES}) == len(CLASSES)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.code)
def test_error_survives_its_way_over_the_wire(cls: type[WheelfarmError]) -> None:
    found = error_from_json(json.loads(json.dumps(cls("what happened", hint="what to do").to_json())))
    assert type(found) is cls
    assert (found.message, found.hint, str(found)) == ("what happened", "what to do", "what happened")


def test_code_of_a_newer_farm_gives_the_root() -> None:
    found = error_from_json({"error": "from-the-future", "message": "m"})
    assert type(found) is WheelfarmError
    assert (found.message, found.hint) == ("m", "")
