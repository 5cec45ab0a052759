"""The API's part for local sources: a client sends them, and tells a resolution which of them it is to see."""

from dataclasses import asdict

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response

from wheelfarm.digest import SHA256
from wheelfarm.job import SDIST_FILENAME, JobKind, Sdist
from wheelfarm.token_file import Scope
from wheelfarm.tree import MOST_BYTES
from wheelfarm_services.access import Principal, principal_of
from wheelfarm_services.accounts import Accounts
from wheelfarm_services.json_body import read_json_body, sdist_list
from wheelfarm_services.local_sources import LocalSources, unknown_local
from wheelfarm_services.operation import BYTES, Answer, Operation, Parameter
from wheelfarm_services.parameters import RESOLUTION_ID, SDISTS
from wheelfarm_services.received_file import receive_file
from wheelfarm_services.scratch import scratch_folder
from wheelfarm_services.store import Store
from wheelfarm_services.tenancy import Tenancy, Thing

_FILENAME = f"|{SDIST_FILENAME.pattern}"


def local_operations(
    store: Store, accounts: Accounts, tenancy: Tenancy, *, most_bytes: int = MOST_BYTES
) -> list[Operation]:
    """`PUT /local/SHA256` with the bytes of an archive, answered with the sdist that it is where a `filename` is given
    and it is one; `PUT /resolutions/ID/local` with the local sdists that a resolution is to see."""
    sources = LocalSources(store)

    async def send(http: HttpRequest) -> Response:
        sha256, filename = http.path_params["sha256"], http.query_params.get("filename", "")
        with scratch_folder("local") as folder:
            path = folder / "archive"
            await receive_file(http, path, most_bytes)
            await run_in_threadpool(sources.take, sha256, path)
        await run_in_threadpool(tenancy.grant, principal_of(http).tenant, Thing.LOCAL, [sha256])
        sdist = await run_in_threadpool(sources.as_sdist, sha256, filename) if filename else None
        return JSONResponse({"sdist": sdist and asdict(sdist)})

    async def see(http: HttpRequest) -> Response:
        sdists = sdist_list(await read_json_body(http))
        await run_in_threadpool(have_seen, principal_of(http), http.path_params["id"], sdists)
        return Response(status_code=204)

    def have_seen(principal: Principal, resolution_id: str, sdists: list[Sdist]) -> None:
        for sdist in sdists:
            if not tenancy.sees(principal, Thing.LOCAL, sdist.sha256):
                raise unknown_local(sdist)
            sources.require(JobKind.WHEEL, sdist)
        accounts.see_local(principal.resolution(resolution_id), sdists)

    sha256 = Parameter(name="sha256", told="The digest of what is sent.", form=SHA256.pattern)
    filename = Parameter(name="filename", told="The file's name, if it may be an sdist.", form=_FILENAME, place="query")
    sent = {"type": "object", "properties": {"sdist": Sdist | None}, "required": ["sdist"]}
    return [
        Operation(
            name="sendLocal",
            method="PUT",
            path="/local/{sha256}",
            endpoint=send,
            told="Send the packed tree or the sdist of a local project.",
            scope=Scope.BUILD,
            parameters=(sha256, filename),
            body=BYTES,
            answers={200: Answer(told="The sdist that it is; null for a tree.", shape=sent)},
            errors=(422,),
        ),
        Operation(
            name="seeLocal",
            method="PUT",
            path="/resolutions/{id}/local",
            endpoint=see,
            told="Have a resolution see nothing but these local sdists of their projects.",
            scope=Scope.BUILD,
            parameters=(RESOLUTION_ID,),
            body=SDISTS,
            answers={204: Answer(told="Done.")},
        ),
    ]
