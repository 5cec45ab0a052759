"""The API's part for exports and imports: what goes into one, and wheels of another farm's, taken in."""

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response

from wheelfarm.job import PROJECT_NAME
from wheelfarm.token_file import Scope
from wheelfarm.wheel import BuiltWheel
from wheelfarm_services.access import principal_of
from wheelfarm_services.exports import Exports
from wheelfarm_services.imports import Imports
from wheelfarm_services.json_body import json_object, read_json_body
from wheelfarm_services.operation import BYTES, Answer, Operation, Parameter
from wheelfarm_services.parameters import TARGET, WHEEL_SHA256
from wheelfarm_services.received_file import receive_file
from wheelfarm_services.scratch import scratch_folder
from wheelfarm_services.store import Store
from wheelfarm_services.tenancy import Tenancy, Thing
from wheelfarm_services.wheel_index import WheelIndex

_MOST_BYTES = 4 << 30
_FILENAME = Parameter(
    name="filename", told="The wheel's file name.", form=r"[A-Za-z0-9_!+~][A-Za-z0-9_.!+~-]{0,199}\.whl"
)
_PROJECTS = Parameter(
    name="projects",
    told="The normalised names of the projects that are wanted, with commas between; none: all.",
    form=rf"|{PROJECT_NAME.pattern}(,{PROJECT_NAME.pattern})*",
    place="query",
)
_TOOLS = Parameter(
    name="build_requirements",
    told="Whether the wheels that these were built with are wanted, too.",
    form="true|false",
    place="query",
)

_EXPORT = {
    "type": "object",
    "properties": {
        "target": str,
        "manifests": {"type": "array", "items": {"type": "object"}},
        "pages": dict[str, str],
    },
    "required": ["target", "manifests", "pages"],
}


def export_operations(store: Store, index: WheelIndex, tenancy: Tenancy) -> list[Operation]:
    """`GET /exports/TARGET`; `PUT` and then `POST /imports/SHA256/FILENAME`."""
    exports, imports = Exports(store, index), Imports(store, index)

    def export(http: HttpRequest) -> Response:
        principal, query = principal_of(http), http.query_params
        found = exports.export(
            http.path_params["target"],
            [name for name in query.get("projects", "").split(",") if name],
            build_requirements=query.get("build_requirements") == "true",
            sees=lambda sha256: tenancy.sees(principal, Thing.WHEEL, sha256),
        )
        return JSONResponse(found)

    async def take(http: HttpRequest) -> Response:
        sha256, filename = http.path_params["sha256"], http.path_params["filename"]
        with scratch_folder("import") as folder:
            path = folder / "wheel"
            await receive_file(http, path, _MOST_BYTES)
            await run_in_threadpool(imports.take, sha256, filename, path)
        return Response(status_code=204)

    async def enlist(http: HttpRequest) -> Response:
        sha256, filename = http.path_params["sha256"], http.path_params["filename"]
        value = json_object(await read_json_body(http))
        wheel = await run_in_threadpool(imports.enlist, sha256, filename, value)
        return JSONResponse({"wheel": wheel.to_json()})

    return [
        Operation(
            name="export",
            path="/exports/{target}",
            endpoint=export,
            told="What belongs into an export of a target's index: manifests of wheels, and a folder's pages.",
            parameters=(TARGET, _PROJECTS, _TOOLS),
            answers={200: Answer(told="The export.", shape=_EXPORT)},
            errors=(404,),
        ),
        Operation(
            name="sendWheel",
            method="PUT",
            path="/imports/{sha256}/{filename}",
            endpoint=take,
            told="Send a wheel that another farm has built; nothing lists it yet.",
            scope=Scope.ADMIN,
            parameters=(WHEEL_SHA256, _FILENAME),
            body=BYTES,
            answers={204: Answer(told="Done.")},
            errors=(422,),
        ),
        Operation(
            name="enlistWheel",
            method="POST",
            path="/imports/{sha256}/{filename}",
            endpoint=enlist,
            told="Put a wheel that was sent on its target's index, by the manifest of the farm that has built it.",
            scope=Scope.ADMIN,
            parameters=(WHEEL_SHA256, _FILENAME),
            body={"type": "object"},
            answers={
                200: Answer(
                    told="The wheel that stands for that build.",
                    shape={"type": "object", "properties": {"wheel": BuiltWheel}, "required": ["wheel"]},
                )
            },
            errors=(404, 409, 422),
        ),
    ]
