"""The operation by which operators yank, quarantine and delete what is on the indexes."""

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response

from wheelfarm.errors import InputError
from wheelfarm.index_change import Action, IndexChange
from wheelfarm.job import PROJECT_NAME, SDIST_VERSION
from wheelfarm.token_file import Scope
from wheelfarm_services.access import principal_of
from wheelfarm_services.json_body import json_object, read_json_body
from wheelfarm_services.operation import Answer, Operation, Parameter
from wheelfarm_services.wheel_index.curation import Curation

_REASON_CHARACTERS = 300
_BODY = {
    "type": "object",
    "properties": {
        "action": {"type": "string", "enum": [str(action) for action in Action]},
        "version": {"type": "string", "description": "The version, normalised; none for the whole project."},
        "reason": {"type": "string", "minLength": 1, "maxLength": _REASON_CHARACTERS},
    },
    "required": ["action", "reason"],
}


def curation_operations(curation: Curation) -> list[Operation]:
    """`POST /index/PROJECT`."""

    async def answer(http: HttpRequest) -> Response:
        value = json_object(await read_json_body(http))
        action, version, reason = _checked(value)
        by = principal_of(http).token
        change = await run_in_threadpool(curation.change, action, http.path_params["project"], version, reason, by=by)
        return JSONResponse(change.to_json())

    return [
        Operation(
            name="changeIndex",
            method="POST",
            path="/index/{project}",
            endpoint=answer,
            told="Yank, quarantine or delete a project's wheels on every index, or end the first two.",
            scope=Scope.ADMIN,
            parameters=(Parameter(name="project", told="The normalised name.", form=PROJECT_NAME.pattern),),
            body=_BODY,
            answers={200: Answer(told="The files that it was about, by target.", shape=IndexChange)},
            errors=(404,),
        )
    ]


def _checked(value: dict[str, object]) -> tuple[Action, str, str]:
    action, version, reason = value.get("action"), value.get("version", ""), value.get("reason")
    if not isinstance(action, str) or action not in set(Action):
        raise InputError(f"{action!r:.100} is no action.", hint=f"Known: {', '.join(Action)}.")
    if not isinstance(version, str) or (version and not SDIST_VERSION.fullmatch(version)):
        raise InputError(f"{version!r:.100} is no normalised version.")
    if not isinstance(reason, str) or not reason.isprintable() or not 0 < len(reason.strip()) <= _REASON_CHARACTERS:
        raise InputError("A reason is needed, in one line of 300 characters at most.")
    return Action(action), version, reason.strip()
