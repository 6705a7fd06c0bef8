"""The one reader and writer of YAML: what it reads from a file, DVC reads from it too.

DVC reads by YAML 1.2 (ruamel.yaml), PyYAML by 1.1, where `042` is 34, `no` is false and `1e-05`
is text. A training node has PyYAML alone, so its resolvers are replaced by those of 1.2; the
tests compare with ruamel.yaml.
"""

import copy
import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from vtcc.errors import VtccError
from vtcc.regular import regular

_TAG = "tag:yaml.org,2002:"
# As ruamel.yaml has them for YAML 1.2: tag, pattern, first characters.
_RESOLVERS = (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    (
        "float",
        r"[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+"
        r"|[-+]?\.[0-9_]+(?:[eE][-+][0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+0123456789.",
    ),
    ("int", r"[-+]?(?:0b[01_]+|0o[0-7_]+|0x[0-9a-fA-F_]+|[0-9_]+)", "-+0123456789"),
    ("null", r"~|null|Null|NULL|", ("~", "n", "N", "")),
)
_CHANGED = {_TAG + name for name, _, _ in _RESOLVERS}

LONGEST_NUMBER = 100  # digits; no parameter has 20
MOST_VALUES = 100_000  # in a text, those that aliases repeat counted each time


class _Loader(yaml.SafeLoader):
    """YAML 1.2's plain values, and an error for a key written twice, of which one would win."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Says where a value stands that is none, such as the date 9999-99-99."""
        try:
            return super().construct_object(node, deep)
        except (ValueError, TypeError, OverflowError) as error:
            what = f"{node.value!r:.40}: {error}" if isinstance(node.value, str) else str(error)
            raise yaml.constructor.ConstructorError(None, None, what, node.start_mark) from None


class _Dumper(yaml.SafeDumper):
    """Quotes texts that are something else by YAML 1.1 or by 1.2."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _CHANGED]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _name, _pattern, _first in _RESOLVERS:
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(_TAG + _name, re.compile(f"^(?:{_pattern})$"), list(_first))


def _integer(loader: _Loader, node: yaml.ScalarNode) -> int:
    digits = loader.construct_scalar(node).replace("_", "").lower()
    if len(digits) > LONGEST_NUMBER:
        raise ValueError(f"a number of {len(digits)} digits; allowed: {LONGEST_NUMBER}")
    sign, digits = (-1 if digits.startswith("-") else 1), digits.lstrip("+-")
    base = {"0b": 2, "0o": 8, "0x": 16}.get(digits[:2])
    return sign * (int(digits[2:], base) if base else int(digits))


def _unique_mapping(loader: _Loader, node: yaml.MappingNode) -> dict:
    seen = set()
    for key in [loader.construct_object(k) for k, _ in node.value if k.tag != _TAG + "merge"]:
        if key in seen:
            raise yaml.YAMLError(f"key {key!r:.40} is written twice{node.start_mark}")
        seen.add(key)
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


_Loader.add_constructor(_TAG + "int", _integer)
_Loader.add_constructor(_TAG + "map", _unique_mapping)


def parse(text: str) -> Any:
    """The plain values in a text.

    Raises:
        yaml.YAMLError: when it is not YAML, or holds more than MOST_VALUES values.
    """
    return copy.deepcopy(_parsed(text))


@functools.lru_cache(maxsize=64)  # a study reads the same parameters again for each of its runs
def _parsed(text: str) -> Any:
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _count(node, {})
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except RecursionError:
        raise yaml.YAMLError("nested too deeply") from None
    except (ValueError, TypeError) as error:  # a list as key
        raise yaml.YAMLError(str(error)) from None


def _count(node: yaml.Node, counts: dict[int, int]) -> int:
    """How many values a node holds, what aliases stand for counted wherever it stands.

    Some lines of aliases of aliases would else take all memory once they are merged or printed.
    """
    if id(node) in counts:
        if not counts[id(node)]:
            where = f"line {node.start_mark.line + 1}"
            raise yaml.YAMLError(f"{where}: an alias inside of what it stands for")
        return counts[id(node)]
    counts[id(node)] = 0  # until it is counted
    count = 1
    if isinstance(node, yaml.CollectionNode):
        for entry in node.value:
            for inner in entry if isinstance(entry, tuple) else (entry,):
                count += _count(inner, counts)
    if count > MOST_VALUES:
        raise yaml.YAMLError(f"more than {MOST_VALUES} values, with those that aliases repeat")
    counts[id(node)] = count
    return count


def read(path: Path) -> Any:
    """Parses a file.

    Raises:
        VtccError: when the file is missing, cannot be read or is not YAML.
    """
    try:
        return parse(regular(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise VtccError(
            f"{path}: no such file in {Path.cwd()}; run `vtcc use digits` in a clone of "
            "vtcc to write one, or change to the project's directory"
        ) from None
    except OSError as error:
        raise VtccError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise VtccError(f"{path}: not valid YAML: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    """What is complained about and where, without PyYAML's picture of the line."""
    if isinstance(error, UnicodeDecodeError):
        line = error.object.count(b"\n", 0, error.start) + 1
        return (
            f"line {line} is not UTF-8; save it as UTF-8, and for a path that is not, make a link "
            "with a plain name"
        )
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return " ".join(str(error).split())
    problem = getattr(error, "problem", None) or "cannot be read"
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}"


def dump(values: Any) -> str:
    """Nested plain values as text that every reader of YAML reads back as the same."""
    return _written(values, width=100)


def _written(values: Any, **how: Any) -> str:
    """Text as it is where that reads back as the same, else escaped."""

    def written(readable: bool) -> str:
        return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=readable, **how)

    return written(True) if parse(written(True)) == values else written(False)


def replace(text: str, values: Mapping[str, Any], changed: Any) -> str:
    """A text with some values replaced, comments and layout kept.

    Args:
        text: of a mapping. values: dotted keys, which the text has, and what to put there.
        changed: all the values it then has, written anew where a replaced one has no place of its
            own (anchors and merge keys stand for several).
    """
    events = yaml.parse(text, _Loader) if "*" in text else ()
    if any(isinstance(event, yaml.AliasEvent) for event in events):
        return dump(changed)
    spans = {}
    root: Any = yaml.compose(text, _Loader)
    for key, value in values.items():
        node = root
        for part in key.split("."):
            node = next((v for k, v in node.value if k.value == part), None)
            if node is None:
                return dump(changed)
        plain = list(value) if isinstance(value, tuple) else value
        line = _written(plain, default_flow_style=True, width=10**6)
        spans[node.start_mark.index, node.end_mark.index] = line.removesuffix("...\n").rstrip("\n")
    for (start, end), written in sorted(spans.items(), reverse=True):
        text = text[:start] + written + text[end:]
    return text


def assignments(texts: list[str]) -> dict[str, Any]:
    """`["train.epochs=2"]` -> `{"train.epochs": 2}`, values read as YAML.

    Raises:
        VtccError: on an assignment without a key or an equals sign, a key that comes twice, or
            a value that is not YAML or that no YAML can hold.
    """
    parsed: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        key = key.strip()
        if not equals or not key:
            raise VtccError(f"--set {text}: expected KEY=VALUE, as in train.epochs=2")
        if key in parsed:
            raise VtccError(f"--set {key}: given twice")
        try:
            parsed[key] = parse(value) if value else ""
        except yaml.reader.ReaderError:
            raise VtccError(
                f"--set {key}: {value!r} has a control character or a byte that is not UTF-8, "
                "which params.yaml cannot hold; of a path, rename it, or make a link to it with a "
                "plain name"
            ) from None
        except yaml.YAMLError:
            raise VtccError(f"--set {text}: {value!r} is not a YAML value") from None
    return parsed
