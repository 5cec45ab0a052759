"""The farm as its clients see it: the API's calls, typed, with its errors raised as `wheelfarm.errors`."""

import base64
import hashlib
import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

import httpx

from wheelfarm.errors import (
    FarmUnavailable,
    HashMismatch,
    InputError,
    NotFound,
    ProtocolError,
    TooManyRequests,
    WheelfarmError,
    error_from_json,
)
from wheelfarm.event_stream import Event, read_events
from wheelfarm.job import JobKind, JobState, JobStatus, Sdist
from wheelfarm.resolution import Account, source_index_path
from wheelfarm.revision import MetadataRevision
from wheelfarm.target import Target
from wheelfarm.traces import traceparent
from wheelfarm.wheel import BuiltWheel

if TYPE_CHECKING:  # what single verbs ask for is imported when they ask
    from wheelfarm.explanation import Explanation
    from wheelfarm.export_writer import ExportPlan
    from wheelfarm.farm_status import FarmStatus
    from wheelfarm.forecast import Forecast
    from wheelfarm.garbage import GarbageReport, GarbageRules
    from wheelfarm.index_change import Action, IndexChange
    from wheelfarm.interpreter import Interpreter
    from wheelfarm.interpreter_source import Offer

T = TypeVar("T")
_REQUEST_ID_LENGTH = 32
_NOTICED_S = 1.0
"""A farm that does not answer for so long is told of; shorter ones are restarts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestStatus:
    """A request as the farm reports it: the jobs asked for, everything they wait for, and the wheels that are there.

    `requested` are the ids of the jobs that were asked for, target by target, in that order; `wheels` maps ids of
    finished ones; `now` is the farm's clock, by which the times of jobs are told, `event` the last change that it knew
    of.
    """

    id: str
    requested: tuple[str, ...]
    jobs: dict[str, JobStatus]
    wheels: dict[str, BuiltWheel]
    sdists: dict[str, Sdist] = field(default_factory=dict)
    revisions: dict[str, MetadataRevision] = field(default_factory=dict)
    """Of finished wheels' jobs, those whose wheel told other metadata than its sdist had been taken to."""
    now: float
    event: str = ""

    @property
    def final(self) -> bool:
        return all(self.jobs[job].state.final for job in self.requested)

    @property
    def failed(self) -> list[JobStatus]:
        """The requested jobs that ended without a result, those that failed first, in time, before those that somebody
        cancelled."""
        jobs = [self.jobs[job] for job in self.requested]
        ended = [job for job in jobs if job.state.final and job.state is not JobState.DONE]
        return sorted(ended, key=lambda job: (job.state is JobState.CANCELLED, job.finished_at))

    def to_json(self) -> dict[str, Any]:
        """The request, with each job's state, for people's tools."""
        return {
            "id": self.id,
            "final": self.final,
            "requested": list(self.requested),
            "jobs": [job.to_json() for job in self.jobs.values()],
            "wheels": {job: wheel.to_json() for job, wheel in self.wheels.items()},
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "RequestStatus":
        jobs = [JobStatus.from_json(job) for job in value["jobs"]]
        return cls(
            id=value["id"],
            requested=tuple(value["requested"]),
            jobs={job.id: job for job in jobs},
            wheels={job: BuiltWheel.from_json(wheel) for job, wheel in value["wheels"].items()},
            sdists={job: Sdist.from_json(sdist) for job, sdist in value["sdists"].items()},
            revisions={job: MetadataRevision.from_json(one) for job, one in value.get("revisions", {}).items()},
            now=float(value["now"]),
            event=str(value["event"]),
        )


class Farm:
    """A connection to one farm. Calls raise FarmUnavailable when it does not answer for `patience_s`, which covers a
    part of it being restarted; meanwhile `check` may raise what is known of the reason. One that has answered, if only
    that it can't do what is asked just now, is given `outage_s`, and `tell` is told why."""

    def __init__(
        self,
        url: str,
        token: str,
        *,
        patience_s: float = 20.0,
        outage_s: float = 0.0,
        check: Callable[[], None] = lambda: None,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.url = url
        self.token = token
        self._patience_s = patience_s
        self.outage_s = outage_s
        self._check = check
        self._tell = tell
        self._answered = False
        # trust_env would send a farm's secret through whatever proxy the environment names
        self._http = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {token}", "Wheelfarm-API": "1"},
            timeout=60.0,
            trust_env=False,
            event_hooks={"request": [_carry_trace]},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def tell(self, line: str) -> None:
        """Tell the user what is waited for."""
        self._tell(line)

    def register(self, target: Target) -> None:
        """Make a target known to the farm; repeating it changes nothing."""
        self._call("PUT", f"/targets/{target.name}/{target.revision}", json=target.to_json())

    def targets(self) -> list[Target]:
        """The targets that the farm's workers serve now, those of the latest workers first."""
        return [Target.from_json(target) for target in self._call("GET", "/targets").json()]

    def submit(
        self,
        kind: JobKind,
        sdists: Sequence[Sdist],
        targets: Sequence[Target],
        *,
        request_id: str,
        local: Collection[str] = (),
        hashed: Collection[str] = (),
        force: bool = False,
        detached: bool = False,
    ) -> RequestStatus:
        """Ask for a job of `kind` for each sdist on each target; of those sdists that this client sent, the sha256s are
        `local`, of those whose sha256 was asked for, `hashed`. A `detached` request goes on though nobody asks.

        Safe to repeat under the same `request_id`.
        """
        body = {
            "id": request_id,
            "kind": kind,
            "targets": [{"name": target.name, "revision": target.revision} for target in targets],
            "sdists": [asdict(sdist) for sdist in sdists],
            "local": list(local),
            "hashed": list(hashed),
            "force": force,
            "detached": detached,
        }
        return RequestStatus.from_json(self._call("POST", "/requests", json=body).json())

    def request(self, request_id: str, *, after: str = "") -> RequestStatus:
        """A request; not before something has happened `after` that event, or some seconds have passed."""
        return RequestStatus.from_json(self._call("GET", f"/requests/{request_id}", params={"after": after}).json())

    def find_request(self, name: str) -> RequestStatus:
        """The open request whose id begins with `name`. Raises NotFound, InputError for what is no beginning of one."""
        require_beginning(name)
        if len(name) == _REQUEST_ID_LENGTH:
            return self.request(name)
        found = [request.id for request in self.status().requests if request.id.startswith(name)]
        if len(found) != 1:
            raise NotFound(
                f"{'Several open requests begin' if found else 'No open request begins'} with {name!r}.",
                hint="Open requests: wheelfarm status",
            )
        return self.request(found[0])

    def wait(
        self,
        status: RequestStatus,
        watch: Callable[[RequestStatus], None],
        *,
        keep_going: bool = False,
        until: Callable[[RequestStatus], bool] = lambda _: False,
    ) -> RequestStatus:
        """Follow a request until every job it asked for has ended, or `until` tells to stop, or, unless it shall
        `keep_going`, one has failed; `watch` sees each state on the way."""
        watch(status)
        while not status.final and not until(status) and (keep_going or not status.failed):
            status = self.request(status.id, after=status.event)
            watch(status)
        return status

    def close_request(self, request_id: str, *, within_s: float = 20.0) -> None:
        """Take leave of a request: what it still waits for, and nobody else does, is not built."""
        self._call("DELETE", f"/requests/{request_id}", timeout=within_s, patience_s=0.0)

    def status(self) -> "FarmStatus":
        """What the farm has to do."""
        from wheelfarm.farm_status import FarmStatus

        return FarmStatus.from_json(self._call("GET", "/status").json())

    def cancel(self, name: str) -> list[JobStatus]:
        """End the open request or the job whose id begins with `name`; the jobs that end."""
        require_beginning(name)
        return [JobStatus.from_json(job) for job in self._call("POST", f"/cancellations/{name}").json()]

    def job(self, prefix: str) -> JobStatus:
        """The job whose id begins with `prefix`."""
        return JobStatus.from_json(self._call("GET", f"/jobs/{prefix}").json())

    def log(self, prefix: str, *, raw: bool = False) -> bytes:
        """The log of the job's last run, up to now; control characters replaced unless it is wanted `raw`."""
        return self._call("GET", f"/jobs/{prefix}/log", params={"raw": "true"} if raw else {}).content

    def follow_log(self, prefix: str, *, raw: bool = False) -> Iterator[bytes | None]:
        """The job's log piece by piece, as it is printed, until the job is over; None where another run begins.

        A connection that breaks is made again, and goes on behind the last piece.
        """
        last_id, deadline = "", time.monotonic() + self._patience_s
        while True:
            try:
                for event in self._events(f"/jobs/{prefix}/log/events", last_id, {"raw": "true"} if raw else {}):
                    last_id, deadline = event.id, time.monotonic() + self._patience_s
                    if event.name == "end":
                        return
                    yield base64.b64decode(event.data) if raw else event.data.encode() if event.name == "log" else None
            except (httpx.TransportError, FarmUnavailable) as error:
                self._check()
                if time.monotonic() > deadline:
                    raise self._unreachable(error) from error
            time.sleep(0.2)

    def _events(self, path: str, last_id: str, params: dict[str, str]) -> Iterator[Event]:
        headers = {"Last-Event-ID": last_id} if last_id else {}
        with self._http.stream("GET", path, params=params, headers=headers) as answer:
            if answer.is_error:
                answer.read()
                raise _reported(answer)
            yield from read_events(_lines(answer.iter_text()))

    def account(self, resolution_id: str) -> Account:
        """What the source index could not give to one resolution."""
        return Account.from_json(self._call("GET", f"/resolutions/{resolution_id}").json())

    def sdists(self, name: str, target: Target) -> list[dict[str, Any]]:
        """What the source index lists of a project for a target: file entries as PEP 691 and PEP 700 give them."""
        page = self._call("GET", f"{source_index_path(target)}{name}/").json()
        return [file for file in page["files"] if not str(file["filename"]).endswith(".whl")]

    def send(self, archive: Path, sha256: str, *, filename: str = "") -> Sdist | None:
        """Send a local archive; the sdist that it is, where its `filename` is told and it is one."""
        answer = self._call("PUT", f"/local/{sha256}", file=archive, params={"filename": filename})
        sdist = answer.json()["sdist"]
        return None if sdist is None else Sdist.from_json(sdist)

    def see_local(self, resolution_id: str, sdists: Sequence[Sdist]) -> None:
        """Have a resolution see of these sdists' projects nothing but these, which this client sent or had made."""
        self._call("PUT", f"/resolutions/{resolution_id}/local", json=[asdict(sdist) for sdist in sdists])

    def mirror(self, sdists: Sequence[Sdist]) -> None:
        """Have the source index bring sdists into the store."""
        self._call("POST", "/sdists", json=[asdict(sdist) for sdist in sdists])

    def collect_garbage(self, rules: "GarbageRules", *, dry_run: bool) -> "GarbageReport":
        """Have the farm's store freed of garbage, however long that takes."""
        from wheelfarm.garbage import GarbageReport

        body = {"rules": rules.to_json(), "dry_run": dry_run}
        return GarbageReport.from_json(self._call("POST", "/garbage", json=body, timeout=None).json())

    def change_index(self, action: "Action", project: str, version: str, reason: str) -> "IndexChange":
        """Yank, quarantine or delete wheels that are on the indexes, or take that back; `version` "" means all."""
        from wheelfarm.index_change import IndexChange

        told = {"action": str(action), "version": version, "reason": reason}
        return IndexChange.from_json(self._call("POST", f"/index/{project}", json=told, timeout=None).json())

    def interpreters(self) -> "list[Interpreter]":
        """Every Python distribution that the farm keeps: by key, of each the newest build first."""
        from wheelfarm.interpreter import Interpreter

        return [Interpreter.from_json(value) for value in self._call("GET", "/pythons").json()]

    def keep_interpreter(self, archive: Path, offer: "Offer") -> "Interpreter":
        """Bring a Python distribution in. Safe to repeat."""
        from wheelfarm.interpreter import Interpreter

        told = {"sha256": offer.sha256, "key": offer.key, "source": offer.told_url}
        path = f"/pythons/{offer.build}/{offer.filename}"
        return Interpreter.from_json(self._call("PUT", path, file=archive, params=told, timeout=None).json())

    def remove_interpreter(self, interpreter: "Interpreter") -> None:
        """Have a Python distribution given no more."""
        self._call("DELETE", f"/pythons/{interpreter.build}/{interpreter.filename}")

    def explain(self, target: Target, **wanted: str) -> "Explanation":
        """Where a wheel comes from: that of a `filename` (and `sha256`), or the newest satisfying a `requirement`."""
        from wheelfarm.explanation import Explanation

        return Explanation.from_json(self._call("GET", f"/explanations/{target.name}", params=wanted).json())

    def policy(self) -> dict[str, str]:
        """The policy file: its `origin`, `source` and `sha256`, all empty where there is none; and the digest of the
        farm's `recipes`."""
        return dict(self._call("GET", "/policy").json())

    def recipes(self) -> dict[str, str]:
        """The projects that the farm has recipes for, and where each came from."""
        return dict(self._call("GET", "/recipes").json())

    def recipe(self, project: str) -> dict[str, Any]:
        """A project's recipe file: its `origin`, `source` and `patches`."""
        return dict(self._call("GET", f"/recipes/{project}").json())

    def forecast(self, sdists: Sequence[Sdist], target: Target) -> "list[Forecast]":
        """What the farm can tell of builds before they are made, in the order of the sdists."""
        from wheelfarm.forecast import Forecast

        body = {
            "target": target.name,
            "target_revision": target.revision,
            "sdists": [asdict(sdist) for sdist in sdists],
        }
        return [Forecast.from_json(value) for value in self._call("POST", "/forecasts", json=body).json()]

    def export(self, target: str, projects: Sequence[str], *, build_requirements: bool) -> "ExportPlan":
        """What belongs into an export of a target's index, or of these projects with what they require to run; with
        the wheels that these were built with where that is wanted."""
        from wheelfarm.export_writer import ExportPlan

        params = {"projects": ",".join(projects), "build_requirements": "true" if build_requirements else "false"}
        return ExportPlan.from_json(self._call("GET", f"/exports/{target}", params=params).json())

    def wheel_metadata(self, wheel: BuiltWheel) -> bytes:
        """The METADATA of a wheel, as the farm has it."""
        return self._call("GET", f"/wheels/{wheel.sha256}/{wheel.filename}.metadata").content

    def take_in(self, wheel: BuiltWheel, path: Path, manifest: Mapping[str, Any]) -> BuiltWheel:
        """Have a wheel that another farm has built, by its manifest of it, on this one's index; the wheel that stands
        for that build, which is another where the farm had built it itself."""
        place = f"/imports/{wheel.sha256}/{wheel.filename}"
        self._call("PUT", place, file=path)
        return BuiltWheel.from_json(self._call("POST", place, json=dict(manifest)).json()["wheel"])

    def download(self, wheel: BuiltWheel, path: Path) -> None:
        """Fetch a wheel to `path`, whole or not at all. Raises HashMismatch when the bytes are not the promised."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._patiently(partial(self._download, wheel, path), self._patience_s)

    def _download(self, wheel: BuiltWheel, path: Path) -> None:
        partly = path.with_name(f".{path.name}.{wheel.sha256[:12]}.part")
        digest = hashlib.sha256()
        try:
            with (
                self._http.stream("GET", f"/wheels/{wheel.sha256}/{wheel.filename}") as answer,
                partly.open("wb") as file,
            ):
                if answer.is_error:
                    answer.read()
                    raise _refusal(answer)
                for chunk in answer.iter_bytes():
                    digest.update(chunk)
                    file.write(chunk)
            if digest.hexdigest() != wheel.sha256:
                raise HashMismatch(f"{wheel.filename} came with sha256 {digest.hexdigest()}, not {wheel.sha256}.")
            partly.replace(path)
        finally:
            partly.unlink(missing_ok=True)

    def _call(
        self, method: str, path: str, *, patience_s: float | None = None, file: Path | None = None, **content: Any
    ) -> httpx.Response:
        def request() -> httpx.Response:
            with file.open("rb") if file else nullcontext() as body:
                answer = self._http.request(method, path, content=body, **content)
            if answer.is_error:
                raise _refusal(answer)
            return answer

        return self._patiently(request, self._patience_s if patience_s is None else patience_s)

    def _patiently(self, attempt: Callable[[], T], patience_s: float) -> T:
        """The attempt's result, tried again while a part of the farm is away."""
        began, pause_s, told = time.monotonic(), 0.05, ""
        while True:
            left_s, wait_s = patience_s, 0.0
            try:
                result = attempt()
                self._answered = True
                return result
            except _Away as away:
                failure, wait_s, self._answered = away.error, away.wait_s, True
            except httpx.TransportError as error:
                failure = self._unreachable(error)
            self._check()
            if patience_s and self._answered and type(failure) in (FarmUnavailable, TooManyRequests):  # it will go on
                left_s = max(patience_s, self.outage_s)
            waited_s = time.monotonic() - began
            left_s -= waited_s
            if left_s < 0:
                raise failure
            if self.outage_s and (wait_s or waited_s > _NOTICED_S):
                pause_s = max(pause_s, min(wait_s, left_s))
                if told != failure.message:
                    told = failure.message
                    self.tell(f"{told} Waiting for it, for up to {left_s:.0f} s.")
            time.sleep(pause_s)
            pause_s = min(1.0, pause_s * 2)

    def _unreachable(self, error: Exception) -> FarmUnavailable:
        return FarmUnavailable(
            f"The farm at {self.url} does not answer: {str(error).rstrip('.') or type(error).__name__}.",
            hint="Finished wheels are kept: the same command goes on where this one stopped.",
        )


def _carry_trace(request: httpx.Request) -> None:
    if parent := traceparent():
        request.headers["traceparent"] = parent


def require_beginning(name: str) -> None:
    """Raise InputError for what can't be the beginning of an id."""
    if not re.fullmatch(r"[0-9a-f]{4,64}", name):
        raise InputError(f"{name!r} is not the beginning of an id (4 hex digits or more).", hint="wheelfarm status")


def _retry_after_s(answer: httpx.Response) -> float:
    """After how many seconds the farm wants to be asked again."""
    given = answer.headers.get("retry-after", "")
    return min(60.0, float(given)) if given.isdecimal() else 0.0


def _lines(pieces: Iterable[str]) -> Iterator[str]:
    """Lines, each when it is whole. They end at a line feed, whatever else ends lines elsewhere."""
    left = ""
    for piece in pieces:
        *lines, left = (left + piece).split("\n")
        yield from lines


class _Away(Exception):
    """The farm says that a part of it is away, which may pass."""

    def __init__(self, error: WheelfarmError, wait_s: float) -> None:
        super().__init__(error.message)
        self.error = error
        self.wait_s = wait_s


def _refusal(answer: httpx.Response) -> Exception:
    error = _reported(answer)
    passes = answer.status_code in (FarmUnavailable.status, TooManyRequests.status)
    return _Away(error, _retry_after_s(answer)) if passes else error


def _reported(answer: httpx.Response) -> WheelfarmError:
    try:
        value = answer.json()
    except ValueError:
        return ProtocolError(f"The farm answered {answer.status_code} without saying why.")
    return error_from_json(value) if isinstance(value, dict) else ProtocolError("The farm answered with no error.")
