"""Doubts: what an sdist states that speaks against its build, and the programs that it will need."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from packaging.requirements import Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from wheelfarm.forecast import Doubt
from wheelfarm_services.stated_build import StatedBuild

_TOOLS = {
    "maturin": ("cargo",),
    "setuptools-rust": ("cargo",),
    "scikit-build": ("cmake",),
    "scikit-build-core": ("cmake",),
    "cmake": ("cmake",),
    "meson-python": ("ninja",),
    "meson": ("ninja",),
    "ninja": ("ninja",),
}
"""Programs that builds with these projects run. As sdists, cmake and ninja fetch their own sources when they are built,
which no build here can."""

_COMPILING = frozenset({*_TOOLS, "cffi", "cython", "mypy", "mypyc", "nanobind", "numpy", "pybind11", "pythran"})

_OLD = timedelta(days=5 * 365)
_NO_DISTUTILS = Version("3.12")


def needed_tools(requires: Iterable[str]) -> tuple[str, ...]:
    """Programs that a build with these requirements needs from its machine."""
    return tuple(sorted({tool for name in _names(requires) for tool in _TOOLS.get(name, ())}))


def compiles(requires: Iterable[str]) -> bool:
    """Whether a build with these requirements is likely to compile; many that do have no requirement to tell it by."""
    return not _COMPILING.isdisjoint(_names(requires))


def stated_doubts(stated: StatedBuild, upload_time: str, python_version: str, now: datetime) -> tuple[Doubt, ...]:
    """What speaks against a build on that Python, by what the sdist and its index page state."""
    doubts = []
    if _excluded(stated.requires_python, python_version):
        text = f"it states Requires-Python {stated.requires_python}, and this is {python_version}"
        doubts.append(Doubt(text=text, likely=True))
    if not stated.has_pyproject:
        uploaded = _time(upload_time)
        if uploaded is not None and now - uploaded > _OLD:
            text = f"its setup.py was written for the setuptools of {uploaded.year}, tried where today's fails"
            doubts.append(Doubt(text=text))
        if Version(python_version) >= _NO_DISTUTILS:
            doubts.append(Doubt(text=f"it has a setup.py alone, and Python {python_version} has no distutils"))
    return tuple(doubts)


def _names(requires: Iterable[str]) -> set[str]:
    return {canonicalize_name(Requirement(line).name) for line in requires}


def _excluded(requires_python: str, python_version: str) -> bool:
    try:
        return not SpecifierSet(requires_python).contains(python_version, prereleases=True)
    except (InvalidSpecifier, InvalidVersion):
        return False


def _time(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else None
