import threading
from collections.abc import Callable, Sequence
from typing import cast

import pytest
from packaging.specifiers import SpecifierSet

from tests.support import values
from tests.support.values import make_target
from tests.support.waiting import wait_until
from wheelfarm.errors import UpstreamError
from wheelfarm.job import Sdist
from wheelfarm_services.read_ahead import ReadAhead, newest, required
from wheelfarm_services.source_index import SourceIndex
from wheelfarm_services.upstreams import ListedSdist, ProjectPage

TARGET = make_target()


def make_sdist(name: str, version: str = "1.0") -> Sdist:
    return values.make_sdist(name, version, data=f"{name} {version}".encode())


def listed(name: str, version: str, **fields: object) -> ListedSdist:
    return ListedSdist(sdist=make_sdist(name, version), url="", **fields)  # type: ignore[arg-type]


def metadata(*requirements: str) -> bytes:
    return "\n".join(["Name: x", *(f"Requires-Dist: {one}" for one in requirements)]).encode()


class Sources:
    """A source index of projects, each with one version that requires something; what was read is told."""

    def __init__(self, projects: dict[str, Sequence[str]]) -> None:
        self.projects = projects
        self.read: list[str] = []
        self.asked: list[str] = []
        self.guard = threading.Lock()

    def page(self, name: str) -> ProjectPage | None:
        with self.guard:
            self.asked.append(name)
        if name == "broken":
            raise UpstreamError("Down.")
        if name not in self.projects:
            return None
        return ProjectPage(name=name, sdists=(listed(name, "1.0"),), without_sdist=())

    def metadata(self, sdist: Sdist, revision: str) -> bytes | None:
        with self.guard:
            self.read.append(sdist.name)
        return None if sdist.name.startswith("dynamic") else metadata(*self.projects[sdist.name])


def ahead_of(sources: Sources, clock: Callable[[], float] = lambda: 0.0, **options: int) -> ReadAhead:
    return ReadAhead(cast(SourceIndex, sources), clock=clock, **options)


def test_what_metadata_requires_is_read_down_to_the_leaves_and_each_once() -> None:
    sources = Sources({"a": ["b", "c[more]"], "b": ["d"], "c": ["d", 'e; extra == "more"'], "d": [], "e": ["a"]})
    ahead = ahead_of(sources)
    for _ in range(2):
        ahead.told(make_sdist("app"), metadata("a", "broken", "absent", "not parsable =="), TARGET)
    assert wait_until(lambda: sorted(sources.read) == ["a", "b", "c", "d", "e"])


def test_pages_that_metadata_names_without_end_are_asked_for_up_to_a_bound_a_minute() -> None:
    sources, now = Sources({}), [0.0]
    ahead = ahead_of(sources, lambda: now[0], most_pages=3, most_threads=1)
    ahead.told(make_sdist("one"), metadata(*(f"made-up-{number}" for number in range(20))), TARGET)
    ahead.told(make_sdist("two"), metadata("other", "made-up-0"), TARGET)
    known = ["made-up-0", "made-up-1", "made-up-2", "made-up-0"]  # one that was asked for may be asked for again
    assert wait_until(lambda: sources.asked == known)
    now[0] = 61.0
    ahead.told(make_sdist("three"), metadata("later"), TARGET)
    assert wait_until(lambda: sources.asked == [*known, "later"])


def test_guesses_that_nobody_asked_for_are_few_until_a_minute_has_passed() -> None:
    names = [f"p{number}" for number in range(20)]
    sources, now = Sources({name: [] for name in names}), [0.0]
    ahead = ahead_of(sources, lambda: now[0], most_unasked=3, most_threads=1)

    def tell(*requirements: str) -> list[str]:
        """What has been read once all that was told so far has been looked at: the one thread does so in order."""
        end = f"absent-{len(sources.asked)}"
        ahead.told(make_sdist(end), metadata(*requirements, end), TARGET)
        assert wait_until(lambda: end in sources.asked)
        return sources.read

    assert tell(*names) == ["p0", "p1", "p2"]
    assert tell("p19", "p18") == ["p0", "p1", "p2"]
    ahead.asked(make_sdist("p0", "1.0"))
    assert tell("p17", "p18") == ["p0", "p1", "p2", "p17"]
    now[0] = 61.0
    assert tell("p16") == ["p0", "p1", "p2", "p17", "p16"]


def test_what_a_resolver_asks_for_itself_is_left_to_it() -> None:
    sources = Sources({"a": [], "b": []})
    ahead = ahead_of(sources)
    ahead.asked(make_sdist("a", "1.0"))
    ahead.told(make_sdist("app"), metadata("a", "b"), TARGET)
    assert wait_until(lambda: sources.read == ["b"])


def test_requirements_are_those_of_the_target_and_the_extras() -> None:
    lines = metadata('a; sys_platform == "win32"', 'b; extra == "x"', "c>1", "d @ https://h/d.zip", "e; nonsense")
    assert [one.name for one in required(lines, TARGET)] == ["c"]
    assert [one.name for one in required(lines, TARGET, frozenset({"x"}))] == ["b", "c"]


@pytest.mark.parametrize(
    ("specifier", "expected"),
    [("", "2.0"), ("<2", "1.0"), (">=3.0rc1", "3.0rc1"), (">9", None), ("==1.5", None), ("==4.0", None)],
)
def test_newest_is_what_a_resolver_would_take(specifier: str, expected: str | None) -> None:
    page = (
        listed("a", "1.0", requires_python="not one"),
        listed("a", "1.5", yanked=""),
        listed("a", "2.0", requires_python=">=3"),
        listed("a", "3.0rc1"),
        listed("a", "4.0", requires_python=">=3.99"),
    )
    found = newest(page, SpecifierSet(specifier), "3.11.2")
    assert (found and found.sdist.version) == expected
