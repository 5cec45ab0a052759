"""Which upstreams there are, and which of them is asked for which project."""

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class UpstreamSettings:
    """One upstream, as docs/upstreams.md describes it; `timeout` is in seconds.

    `serves` are patterns of normalised names; without any, every name that no other upstream serves by a pattern. Of
    the ways to credentials there is one or none; `netrc` is true for the usual file.
    """

    name: str
    url: str
    kind: Literal["simple", "flat", "directory"] = "simple"
    serves: tuple[str, ...] = ()
    public: bool = True
    username: str = ""
    password_env: str = ""
    password_file: Path | None = None
    netrc: bool | Path = False
    keyring: bool = False
    ca: Path | None = None
    retries: int = 2
    timeout: float = 30.0
    requests_per_s: float = 0.0
    ignore_error_codes: tuple[int, ...] = ()
    trust_metadata: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Routes:
    """All upstreams, in the order in which they are asked, and the patterns of internal names."""

    upstreams: tuple[UpstreamSettings, ...]
    internal: tuple[str, ...] = ()

    def asked_for(self, name: str) -> list[UpstreamSettings]:
        """Those that may be asked for a project (normalised name), in order: those that serve it by a pattern or, if
        there are none, those without patterns; for an internal name none that is public."""
        pinned = [one for one in self.upstreams if matches(name, one.serves)]
        allowed = pinned or [one for one in self.upstreams if not one.serves]
        return [one for one in allowed if not (one.public and matches(name, self.internal))]


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether a normalised name is one of those that the patterns stand for."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def may_match_the_same(pattern: str, other: str) -> bool:
    """Whether there is a name that two patterns (of `*`, `?` and plain characters) both stand for."""
    reached = {(0, 0)}  # how far both have come, having matched the same characters
    for at, beside in product(range(len(pattern) + 1), range(len(other) + 1)):
        if (at, beside) not in reached:
            continue
        mine, theirs = pattern[at : at + 1], other[beside : beside + 1]
        if mine == "*":
            reached |= {(at + 1, beside)} | ({(at, beside + 1)} if theirs else set())
        if theirs == "*":
            reached |= {(at, beside + 1)} | ({(at + 1, beside)} if mine else set())
        if mine and theirs and (mine == theirs or "?" in (mine, theirs)):
            reached.add((at + 1, beside + 1))
    return (len(pattern), len(other)) in reached
