"""Parameters of the deployment, described so that a server refuses wrong ones at submission.

Prefect checks a submitted run against the JSON schema of the flow's parameters. A plain
`dict` would let every key pass; this schema names each key of `params.yaml` with its type and
range, so `{"train.epoch": 2}` is refused before anything starts.
"""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, WithJsonSchema

from vtcc import config, paths, schema
from vtcc.config import compose

# What is submitted is kept in Prefect's database, even of a run that is refused when it starts. An
# address with a user, password or key in it has one of these behind `://`.
_SECRET = {"pattern": r"://[\s\S]*[@?]"}  # `.` ends at a line break


def _known_keys(overrides: dict[str, Any]) -> dict[str, Any]:
    known = schema.json_schema(config.Params)["properties"]
    for key in overrides:
        if key not in known:
            raise ValueError(f"{key}: unknown parameter")
    return overrides


def _named(kind: str, title: str) -> Any:
    """The type of a preset's or card's name: those that the project has now."""

    def known(name: str) -> str:
        names = compose.names(kind, paths.project())
        if name not in names:
            raise ValueError(f"{title} {name!r}: not found; known: {', '.join(names)}")
        return name

    names = compose.names(kind, paths.project())
    return Annotated[str, AfterValidator(known), WithJsonSchema({"type": "string", "enum": names})]


def _text(**limits: Any) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "not": _SECRET, **limits})


def _overrides() -> dict[str, Any]:
    described = schema.json_schema(config.Params)
    for limits in described["properties"].values():
        if limits["type"] == "string" and "enum" not in limits:
            limits["not"] = _SECRET
    return described


def _whole(low: int, high: int | None = None) -> Any:
    limits = {"type": "integer", "minimum": low} | ({"maximum": high} if high is not None else {})
    return Annotated[int, WithJsonSchema(limits)]


def _tag_names(tags: dict[str, str]) -> dict[str, str]:
    for key in tags:
        if not re.fullmatch(TAG, key):
            raise ValueError(f"tag {key!r}: expected letters, digits, _ and -, at most 50")
    return tags


TAG = r"[A-Za-z0-9_-]{1,50}"  # no dot: `mlflow.` and `vtcc.` tags have meanings of their own
Overrides = Annotated[dict[str, Any], AfterValidator(_known_keys), WithJsonSchema(_overrides())]
Preset = _named("run", "preset")
Dataset = _named("dataset", "dataset")
Model = _named("model", "model preset")
Augment = _named("augment", "augmentation preset")
Encoder = _named("encoder", "encoder")
Processes = _whole(1)
Seed = _whole(0, config.MAX_SEED)
Jobs = _whole(1, 64)
Trials = _whole(1, 10_000)
BatchSize = _whole(1)
Tags = Annotated[
    dict[str, str],
    AfterValidator(_tag_names),
    WithJsonSchema(
        {
            "type": "object",
            "propertyNames": {"pattern": f"^{TAG}$"},
            "additionalProperties": {"type": "string", "not": _SECRET, "maxLength": 500},
        }
    ),
]
# Of the registry: a URI, which may name a profile of Databricks; or a name for its champion.
RegisteredModel = Annotated[
    str,
    _text(
        pattern=r"^(models:/|runs:/)?[^\s]+$",
        minLength=1,
        maxLength=500,
        **{"not": {"pattern": f"^(?!models:|runs:).*{_SECRET['pattern']}"}},
    ),
]
Version = _whole(1)
Alias = Annotated[str, _text(pattern=r"^[A-Za-z0-9_-]+$")]
Folder = Annotated[str, _text(minLength=1)]
YamlFile = Annotated[str, _text(pattern=r"\.ya?ml$")]
TableFile = Annotated[str, _text(pattern=r"\.(csv|parquet|json)$")]
SettingNames = list[Annotated[str, _text()]]
Group = Annotated[str, _text(pattern=r"^[A-Za-z0-9_-]{1,50}$")]
Seeds = Annotated[str, _text(pattern=r"^\s*\d+(-\d+)?(\s*,\s*\d+(-\d+)?)*\s*$")]
