"""What can be asked of the source index: two views of upstream for resolvers, accounts of resolutions, the mirror."""

from wheelfarm.digest import SHA256
from wheelfarm.job import Sdist
from wheelfarm.token_file import Scope
from wheelfarm_services.operation import BYTES, HTML, Answer, Endpoint, Operation, Parameter
from wheelfarm_services.parameters import ANY_TEXT, RESOLUTION_ID, SDISTS, TARGET
from wheelfarm_services.source_page import SIMPLE_JSON
from wheelfarm_services.source_routes import SourceEndpoints

_ACCOUNT = {
    "type": "object",
    "properties": {
        "pending": list[Sdist],
        "unknown": list[str],
        "without_sdist": dict[str, list[str]],
        "with_sdist": dict[str, list[str]],
        "refused": dict[str, dict[str, str]],
        "remarks": list[str],
        "errors": {"type": "array", "items": {"$ref": "#/components/schemas/Error"}},
    },
    "required": ["pending", "unknown", "without_sdist", "with_sdist", "remarks", "errors"],
}
_REVISION = Parameter(name="revision", told="The target's revision, or its first digits.", form="[0-9a-f]{4,64}")
_PROJECT = Parameter(name="project", told="The project's normalised name.", form=ANY_TEXT)
_KNOWN = Parameter(name="If-None-Match", told="The ETag of the page that is known.", place="header")
_FILE = (
    TARGET,
    _REVISION,
    _PROJECT,
    Parameter(name="sha256", told="The sdist's digest.", form=SHA256.pattern),
    Parameter(name="filename", told="The file's name.", form=ANY_TEXT),
)
_CACHED = {"Cache-Control": "How long it may be kept."}


def source_operations(endpoints: SourceEndpoints) -> list[Operation]:
    """The operations under `/source/VIEW/TARGET/REVISION/`, `/resolutions/ID` and `/sdists`."""
    return [
        *_view("default", "", endpoints, endpoints.virtual_metadata),
        *_view("estimate", "Estimate", endpoints, endpoints.estimated_metadata),
        Operation(
            name="resolutionAccount",
            may_wait=True,
            path="/resolutions/{id}",
            endpoint=endpoints.account,
            told="What the source index could not give to one resolution.",
            parameters=(RESOLUTION_ID,),
            answers={200: Answer(told="The account.", shape=_ACCOUNT)},
        ),
        Operation(
            name="mirrorSdists",
            method="POST",
            path="/sdists",
            endpoint=endpoints.mirror,
            told="Bring sdists of the source index into the store.",
            scope=Scope.BUILD,
            body=SDISTS,
            answers={204: Answer(told="They are there.")},
            errors=(404, 422, 502),
        ),
    ]


def _view(view: str, name: str, endpoints: SourceEndpoints, metadata: Endpoint) -> list[Operation]:
    source = f"/source/{view}/{{target}}/{{revision}}"
    page_headers = {"ETag": "The page's version, for If-None-Match.", **_CACHED}
    return [
        Operation(
            name=f"sourcePage{name}",
            may_wait=True,
            path=source + "/simple/{project}/",
            endpoint=endpoints.project_page,
            told="A project's sdists, each with a virtual wheel that has its metadata (PEP 503, 691, 700, 658).",
            parameters=(TARGET, _REVISION, _PROJECT, _KNOWN),
            answers={
                200: Answer(told="The page.", media=(SIMPLE_JSON, HTML), headers=page_headers),
                304: Answer(told="The page that is known is the present one."),
            },
            errors=(404, 422),
        ),
        Operation(
            name=f"virtualMetadata{name}",
            may_wait=True,
            path=source + "/virtual/{project}/{sha256}/{filename}",
            endpoint=metadata,
            told="The core metadata of an sdist, as that of its virtual wheel.",
            parameters=_FILE,
            answers={200: Answer(told="METADATA.", media=(BYTES,), headers=_CACHED)},
            errors=(404, 422, 425),
        ),
        Operation(
            name=f"sourceSdist{name}",
            may_wait=True,
            path=source + "/sdists/{project}/{sha256}/{filename}",
            endpoint=endpoints.sdist,
            told="An sdist, or with `.metadata` behind its name its core metadata, as pip reads them.",
            parameters=_FILE,
            answers={
                200: Answer(told="The file.", media=(BYTES,), headers=_CACHED),
                206: Answer(told="The range of it that was asked for.", media=(BYTES,), headers=_CACHED),
            },
            errors=(404, 416, 422, 425),
        ),
    ]
