"""Policy: what may enter the farm, judged on what the source index lists; docs/policy.md tells the operator.

A policy decides nothing of how a wheel is built, so it is in no key. Whoever judges passes the time: an exception holds
to the end of its last day, UTC.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Literal

from packaging.specifiers import SpecifierSet

from wheelfarm.errors import PolicyRefused
from wheelfarm.job import Sdist

Yanked = Literal["pinned", "never"]
FollowUpstream = Literal["yank", "quarantine", "no"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """Which versions of which projects: a pattern of normalised names (`acme-*`) and a specifier; and why."""

    project: str
    versions: SpecifierSet = field(default_factory=SpecifierSet)
    reason: str = ""

    def holds(self, sdist: Sdist) -> bool:
        return fnmatchcase(sdist.name, self.project) and self.versions.contains(sdist.version, prereleases=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class CooldownException:
    """Versions that are not waited for, until the end of a day."""

    rule: Rule
    expires: date


@dataclass(frozen=True, kw_only=True, slots=True)
class Prebuilt:
    """One wheel of upstream that is taken as it is, by its sha256, until the end of a day."""

    project: str
    version: str
    filename: str
    sha256: str
    reason: str
    expires: date

    @property
    def source(self) -> Sdist:
        """The wheel in the place of an sdist: what a job is made of."""
        return Sdist(name=self.project, version=self.version, filename=self.filename, sha256=self.sha256)

    def in_force(self, now: datetime) -> bool:
        return now.date() <= self.expires

    def to_json(self) -> dict[str, str]:
        """The exception as the provenance keeps it."""
        return {
            "filename": self.filename,
            "sha256": self.sha256,
            "reason": self.reason,
            "expires": self.expires.isoformat(),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """What is judged: an sdist, or a prebuilt wheel in its place, and what its index says of it (ISO 8601, "" for no
    time)."""

    sdist: Sdist
    upload_time: str = ""
    yanked: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """What may enter. The empty one lets in all that the source index lists.

    `hashes` are the only sdists of a project that may enter, `untimed` the projects whose sdists pass a cooldown
    without an upload time. With `require_hashes` every request must give the sha256 of every sdist. `follow_upstream`
    says what becomes of wheels whose releases upstream removes; unless it is "no", what upstream yanks is yanked.
    """

    allow: tuple[Rule, ...] = ()
    deny: tuple[Rule, ...] = ()
    cooldown: timedelta = timedelta()
    cooldown_exceptions: tuple[CooldownException, ...] = ()
    untimed: tuple[Rule, ...] = ()
    yanked: Yanked = "pinned"
    require_hashes: bool = False
    hashes: tuple[tuple[str, frozenset[str]], ...] = ()
    prebuilt: tuple[Prebuilt, ...] = ()
    follow_upstream: FollowUpstream = "yank"

    def refusal(self, candidate: Candidate, now: datetime) -> str:
        """Why a candidate may not enter; "" where it may."""
        sdist = candidate.sdist
        if sdist.is_prebuilt:
            return "; ".join([*self._denials(sdist), *self._prebuilt_refusal(sdist, now)])
        reasons = [*self._lasting(sdist), *self._cooldown_refusal(candidate, now)]
        if candidate.yanked and self.yanked == "never":
            reasons.append("it was yanked")
        return "; ".join(reasons)

    def lasting_refusal(self, sdist: Sdist, now: datetime) -> str:
        """The same for what entered before: it has outlived its cooldown, or had an exception."""
        if sdist.is_prebuilt:
            return self.refusal(Candidate(sdist=sdist), now)
        return "; ".join(self._lasting(sdist))

    def local_refusal(self, sdist: Sdist) -> str:
        """Why an sdist that a client sent may not enter: it is on no index, so it is judged by what is denied, and by
        the hashes of its project."""
        return "; ".join([*self._denials(sdist), *self._hash_refusal(sdist)])

    def require(self, candidate: Candidate, now: datetime) -> None:
        """Raise PolicyRefused unless a candidate may enter."""
        if reason := self.refusal(candidate, now):
            raise refused(candidate.sdist, reason)

    def require_served(self, name: str, version: str) -> None:
        """Raise PolicyRefused where a wheel of the farm's, of that project and version, may not be given out."""
        if not self.deny:
            return
        sdist = Sdist(name=name, version=version, filename="", sha256="")
        if reason := "; ".join(self._denials(sdist)):
            raise refused(sdist, reason)

    def prebuilt_for(self, sdist: Sdist, now: datetime) -> Prebuilt:
        """The exception by which a prebuilt wheel may enter now. Raises PolicyRefused where there is none."""
        self.require(Candidate(sdist=sdist), now)
        return next(one for one in self.prebuilt if one.source == sdist)

    def _lasting(self, sdist: Sdist) -> Iterator[str]:
        yield from self._denials(sdist)
        if self.allow and not any(rule.holds(sdist) for rule in self.allow):
            yield "it is not on the list of what is allowed"
        yield from self._hash_refusal(sdist)

    def _denials(self, sdist: Sdist) -> Iterator[str]:
        yield from (rule.reason for rule in self.deny if rule.holds(sdist))

    def _hash_refusal(self, sdist: Sdist) -> Iterator[str]:
        given = [hashes for project, hashes in self.hashes if project == sdist.name]
        if given and not any(sdist.sha256 in hashes for hashes in given):
            yield f"sha256 {sdist.sha256} is not among the hashes given for {sdist.name}"

    def _cooldown_refusal(self, candidate: Candidate, now: datetime) -> Iterator[str]:
        if not self.cooldown:
            return
        sdist = candidate.sdist
        exceptions = [one for one in self.cooldown_exceptions if one.rule.holds(sdist)]
        if any(now.date() <= one.expires for one in exceptions):
            return
        expired = "".join(
            f" (the exception for it expired on {one.expires}: {one.rule.reason})" for one in exceptions[:1]
        )
        over = self.cooled_at(candidate)
        if over is None:
            if not any(rule.holds(sdist) for rule in self.untimed):
                yield f"its upload time is not known, and there is a cooldown of {told(self.cooldown)}{expired}"
        elif now < over:
            yield f"cooldown until {over:%Y-%m-%d %H:%M} UTC{expired}"

    def cooled_at(self, candidate: Candidate) -> datetime | None:
        """When a candidate's cooldown is over; None where its upload time is not known."""
        try:
            return datetime.fromisoformat(candidate.upload_time).astimezone(UTC) + self.cooldown
        except (ValueError, OverflowError):
            return None

    def _prebuilt_refusal(self, sdist: Sdist, now: datetime) -> Iterator[str]:
        found = [one for one in self.prebuilt if one.source == sdist]
        if not found:
            yield "it is a prebuilt wheel, and no exception names it"
        elif not any(one.in_force(now) for one in found):
            yield prebuilt_expired(found[0])


def refused(sdist: Sdist, reason: str) -> PolicyRefused:
    """The error for something that may not enter."""
    return PolicyRefused(f"policy denies {sdist.name} {sdist.version}: {reason}.", hint=PolicyRefused.remedy)


def prebuilt_expired(exception: Prebuilt) -> str:
    """Why an exception is none any more."""
    return f"its prebuilt exception expired on {exception.expires} ({exception.reason})"


def told(duration: timedelta) -> str:
    """A duration in days or hours."""
    hours = int(duration.total_seconds() // 3600)
    number, unit = (hours // 24, "day") if hours % 24 == 0 else (hours, "hour")
    return f"{number} {unit}{'' if number == 1 else 's'}"
