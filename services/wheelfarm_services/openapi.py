"""The OpenAPI 3.1 document, made from the operations themselves, so that it can't tell of others."""

from collections.abc import Iterable, Mapping
from typing import Any

import wheelfarm
from wheelfarm_services.operation import BYTES, EVENTS, JSON, Answer, Operation, Parameter
from wheelfarm_services.schemas import Schemas

_COMMON_ERRORS = (400, 500, 503)
_TOKEN_ERRORS = (401, 403, 429)
_ERRORS = {
    400: "What was asked for can't be read or is not accepted.",
    401: "The token is missing, wrong, expired or revoked.",
    403: "The token is known and does not allow this; the message says what it lacks.",
    404: "There is no such thing, or the token's tenant may not see it.",
    406: "What is there is not offered in any form that was asked for.",
    409: "The id is taken by something else.",
    413: "The body is too large.",
    416: "The range that was asked for begins behind the end of the file.",
    422: "The bytes or the sdists are not what they are said to be; below /source/ also what an upstream did.",
    425: "The metadata is not computed yet: have it computed by a request, and ask again.",
    429: "The token was used too often, or its tenant has too many open jobs.",
    500: "A fault of the farm.",
    502: "An upstream index answered with anything but what was asked for or 404.",
    503: "Redis or the store can't be reached.",
}
_ERROR = {
    "type": "object",
    "properties": {name: {"type": "string"} for name in ("error", "message", "hint")},
    "required": ["error", "message", "hint"],
    "additionalProperties": False,
}
_HEADERS = {
    401: {"WWW-Authenticate": "How to send a token."},
    416: {"Content-Range": "How many bytes the file has."},
    425: {"Retry-After": "After how many seconds to ask again."},
    429: {"Retry-After": "After how many seconds to ask again."},
    503: {"Retry-After": "After how many seconds to ask again."},
}


def openapi_document(operations: Iterable[Operation]) -> dict[str, Any]:
    """The document of these operations."""
    schemas = Schemas()
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, schemas)
    schemes = {
        "bearer": {"type": "http", "scheme": "bearer", "description": "A token of the farm."},
        "basic": {
            "type": "http",
            "scheme": "basic",
            "description": "The token as password; the user name is `__token__`, or the id of a resolution.",
        },
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "wheelfarm",
            "version": wheelfarm.__version__,
            "description": "A build farm that turns sdists into wheels. Tokens, versions and events: docs/api.md.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {"schemas": {**schemas.components, "Error": _ERROR}, "securitySchemes": schemes},
    }


def _operation(operation: Operation, schemas: Schemas) -> dict[str, Any]:
    told: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.told,
        "security": [{"bearer": []}, {"basic": []}] if operation.scope else [],
        "responses": {
            **{str(status): _answer(answer, schemas) for status, answer in operation.answers.items()},
            **{str(status): _error(status) for status in _statuses(operation)},
        },
    }
    if operation.scope:
        told["description"] = f"Needs a token with the scope `{operation.scope}`."
    if operation.parameters:
        told["parameters"] = [_parameter(parameter) for parameter in operation.parameters]
    if operation.body is not None:
        media = BYTES if operation.body == BYTES else JSON
        schema = {} if media == BYTES else schemas.of(operation.body)
        told["requestBody"] = {"required": True, "content": {media: {"schema": schema}}}
    return told


def _statuses(operation: Operation) -> list[int]:
    given = {*_COMMON_ERRORS, *operation.errors, *(_TOKEN_ERRORS if operation.scope else ())}
    if operation.body is not None:
        given.add(413)
    return sorted(given - set(operation.answers))


def _parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": parameter.place,
        "description": parameter.told,
        "required": parameter.place == "path" or parameter.required,
        "schema": {"type": "string", "pattern": f"^({parameter.form})$"},
    }


def _answer(answer: Answer, schemas: Schemas) -> dict[str, Any]:
    told: dict[str, Any] = {"description": answer.told}
    media = answer.media or ((JSON,) if answer.shape is not None else ())
    if media:
        told["content"] = {kind: _content(kind, answer, schemas) for kind in media}
    return told | _headers(answer.headers)


def _content(kind: str, answer: Answer, schemas: Schemas) -> dict[str, Any]:
    if kind in (BYTES, EVENTS):
        return {}
    if kind.endswith("json"):
        return {"schema": schemas.of(answer.shape if answer.shape is not None else {"type": "object"})}
    return {"schema": {"type": "string"}}


def _error(status: int) -> dict[str, Any]:
    reference = {"$ref": "#/components/schemas/Error"}
    told = {"description": _ERRORS[status], "content": {JSON: {"schema": reference}}}
    return told | _headers(_HEADERS.get(status, {}))


def _headers(headers: Mapping[str, str]) -> dict[str, Any]:
    if not headers:
        return {}
    return {
        "headers": {
            name: {"description": told, "required": True, "schema": {"type": "string"}}
            for name, told in headers.items()
        }
    }
