"""What /openapi.json of `vtcc api` says of bodies and refusals: MLflow describes neither."""

from typing import Any

from vtcc.tracking import limits


def _json(example: Any = None, **properties: dict[str, Any]) -> dict[str, Any]:
    """An object of JSON, whose first property must be there."""
    first = next(iter(properties))
    schema = {"type": "object", "properties": properties, "required": [first]}
    return {"application/json": {"schema": schema} | ({"example": example} if example else {})}


_SHARE = {"type": "number", "minimum": 0, "maximum": 1}
_ROW = {
    "cluster": {"type": "integer", "minimum": -1},
    "name": {"type": "string"},
    "confidence": _SHARE,
    "probabilities": {"type": "array", "items": _SHARE},
}
_IMAGE = {"type": "string", "contentEncoding": "base64", "description": "An image file."}
_PIXEL = (  # a PNG
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg=="
)
_BATCH = {"type": "integer", "minimum": 1, "maximum": limits.LARGEST_BATCH}
_INVOCATIONS = {
    "requestBody": {
        "required": True,
        "content": _json(
            {"dataframe_records": [{"image": _PIXEL}]},
            dataframe_records={
                "type": "array",
                "items": {"type": "object", "properties": {"image": _IMAGE}, "required": ["image"]},
            },
            params={"type": "object", "properties": {"batch_size": _BATCH}},
        )
        | {"text/csv": {"schema": {"type": "string"}, "example": f"image\n{_PIXEL}\n"}}
        | {"image/*": {"schema": {}}},
    },
    "responses": {
        "200": {
            "content": _json(
                predictions={
                    "type": "array",
                    "items": {"type": "object", "properties": _ROW, "required": [*_ROW]},
                }
            )
        }
    },
}
_RELOAD = {"requestBody": {"content": {"application/json": {"schema": {"type": "object"}}}}}
_REFUSAL = {
    "description": "Why not, in one line.",
    "content": _json(error={"type": "string", "maxLength": limits.LONGEST}),
}
_EXTRA: dict[str, dict[str, Any]] = {"/invocations": _INVOCATIONS, "/reload": _RELOAD}


def describe(app: Any) -> None:
    """Adds to a FastAPI app's description what `limits.Limits` and the model make of its routes."""
    from fastapi.routing import APIRoute

    for route in app.routes:
        if isinstance(route, APIRoute):
            route.responses = route.responses | {"default": _REFUSAL}
            if route.path in _EXTRA:
                route.openapi_extra = _EXTRA[route.path]
