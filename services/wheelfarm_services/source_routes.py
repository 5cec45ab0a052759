"""The source index's HTTP face: project pages and metadata for resolvers, accounts of resolutions, the mirror."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response

from wheelfarm.errors import FarmUnavailable, NotFound, UpstreamError, WheelfarmError, error_from_json
from wheelfarm.job import LOCAL_VIEW, JobKind, JobState, Sdist
from wheelfarm.token_file import Scope
from wheelfarm_services import layout
from wheelfarm_services.access import principal_of
from wheelfarm_services.accounts import Accounts
from wheelfarm_services.basic_auth import basic_credentials
from wheelfarm_services.json_body import read_json_body, sdist_list
from wheelfarm_services.ledger import Ledger
from wheelfarm_services.local_sources import local_page
from wheelfarm_services.prebuilt import page_for_target
from wheelfarm_services.read_ahead import ReadAhead
from wheelfarm_services.request import Request, RequestTarget
from wheelfarm_services.requests import Requests
from wheelfarm_services.sdist_metadata import SdistMetadata
from wheelfarm_services.source_index import SourceIndex
from wheelfarm_services.source_page import RenderedPages, accepted_type, virtual_revision
from wheelfarm_services.static_metadata import probable_metadata
from wheelfarm_services.store import Store
from wheelfarm_services.stored_file import stored_file
from wheelfarm_services.threads import run_waiting

NO_RESOLUTION = "none"
"""In place of an id for tools that make up none, such as a user's pip or uv."""

_IMMUTABLE = {"Cache-Control": "max-age=365000000, immutable"}


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceEndpoints:
    """One method a route; plain functions, which Starlette runs in its thread pool."""

    store: Store
    ledger: Ledger
    sources: SourceIndex
    requests: Requests
    accounts: Accounts
    metadata: SdistMetadata
    ahead: ReadAhead
    pages: RenderedPages = field(default_factory=RenderedPages)

    def project_page(self, http: HttpRequest) -> Response:
        path, resolution, name = http.path_params, _resolution(http), http.path_params["project"]
        local = self.accounts.local(resolution, name)
        try:
            page = local_page(local) if local else self.sources.page(name)
        except WheelfarmError as error:
            self.accounts.error(resolution, error)
            raise
        if page is None:
            self.accounts.unknown(resolution, name)
            raise NotFound(f"The upstream index has no project {name}.")
        if page.without_sdist or page.refused or page.remarks:
            self.accounts.page(resolution, name)
        if page.prebuilt:
            target = self.requests.target(path["target"], self._full_revision(path["target"], path["revision"]))
            page = page_for_target(page, target)
        revisions = self.metadata.revisions(name, self._full_revision(path["target"], path["revision"]))
        media_type = accepted_type(http.headers.get("accept", ""))
        below = http.url.path.removesuffix(f"simple/{name}/")
        body, etag = self.pages.render(page, below, revisions, media_type)
        headers = {"Cache-Control": "no-cache", "ETag": etag, "Vary": "Accept"}
        if http.headers.get("if-none-match") == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        return Response(body, media_type=media_type, headers=headers)

    def virtual_metadata(self, http: HttpRequest) -> Response:
        """Metadata of a virtual wheel; 425 while a job has to compute it, 404 for the wheel, which does not exist."""
        asked = self._asked(http)
        metadata = self._metadata(asked, asked.virtual_revision)
        return _file(metadata, _IMMUTABLE) if metadata is not None else _pending()

    def estimated_metadata(self, http: HttpRequest) -> Response:
        """The same for an estimate: what a job has yet to compute is noted as pending, and is taken as its sdist
        states it.

        That answer is for this resolution alone, so resolvers must not keep it.
        """
        asked = self._asked(http)
        metadata = self._metadata(asked, asked.virtual_revision, failing=False)
        if metadata is None:
            probable = probable_metadata(asked.sdist, self.sources.head(asked.sdist))
            return _file(probable, {"Cache-Control": "no-store"})
        return _file(metadata, _IMMUTABLE)

    def sdist(self, http: HttpRequest) -> Response:
        """An sdist's bytes, or beside them its metadata, in its newest revision: what pip reads."""
        asked = self._asked(http)
        if asked.filename == f"{asked.sdist.filename}.metadata":
            metadata = self._metadata(asked, self.metadata.newest(asked.sdist, asked.target_revision)[0])
            return _file(metadata, {"Cache-Control": "no-cache"}) if metadata is not None else _pending()
        if asked.local or asked.filename != asked.sdist.filename:
            raise NotFound(f"The source index has no file {asked.filename}.")
        self.sources.mirror(asked.sdist)
        return stored_file(http, self.store, layout.sdist(asked.sdist.sha256), _IMMUTABLE)

    def account(self, http: HttpRequest) -> Response:
        return JSONResponse(self.accounts.read(principal_of(http).resolution(http.path_params["id"]), self.sources))

    async def mirror(self, http: HttpRequest) -> Response:
        await run_waiting(self._mirror, await read_json_body(http))
        return Response(status_code=204)

    def _mirror(self, value: object) -> None:
        for sdist in sdist_list(value):
            self.sources.mirror(sdist)

    def _metadata(self, asked: "_Asked", revision: int, *, failing: bool = True) -> bytes | None:
        """One revision of an sdist's metadata, None while it is pending, noted in the account of the resolution.

        Whoever keeps no account, as stock tools do, has the job submitted, if the token is one that may build.
        """
        self.ahead.asked(asked.sdist)
        try:
            if revision or asked.local:
                found = self._known(asked, revision)
            else:
                found = self.sources.metadata(asked.sdist, asked.target_revision)
            if found is None:
                self.accounts.pending(asked.resolution, asked.sdist)
                if failing:
                    self._require_not_failed(asked)
        except WheelfarmError as error:
            self.accounts.error(asked.resolution, error)
            raise
        if found is not None and not asked.local:
            self.ahead.told(asked.sdist, found, self.requests.target(asked.target, asked.target_revision))
        if asked.resolution == NO_RESOLUTION and asked.may_build:
            self._compute(asked, wanted=found is None)
        return found

    def _known(self, asked: "_Asked", revision: int) -> bytes | None:
        if not revision:
            return self.metadata.told_first(asked.sdist, asked.target_revision)
        found = self.metadata.revision(asked.sdist, asked.target_revision, revision)
        if found is None:
            raise NotFound(f"The metadata of {asked.sdist} has no revision {revision}.")
        return found

    def _compute(self, asked: "_Asked", *, wanted: bool) -> None:
        """Ask for the metadata job in the name of whoever can't; take leave of it when it has answered."""
        id_ = hashlib.sha256(f"metadata {asked.sdist.sha256} {asked.target_revision}".encode()).hexdigest()
        if wanted:
            self.requests.accept(
                Request(
                    id=id_,
                    kind=JobKind.METADATA,
                    targets=(RequestTarget(name=asked.target, revision=asked.target_revision),),
                    sdists=(asked.sdist,),
                )
            )
        elif self.store.size(layout.open_request(id_)) is not None:
            self.requests.close(id_)

    def _asked(self, http: HttpRequest) -> "_Asked":
        """Which file of which sdist is asked for. Raises NotFound for a project, target or sdist that is not known."""
        path, resolution = http.path_params, _resolution(http)
        local = self.accounts.local(resolution, path["project"])
        is_local = local is not None and local.sha256 == path["sha256"]
        return _Asked(
            resolution=resolution,
            target=path["target"],
            target_revision=self._full_revision(path["target"], path["revision"]),
            sdist=local if local and is_local else self.sources.find(path["project"], path["sha256"]),
            local=is_local,
            filename=path["filename"],
            may_build=principal_of(http).scope.includes(Scope.BUILD),
        )

    def _full_revision(self, target: str, prefix: str) -> str:
        """The revision of a target that begins so. Raises NotFound where there is none, or more than one."""
        keys = self.store.list(layout.target_definitions(target))
        revisions = [key.rpartition("/")[2].removesuffix(".json") for key in keys]
        found = [revision for revision in revisions if revision.startswith(prefix)]
        if len(found) != 1:
            raise NotFound(
                f"The farm knows {len(found) or 'no'} revisions of the target {target!r} that begin with {prefix!r}."
            )
        return found[0]

    def _require_not_failed(self, asked: "_Asked") -> None:
        """Raise the reason where the metadata job of an sdist has failed and is remembered."""
        target = self.requests.target(asked.target, asked.target_revision)
        job = self.requests.job_for(JobKind.METADATA, asked.sdist, target)
        job = replace(job, source_view=LOCAL_VIEW) if asked.local else job
        record = self.ledger.job(job.id)
        if record is not None and record.state is JobState.FAILED:
            failure = self.requests.failure(record)
            error = error_from_json(failure.to_json() if failure else {})
            if not isinstance(error, FarmUnavailable | UpstreamError):  # what may pass is never remembered: try again
                raise error


@dataclass(frozen=True, kw_only=True, slots=True)
class _Asked:
    """A file that is asked for below an sdist, on behalf of a resolution."""

    resolution: str
    target: str
    target_revision: str
    sdist: Sdist
    local: bool
    filename: str
    may_build: bool

    @property
    def virtual_revision(self) -> int:
        """The revision that the name of a virtual wheel's metadata tells. Raises NotFound for any other file."""
        revision = virtual_revision(self.filename)
        if revision is None:
            raise NotFound("A virtual wheel has metadata only.")
        return revision


def _file(metadata: bytes, headers: Mapping[str, str]) -> Response:
    return Response(metadata, media_type="application/octet-stream", headers=dict(headers))


def _pending() -> Response:
    told = {
        "error": "metadata-pending",
        "message": "Its metadata is being computed by a build in a sandbox.",
        "hint": "Ask again in a while.",
    }
    return JSONResponse(told, 425, headers={"Retry-After": "5", "Cache-Control": "no-store"})


def _resolution(http: HttpRequest) -> str:
    """The id of the resolution that asks: the user name of its credentials."""
    name = basic_credentials(http.headers.get("authorization", ""))[0]
    return principal_of(http).resolution(name) if re.fullmatch(r"[0-9a-f]{32}", name) else NO_RESOLUTION
