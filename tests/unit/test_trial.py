"""What of a wheel's run requirements is there when it is tried."""

from tests.support.values import make_built_wheel, make_target
from wheelfarm_workers.trial import run_requirements

TARGET = make_target()


def metadata(*lines: str) -> bytes:
    return "".join(["Metadata-Version: 2.1\n", *(f"Requires-Dist: {line}\n" for line in lines)]).encode()


def test_what_it_was_built_with_is_there_where_it_requires_it_however_indirectly() -> None:
    numpy, meson, base, fast = (make_built_wheel(name) for name in ("numpy", "meson", "base", "fast"))
    built_with = {
        numpy: metadata("Base[speed]>=1; python_version >= '3'", "gone; sys_platform == 'win32'"),
        meson: metadata(),
        base: metadata("fast; extra == 'speed'", "slow; extra == 'other'"),
        fast: metadata("numpy"),
    }
    found, without = run_requirements(metadata("numpy>=1", "docs; extra == 'docs'"), built_with, TARGET)
    assert (found, without) == ([numpy, base, fast], [])


def test_what_is_not_there_or_in_another_version_is_told() -> None:
    built_with = {make_built_wheel("numpy"): metadata("absent<3")}
    assert run_requirements(metadata("numpy>=2", "click"), built_with, TARGET) == ([], ["click", "numpy>=2"])
    found, without = run_requirements(metadata("numpy"), built_with, TARGET)
    assert ([wheel.name for wheel in found], without) == (["numpy"], ["absent<3"])


def test_metadata_that_cannot_be_read_requires_nothing() -> None:
    assert run_requirements(metadata("???", "a @ b c"), {}, TARGET) == ([], [])


def test_metadata_that_asks_for_very_much_is_looked_at_in_bounds() -> None:
    tool = make_built_wheel("tool")
    extras = [f"tool[e{number}]" for number in range(5000)]
    built_with = {tool: metadata(*(f"absent{number}" for number in range(5000)))}
    found, without = run_requirements(metadata(*extras), built_with, TARGET)
    assert (found, len(without)) == ([tool], 2000)
