"""The source index's HTTP face: project pages and metadata for resolvers, accounts of resolutions, the mirror."""

import re
from dataclasses import dataclass, field, replace

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from wheelfarm.errors import FarmUnavailable, InputError, NotFound, UpstreamError, WheelfarmError, error_from_json
from wheelfarm.job import LOCAL_VIEW, JobKind, JobState, Sdist
from wheelfarm_services import layout
from wheelfarm_services.accounts import Accounts
from wheelfarm_services.basic_auth import basic_credentials
from wheelfarm_services.json_body import json_object, read_json_body
from wheelfarm_services.ledger import Ledger
from wheelfarm_services.local_sources import LocalSources, local_page
from wheelfarm_services.requests import Requests
from wheelfarm_services.source_index import RenderedPages, SourceIndex
from wheelfarm_services.static_metadata import probable_metadata
from wheelfarm_services.store import Store

_SIMPLE_JSON = "application/vnd.pypi.simple.v1+json"
_IMMUTABLE = {"Cache-Control": "max-age=365000000, immutable"}


def source_routes(
    store: Store, ledger: Ledger, sources: SourceIndex, requests: Requests, accounts: Accounts
) -> list[Route]:
    """Pages and metadata under `/source/VIEW/TARGET/REVISION/`, `GET /resolutions/ID`, and `POST /sdists` with a list
    of sdists that the store is to have."""
    endpoints = _Endpoints(store=store, ledger=ledger, sources=sources, requests=requests, accounts=accounts)
    source, estimate = (f"/source/{view}/{{target}}/{{revision}}" for view in ("default", "estimate"))
    return [
        Route(source + "/simple/{project}/", endpoints.project_page),
        Route(source + "/virtual/{project}/{sha256}/{filename}", endpoints.virtual_metadata),
        Route(estimate + "/simple/{project}/", endpoints.project_page),
        Route(estimate + "/virtual/{project}/{sha256}/{filename}", endpoints.estimated_metadata),
        Route("/resolutions/{id}", endpoints.account),
        Route("/sdists", endpoints.mirror, methods=["POST"]),
    ]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Endpoints:
    """One method a route; plain functions, which Starlette runs in its thread pool."""

    store: Store
    ledger: Ledger
    sources: SourceIndex
    requests: Requests
    accounts: Accounts
    pages: RenderedPages = field(default_factory=RenderedPages)

    def project_page(self, http: HttpRequest) -> Response:
        resolution, name = _resolution(http), http.path_params["project"]
        local = self.accounts.local(resolution, name)
        try:
            page = local_page(local) if local else self.sources.page(name)
        except WheelfarmError as error:
            self.accounts.error(resolution, error)
            raise
        if page is None:
            self.accounts.unknown(resolution, name)
            raise NotFound(f"The upstream index has no project {name}.")
        if page.without_sdist:
            self.accounts.page(resolution, name)
        virtual = http.url.path.removesuffix(f"simple/{name}/") + "virtual/"
        body, etag = self.pages.render(page, virtual)
        headers = {"Cache-Control": "no-cache", "ETag": etag}
        if http.headers.get("if-none-match") == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        return Response(body, media_type=_SIMPLE_JSON, headers=headers)

    def virtual_metadata(self, http: HttpRequest) -> Response:
        """Metadata of a virtual wheel; 425 while a job has to compute it, 404 for the wheel, which does not exist."""
        path, resolution = http.path_params, _resolution(http)
        sdist, local = self._virtual(http)
        revision = self._full_revision(path["target"], path["revision"])
        try:
            metadata = (LocalSources(self.store) if local else self.sources).metadata(sdist, revision)
            if metadata is None:
                self.accounts.pending(resolution, sdist)
                self._require_not_failed(sdist, path["target"], revision, local)
        except WheelfarmError as error:
            self.accounts.error(resolution, error)
            raise
        if metadata is None:
            return PlainTextResponse("its metadata is not computed yet\n", 425)
        return Response(metadata, media_type="application/octet-stream", headers=_IMMUTABLE)

    def estimated_metadata(self, http: HttpRequest) -> Response:
        """The same for an estimate: what a job has yet to compute is noted as pending, and is taken as its sdist
        states it.

        That answer is for this resolution alone, so resolvers must not keep it.
        """
        path, resolution, (sdist, _) = http.path_params, _resolution(http), self._virtual(http)
        try:
            metadata = self.sources.metadata(sdist, self._full_revision(path["target"], path["revision"]))
        except WheelfarmError as error:
            self.accounts.error(resolution, error)
            raise
        if metadata is None:
            self.accounts.pending(resolution, sdist)
            probable = probable_metadata(sdist, self.sources.head(sdist))
            return Response(probable, media_type="application/octet-stream", headers={"Cache-Control": "no-store"})
        return Response(metadata, media_type="application/octet-stream", headers=_IMMUTABLE)

    def account(self, http: HttpRequest) -> Response:
        return JSONResponse(self.accounts.read(http.path_params["id"], self.sources))

    async def mirror(self, http: HttpRequest) -> Response:
        await run_in_threadpool(self._mirror, await read_json_body(http))
        return Response(status_code=204)

    def _mirror(self, value: object) -> None:
        if not isinstance(value, list):
            raise InputError("A list of sdists is expected.")
        for sdist in value:
            self.sources.mirror(Sdist.from_json(json_object(sdist)))

    def _virtual(self, http: HttpRequest) -> tuple[Sdist, bool]:
        """The sdist that a virtual wheel's metadata is asked for of, and whether it is a local one that this resolution
        sees; NotFound for the wheel itself."""
        name, sha256, filename = (http.path_params[part] for part in ("project", "sha256", "filename"))
        if not filename.endswith(".whl.metadata"):
            raise NotFound("A virtual wheel has metadata only.")
        local = self.accounts.local(_resolution(http), name)
        if local is not None and local.sha256 == sha256:
            return local, True
        return self.sources.find(name, sha256), False

    def _full_revision(self, target: str, prefix: str) -> str:
        keys = list(self.store.list(layout.target(target, "x").rpartition("/")[0] + "/"))
        for key in keys:
            revision = key.rpartition("/")[2].removesuffix(".json")
            if revision.startswith(prefix):
                return revision
        raise NotFound(f"The farm knows no target {target!r} in revision {prefix!r}.")

    def _require_not_failed(self, sdist: Sdist, target: str, revision: str, local: bool) -> None:
        """Raise the reason where the metadata job of an sdist has failed and is remembered."""
        job = self.requests.job_for(JobKind.METADATA, sdist, self.requests.target(target, revision))
        job = replace(job, source_view=LOCAL_VIEW) if local else job
        record = self.ledger.job(job.id)
        if record is not None and record.state is JobState.FAILED:
            failure = self.requests.failure(record)
            error = error_from_json(failure.to_json() if failure else {})
            if not isinstance(error, FarmUnavailable | UpstreamError):  # what may pass is never remembered: try again
                raise error


def _resolution(http: HttpRequest) -> str:
    """The id of the resolution that asks: the user name of its credentials."""
    name = basic_credentials(http.headers.get("authorization", ""))[0]
    return name if re.fullmatch(r"[0-9a-f]{32}", name) else "none"
