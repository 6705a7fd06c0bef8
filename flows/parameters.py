"""Parameters of the deployment, described so that a server refuses wrong ones at submission.

Prefect checks a submitted run against the JSON schema of the flow's parameters. A plain
`dict` would let every key pass; this schema names each key of `params.yaml` with its type and
range, so `{"train.epoch": 2}` is refused before anything starts.
"""

import dataclasses
import typing
from typing import Annotated, Any

from pydantic import AfterValidator, WithJsonSchema

from vtcc import config
from vtcc.runner import workspace

_JSON_TYPES = {int: "integer", float: "number", bool: "boolean", str: "string"}


def overrides_schema(cls: type = config.Params, where: str = "") -> dict[str, Any]:
    """JSON schema of `{"train.epochs": 2, ...}`: every dotted key of `params.yaml`, no other."""
    properties: dict[str, Any] = {}
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        key = f"{where}.{field.name}" if where else field.name
        hint = hints[field.name]
        if dataclasses.is_dataclass(hint):
            properties |= overrides_schema(typing.cast(type, hint), key)["properties"]
        else:
            why = field.metadata["why"]
            properties[key] = {"title": key, "description": why, **_kind(hint, field.metadata)}
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _kind(hint: Any, limits: typing.Mapping[str, Any]) -> dict[str, Any]:
    if typing.get_origin(hint) is tuple:
        inner = typing.get_args(hint)
        schema = {"type": "array", "items": _kind(inner[0], limits)}
        if inner[-1] is Ellipsis:
            return schema | {"uniqueItems": True}
        return schema | {"minItems": len(inner), "maxItems": len(inner)}
    schema = {"type": _JSON_TYPES[hint]}
    if limits["choices"]:
        schema["enum"] = list(limits["choices"])
    names = (("low", "minimum"), ("high", "maximum"), ("above", "exclusiveMinimum"))
    return schema | {name: limits[k] for k, name in names if limits[k] is not None}


def _known_keys(overrides: dict[str, Any]) -> dict[str, Any]:
    known = overrides_schema()["properties"]
    for key in overrides:
        if key not in known:
            raise ValueError(f"{key}: unknown parameter")
    return overrides


def _known_preset(name: str) -> str:
    if name not in workspace.presets():
        raise ValueError(f"preset {name!r}: not found; known: {', '.join(workspace.presets())}")
    return name


Overrides = Annotated[
    dict[str, Any], AfterValidator(_known_keys), WithJsonSchema(overrides_schema())
]
Preset = Annotated[
    str,
    AfterValidator(_known_preset),
    WithJsonSchema({"type": "string", "enum": workspace.presets()}),
]
Processes = Annotated[int, WithJsonSchema({"type": "integer", "minimum": 1})]
Seed = Annotated[int, WithJsonSchema({"type": "integer", "minimum": 0, "maximum": config.MAX_SEED})]
