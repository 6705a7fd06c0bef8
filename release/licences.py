"""The licences of all that an installation brings, held against a policy."""

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vtcc import schema, yaml_file
from vtcc.errors import VtccError

POLICY = Path(__file__).with_name("licences.yaml")


@dataclass(frozen=True, kw_only=True)
class Exemption:
    """Packages that may be brought although their licence is not allowed in general.

    Attributes:
        packages: their names, as the index spells them in small letters.
        licence: that they have; another one is refused again. reason: why it may be.
    """

    packages: list[str]
    licence: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What may be brought.

    Attributes:
        allowed: SPDX identifiers. words: classifier -> SPDX identifier.
        stated: package -> SPDX expression, looked up by hand in what it ships.
        exceptions: packages beside `allowed`.
    """

    allowed: list[str]
    words: dict[str, str]
    stated: dict[str, str]
    exceptions: list[Exemption]


@dataclass(frozen=True)
class Row:
    """One package.

    Attributes:
        size: the smallest installation that brings it.
        declared: what its metadata say. licence: an SPDX expression, empty where none is known.
        ruling: `allowed`, the reason of an exception, or `refused`.
    """

    package: str
    version: str
    size: str
    declared: str
    licence: str
    ruling: str


def read(file: Path) -> Policy:
    """The policy in a file.

    Raises:
        VtccError: naming what is wrong with it.
    """
    return schema.build(Policy, yaml_file.read(file), file=file.name)


def table(bills: Mapping[str, Any], policy: Policy) -> list[Row]:
    """A row per package, by name.

    Args:
        bills: size -> CycloneDX document, each with all of the one before it.
    """
    rows: dict[str, Row] = {}
    for size, bill in bills.items():
        for component in bill["components"]:
            name = component["name"].lower().replace("_", "-").replace(".", "-")
            if name not in rows and name != "vtcc":
                rows[name] = _row(name, size, component, policy)
    return [rows[name] for name in sorted(rows)]


def check(rows: Iterable[Row]) -> None:
    """Refuses what the policy refuses.

    Raises:
        VtccError: with a line for each such package.
    """
    refused = [
        f"{row.package} {row.version}: licence {row.licence or row.declared or 'unknown'} is not "
        f"allowed; look at it, then add it to {POLICY.parent.name}/{POLICY.name} with a reason, "
        "or do without the package"
        for row in rows
        if row.ruling == "refused"
    ]
    if refused:
        raise VtccError("\n".join(refused))


def unused(rows: Iterable[Row], policy: Policy) -> list[str]:
    """What the policy says of packages that nothing brings here, in lines."""
    brought = {row.package for row in rows}
    named = {name for exemption in policy.exceptions for name in exemption.packages}
    return [
        f"{POLICY.name} speaks of {name}, which was not installed"
        for name in sorted((named | policy.stated.keys()) - brought)
    ]


def write(rows: Iterable[Row], file: Path) -> None:
    """As CSV, for people and spreadsheets."""
    names = list(Row.__dataclass_fields__)
    with file.open("w", encoding="utf-8", newline="") as target:
        lines = csv.writer(target, lineterminator="\n")
        lines.writerow(names)
        lines.writerows([getattr(row, name) for name in names] for row in rows)


def permitted(expression: str, allowed: Iterable[str]) -> bool:
    """Whether one may choose so that all that an SPDX expression asks for is allowed."""
    from license_expression import Licensing

    licensing, known = Licensing(), set(allowed)

    def holds(part: Any) -> bool:
        if isinstance(part, licensing.AND):
            return all(map(holds, part.args))
        if isinstance(part, licensing.OR):
            return any(map(holds, part.args))
        return part.render() in known

    tree = licensing.parse(expression)
    return tree is not None and holds(tree)


def _row(name: str, size: str, component: Mapping[str, Any], policy: Policy) -> Row:
    known, words = [], []
    for entry in component.get("licenses", []):
        licence = entry.get("license", {})
        if identifier := entry.get("expression") or licence.get("id"):
            known.append(identifier)
        else:
            words.append(licence["name"].strip())
    declared = "; ".join([*known, *words])
    # Classifiers say the same as an identifier beside them, with fewer words.
    spdx = known or [policy.words.get(word, word) for word in words]
    parts = list(dict.fromkeys(spdx))
    if len(parts) > 1:
        parts = [f"({part})" if " " in part else part for part in parts]
    licence = policy.stated.get(name) or " AND ".join(parts)
    return Row(
        name, component.get("version", ""), size, declared, licence, _ruling(name, licence, policy)
    )


def _ruling(name: str, licence: str, policy: Policy) -> str:
    from license_expression import ExpressionError

    try:
        if permitted(licence, policy.allowed):
            return "allowed"
    except ExpressionError:  # words that are no expression
        pass
    for exemption in policy.exceptions:
        if name in exemption.packages and licence == exemption.licence:
            return exemption.reason
    return "refused"
