"""`params.yaml`, typed and frozen: its sections, how they are read, replaced and written.

A missing key is an error, as is an unknown one; a key that came later has a default, which is
what was done before, and may lack. Each field carries its reason (`vtcc params --explain`) and
what values it takes (`vtcc.schema`).
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from vtcc import schema, yaml_file
from vtcc.config.params import Augment as Augment
from vtcc.config.params import Evaluate as Evaluate
from vtcc.config.params import Model as Model
from vtcc.config.params import Optimizer as Optimizer
from vtcc.config.params import Params as Params
from vtcc.config.params import Positives as Positives
from vtcc.config.params import Train as Train
from vtcc.errors import VtccError, shown
from vtcc.schema import MAX_SEED as MAX_SEED
from vtcc.schema import explain as explain

T = TypeVar("T")

PARAMS_FILE = "params.yaml"
PRESETS = Path(__file__).parents[1] / "presets"

read_yaml = yaml_file.read
parse_assignments = yaml_file.assignments


def from_dict(cls: type[T], values: Any, where: str = "") -> T:
    """Builds a section from nested dicts.

    Raises:
        VtccError: on an unknown, missing or ill-typed key or a value out of range; the
            message names the key, the value and what is allowed.
    """
    return schema.build(cls, values, where, noun="parameter", file=PARAMS_FILE)


def load(path: Path | str = PARAMS_FILE) -> Params:
    """Reads and checks a params file."""
    params: Params = from_dict(Params, read_yaml(Path(path)))
    return params


def to_dict(params: Any) -> dict:
    """The plain nested dict of a params dataclass, tuples as lists, ready for YAML or JSON."""
    plain: dict = _plain(dataclasses.asdict(params))
    return plain


def _plain(value: Any) -> Any:
    """A copy of nested values, tuples as lists."""
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, tuple | list) else value


def flatten(values: dict, where: str = "") -> dict[str, Any]:
    """`{"train": {"seed": 0}}` -> `{"train.seed": 0}`."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= flatten(value, schema.join(where, key))
        else:
            flat[schema.join(where, key)] = value
    return flat


def override(values: dict, overrides: Mapping[str, Any]) -> dict:
    """A copy of a params dict with dotted keys replaced, checked as a whole and completed.

    Args:
        values: nested params; what has a default may lack.
        overrides: `{"train.epochs": 2}`.

    Raises:
        VtccError: on an unknown key or a value that is not allowed.
    """
    known = {key: hint for key, hint, _ in schema.leaves(Params)}
    changed: dict = _plain(values)
    for key, value in overrides.items():
        if key not in known:
            raise _no_such(key, known)
        *sections, name = key.split(".")
        at: Any = changed
        for section in sections:
            at = at.get(section) if isinstance(at, dict) else None
        if isinstance(at, dict):  # else the check below says what lacks
            at[name] = _plain(value)
    return _with_defaults(changed, to_dict(from_dict(Params, changed)))


def _with_defaults(values: dict, complete: dict) -> dict:
    """Values in the order of `complete`, which says what lacks."""
    return {
        key: _with_defaults(values[key], default)
        if isinstance(default, dict)
        else values.get(key, default)
        for key, default in complete.items()
    }


def check(key: str, value: Any) -> None:
    """Checks a value for a dotted key by itself: type, range, choices.

    Raises:
        VtccError: as `from_dict`, or when there is no such key, with the nearest.
    """
    known = {name: (hint, limits) for name, hint, limits in schema.leaves(Params)}
    if key not in known:
        raise _no_such(key, known)
    schema.value(known[key][0], value, known[key][1], key)


def _no_such(key: str, known: Mapping[str, Any]) -> VtccError:
    hint = schema.nearest(key, known, "see `vtcc params --explain`")
    return VtccError(f"{shown(key)}: unknown parameter; {hint}")


def edit(text: str, overrides: Mapping[str, Any]) -> str:
    """The text of a params file with some values replaced, comments and layout kept.

    Args:
        text: a params file. overrides: dotted keys and their values.

    Raises:
        VtccError: as `override`.
    """
    changed = override(yaml_file.parse(text), overrides)
    return yaml_file.replace(text, overrides, changed)


def unknown(what: str, name: object, known: list[str]) -> str:
    """The message for a name that is not there, with the nearest that is."""
    hint = schema.nearest(name, known, "there are")
    return f"{what} {name!r:.200}: unknown; {hint} ({', '.join(known) or 'none'})"


def fit_dataset_name(text: str) -> str:
    """The nearest to any text that `dataset.name` takes; where the name is derived, not given."""
    plain = "".join(c if c.isprintable() and c not in "/\\:" else "-" for c in text)
    return plain[:100].strip(" .") or "images"
