"""Admission: a project's page as the policy lets it in, and judgement of what is named without a page."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, time, timedelta

from packaging.version import Version

from wheelfarm.policy import Candidate, Policy, Prebuilt, prebuilt_expired
from wheelfarm_services.policy_book import PolicyBook
from wheelfarm_services.upstreams import ListedSdist, ProjectPage


@dataclass(frozen=True, kw_only=True, slots=True)
class _Admitted:
    whole: ProjectPage
    policy: Policy
    until: datetime
    page: ProjectPage


class Admission:
    """Judges by the policy of a store. A page that was judged is remembered until something about it may change."""

    def __init__(self, book: PolicyBook) -> None:
        self._book = book
        self._admitted: dict[str, _Admitted] = {}

    def page(self, whole: ProjectPage) -> ProjectPage:
        """The page without what may not enter, which is in its `refused` instead, and with its prebuilt wheels."""
        policy, now = self._book.policy, self._book.now()
        if policy == Policy():
            return whole
        known = self._admitted.get(whole.name)
        if known is None or known.whole is not whole or known.policy is not policy or now >= known.until:
            known = _Admitted(
                whole=whole, policy=policy, until=_next_change(whole, policy, now), page=_admit(whole, policy, now)
            )
            self._admitted[whole.name] = known
        return known.page

    def takes_wheels(self, name: str) -> bool:
        """Whether there is an exception for wheels of a project: of others nobody has to know what wheels there are."""
        return any(one.project == name for one in self._book.policy.prebuilt)

    def require(self, listed: ListedSdist) -> None:
        """Raise PolicyRefused unless it may enter."""
        self._book.policy.require(_candidate(listed), self._book.now())


def _admit(whole: ProjectPage, policy: Policy, now: datetime) -> ProjectPage:
    refused: dict[str, str] = {}
    sdists = []
    for listed in whole.sdists:
        if reason := policy.refusal(_candidate(listed), now):
            refused[listed.sdist.version] = reason
        else:
            sdists.append(listed)
    prebuilt = []
    for exception in (one for one in policy.prebuilt if one.project == whole.name):
        listed_wheel = _listed(exception, whole)
        if reason := _prebuilt_refusal(exception, listed_wheel, policy, now):
            refused.setdefault(exception.version, reason)
        elif listed_wheel is not None:
            prebuilt.append(listed_wheel)
    had = {Version(listed.sdist.version) for listed in prebuilt}
    return replace(
        whole,
        sdists=tuple(sdists),
        prebuilt=tuple(prebuilt),
        without_sdist=tuple(version for version in whole.without_sdist if Version(version) not in had),
        refused=_without(refused, had),
    )


def _without(refused: Mapping[str, str], had: set[Version]) -> Mapping[str, str]:
    return {version: reason for version, reason in refused.items() if Version(version) not in had}


def _listed(exception: Prebuilt, whole: ProjectPage) -> ListedSdist | None:
    """An exception's wheel as upstream lists it."""
    for wheel in whole.wheels:
        if (wheel.sha256, wheel.filename) == (exception.sha256, exception.filename):
            return ListedSdist(
                sdist=exception.source,
                url=wheel.url,
                requires_python=wheel.requires_python,
                upstream=wheel.upstream,
                passed_over=wheel.passed_over,
            )
    return None


def _prebuilt_refusal(exception: Prebuilt, listed: ListedSdist | None, policy: Policy, now: datetime) -> str:
    if not exception.in_force(now):
        return prebuilt_expired(exception)
    if listed is None:
        return f"the prebuilt wheel that the policy names, {exception.filename}, is not upstream with that sha256"
    return policy.refusal(_candidate(listed), now)


def _candidate(listed: ListedSdist) -> Candidate:
    return Candidate(sdist=listed.sdist, upload_time=listed.upload_time, yanked=listed.yanked is not False)


def _next_change(whole: ProjectPage, policy: Policy, now: datetime) -> datetime:
    """The first moment at which a judgement of this page may be another one: exceptions end with a day."""
    return min([_midnight(now), *_ends(whole, policy, now)])


def _ends(whole: ProjectPage, policy: Policy, now: datetime) -> Iterator[datetime]:
    for listed in whole.sdists:
        cooled_at = policy.cooled_at(_candidate(listed))
        if cooled_at is not None and cooled_at > now:
            yield cooled_at


def _midnight(now: datetime) -> datetime:
    return datetime.combine(now.date() + timedelta(days=1), time(), now.tzinfo)
