"""JSON schemas of the vocabulary's values, made from their types, as `dataclasses.asdict` writes them."""

import types
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import StrEnum
from typing import Any, Union, get_args, get_origin, get_type_hints

Schema = dict[str, Any]

_PLAIN: dict[Any, Schema] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    type(None): {"type": "null"},
    Any: {},
}


class Schemas:
    """Makes schemas; those of dataclasses and enumerations are components, by the names of the types."""

    def __init__(self) -> None:
        self.components: dict[str, Schema] = {}

    def of(self, shape: Any) -> Schema:
        """The schema of a type; one that is given as a schema stays, with the types in it turned into schemas."""
        if isinstance(shape, Mapping):
            return {name: self._within(value) for name, value in shape.items()}
        if shape in _PLAIN:
            return dict(_PLAIN[shape])
        origin, arguments = get_origin(shape), get_args(shape)
        if origin in (Union, types.UnionType):
            return {"anyOf": [self.of(argument) for argument in arguments]}
        if origin in (tuple, list, Sequence):
            return {"type": "array", "items": self.of(arguments[0])}
        if origin in (dict, Mapping):
            return {"type": "object", "additionalProperties": self.of(arguments[1])}
        if shape.__name__ not in self.components:
            self.components[shape.__name__] = {}  # a type may hold itself
            self.components[shape.__name__] = self._component(shape)
        return {"$ref": f"#/components/schemas/{shape.__name__}"}

    def _component(self, shape: Any) -> Schema:
        told = (shape.__doc__ or "").strip().replace("\n    ", "\n")
        if issubclass(shape, StrEnum):
            return {"type": "string", "enum": [member.value for member in shape], "description": told}
        if not is_dataclass(shape):
            raise TypeError(f"{shape!r} has no JSON schema")
        hints = get_type_hints(shape)
        names = [field.name for field in fields(shape)]
        return {
            "type": "object",
            "description": told,
            "properties": {name: self.of(hints[name]) for name in names},
            "required": names,
            "additionalProperties": False,
        }

    def _within(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: self._within(inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [self._within(inner) for inner in value]
        is_type = isinstance(value, type) or get_origin(value) is not None
        return self.of(value) if is_type else value
