"""The one further try of a build that today's setuptools breaks: with the newest one that its sdist's authors could
have known.

Setuptools removes what it deprecated for years, so an old sdist may build with the setuptools of its time and no later
one. The first failure is kept in the store while the other try is prepared, for that may take builds of its own.
"""

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from packaging.specifiers import SpecifierSet
from packaging.utils import parse_sdist_filename
from packaging.version import Version

from wheelfarm.errors import BrokenWheel
from wheelfarm.job import Failure, FailureClass, Job
from wheelfarm_services import layout
from wheelfarm_services.build_system import BuildSystem
from wheelfarm_services.sdist_records import sdist_record
from wheelfarm_services.store import Store
from wheelfarm_services.wheel_index import Plan

_PROJECT = "setuptools"
_OLDEST = (("3.12", "66.1.0"), ("3.9", "44.1.1"), ("3.0", "40.8.0"))
"""The oldest setuptools that runs on a Python (it needs pkgutil.ImpImporter before 66.1, HTMLParser.unescape before 41)
and that legacy sdists can be built with at all (PEP 517, since 40.8)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FirstTry:
    """A failed build that another setuptools may mend: the failure, the build key that it stands for, the setuptools
    that was used, when the sdist was uploaded (ISO 8601), and when the build failed (seconds since the epoch)."""

    failure: Failure
    build_key: str
    setuptools: str
    uploaded: str
    failed_at: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Fallback:
    """What the other try is built under, and why, in a sentence."""

    constraint: str
    reason: str


class FirstTries:
    """The failed builds whose other try is under way, in the store."""

    def __init__(self, store: Store, *, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock

    def find(self, job: Job, forced_at: float) -> FirstTry | None:
        """The first try of a job that failed and whose other try is to be made; none that failed before `forced_at`."""
        data = self._store.get(layout.fallback(job.request_key))
        if data is None:
            return None
        value = json.loads(data)
        found = FirstTry(**{**value, "failure": Failure.from_json(value["failure"])})
        return found if found.failed_at >= forced_at else None

    def begin(self, job: Job, build_system: BuildSystem, plan: Plan, failure: Failure) -> FirstTry | None:
        """Keep a failed build for another try; None where another setuptools can't be what it needs."""
        used = [one.sdist.version for one in plan.requirements if one.sdist.name == _PROJECT]
        uploaded = self._uploaded(job)
        is_setuptools = build_system.backend.startswith(f"{_PROJECT}.")
        mendable = is_setuptools and failure.failure_class is FailureClass.BUILD and failure.error != BrokenWheel.code
        if not used or not uploaded or not mendable:
            return None
        first = FirstTry(
            failure=failure,
            build_key=plan.build_key,
            setuptools=used[0],
            uploaded=uploaded,
            failed_at=self._clock(),
        )
        value: dict[str, Any] = {**asdict(first), "failure": failure.to_json()}
        self._store.put(layout.fallback(job.request_key), json.dumps(value).encode())
        return first

    def end(self, job: Job) -> None:
        """The other try has succeeded or failed."""
        self._store.delete(layout.fallback(job.request_key))

    def _uploaded(self, job: Job) -> str:
        return str(sdist_record(self._store, job.sdist).get("upload_time", ""))


def newest_until(files: Iterable[Mapping[str, Any]], uploaded: str, python_version: str) -> Version | None:
    """The newest final version among setuptools' sdists (entries of PEP 691) that were there at a time, 0 where none
    was; None where the index tells no upload times."""
    timed = [(str(file["upload-time"]), file) for file in files if file.get("upload-time")]
    found = [Version("0")]
    for uploaded_at, file in timed:
        _, version = parse_sdist_filename(file["filename"])
        needed = SpecifierSet(str(file.get("requires-python", "")))
        if uploaded_at <= uploaded and not file.get("yanked") and not version.is_prerelease:
            found += [version] if needed.contains(python_version, prereleases=True) else []
    return max(found) if timed else None


def era_fallback(first: FirstTry, newest_then: Version, python_version: str) -> Fallback | None:
    """The other try's constraint, with `newest_then` being the newest setuptools when the sdist was uploaded; None
    where that is what was tried. Not below what runs on the target's Python."""
    running = Version(python_version)
    oldest = next(Version(version) for python, version in _OLDEST if running >= Version(python))
    chosen = max(newest_then, oldest)
    if chosen >= Version(first.setuptools):
        return None
    reason = (
        f"with setuptools {first.setuptools} the build failed ({first.failure.message.rstrip('.')}), "
        f"so it was tried with the newest one of its time ({first.uploaded[:10]}) that runs on Python {python_version}"
    )
    return Fallback(constraint=f"{_PROJECT}<={chosen}", reason=reason)


def both_failed(first: FirstTry, fallback: Fallback | None, second: str) -> Failure:
    """The first try's failure, which tells of the other one's too."""
    if fallback is None:
        return first.failure
    told = f"{first.failure.message} With {fallback.constraint}, as when it was uploaded, it failed as well: {second}"
    return replace(first.failure, message=told[:8000])
