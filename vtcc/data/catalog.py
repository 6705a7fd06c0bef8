"""What `dataset.source` names: a dataset card, or a folder or archive of images."""

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from vtcc import config
from vtcc.errors import VtccError

CHECKS = (
    "count",
    "classes",
    "size",
    "mode",
    "exact_duplicates",
    "near_duplicates",
    "unreadable",
)
AUGMENTS = ("paper", "natural", "aerial", "texture", "glyphs", "medical")


@dataclass(frozen=True, kw_only=True)
class Source:
    """One file that the makers of a dataset, or those who keep a copy for them, serve.

    Attributes:
        part: what it holds; sources with the same part are alternatives, tried in order.
        url: where it is, http or https.
        file: what it is called on disk.
        bytes: its size; null when not known.
        sha256: its checksum in hex; null when not known.
        md5: likewise; for files whose makers or mirrors publish nothing better.
        fact_from: where url, size and checksum were learnt.
    """

    part: str
    url: str
    file: str
    bytes: int | None
    sha256: str | None
    md5: str | None
    fact_from: str


@dataclass(frozen=True, kw_only=True)
class Expectations:
    """What the images must be like.

    Attributes:
        severity: check (see CHECKS) -> `fail` or `warn` when it is not met.
        known: facts about the published files, such as `exact_duplicates`; null when not known.
    """

    severity: dict[str, str]
    known: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Card:
    """A known dataset: one file in data/catalog.

    Attributes:
        name: of the dataset, and of its archive or folder in a mirror.
        title: what people call it.
        loader: which function of `vtcc.data.sources` gets it.
        images: how many there are.
        classes: how many there are; null without labels.
        class_counts: class name -> images, in the order of the labels, or null for a class whose
            count is not known; null when the names are not known.
        image_size: [width, height] in pixels; null where it varies or is not known.
        size_exceptions: how many images are known to have another size; null for none.
        channels: 1 or 3, what the pipeline decodes them to.
        modes: Pillow's words for the colours of the files; null where they vary or are not known.
        licence: of the images.
        citation: of the paper or the people who made it.
        origin: where the images come from.
        sources: files to download; empty when a human must fetch them, or none are needed.
        manual: what a human must fetch, and where to put it; null when not needed.
        layout: how the upstream files are arranged, in words.
        augment: the augmentation preset that suits them.
        expectations: checks and known facts.
    """

    name: str
    title: str
    loader: str
    images: int
    classes: int | None
    class_counts: dict[str, int | None] | None
    image_size: list[int] | None
    size_exceptions: int | None
    channels: int
    modes: list[str] | None
    licence: str
    citation: str
    origin: str
    sources: list[Source]
    manual: str | None
    layout: str
    augment: str
    expectations: Expectations = field(repr=False)

    @property
    def obtained(self) -> str:
        """How it is got: `ships`, `download` or `by hand`."""
        if self.sources:
            return "download"
        return "by hand" if self.manual else "ships"


@dataclass(frozen=True)
class Folder:
    """Images of one's own: a directory, or a zip or tar of one."""

    path: Path


def plain(name: str) -> str:
    """A name without what people write differently: case, spaces, hyphens, underscores, signs."""
    return re.sub(r"[\W_]+", "", name).casefold()


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _or_null(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or fits(value)


def _class_counts(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and all(isinstance(k, str) for k in value)
        and all(map(_or_null(_count), value.values()))
    )


def _hex(digits: int) -> Callable[[Any], bool]:
    return lambda v: v is None or bool(re.fullmatch(f"[0-9a-f]{{{digits}}}", str(v)))


def _severity(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and sorted(value) == sorted(CHECKS)
        and set(value.values()) <= {"fail", "warn"}
    )


_Kinds = dict[str, tuple[Callable[[Any], bool], str]]
_KINDS: _Kinds = {
    "name": (_text, "text"),
    "title": (_text, "text"),
    "loader": (_text, "text"),
    "images": (_count, "a positive whole number"),
    "classes": (_or_null(_count), "a positive whole number or null"),
    "class_counts": (
        _or_null(_class_counts),
        "class names (text, quoted if they are digits) with positive whole numbers or null, or "
        "null without names",
    ),
    "image_size": (
        lambda v: v is None or (isinstance(v, list) and len(v) == 2 and all(map(_count, v))),
        "[width, height] or null",
    ),
    "size_exceptions": (lambda v: v in (None, 0) or _count(v), "a whole number or null"),
    "channels": (lambda v: v in (1, 3), "1 or 3"),
    "modes": (
        lambda v: v is None or (isinstance(v, list) and bool(v) and all(map(_text, v))),
        "a list of Pillow modes such as [RGB, L], or null",
    ),
    "licence": (_text, "text"),
    "citation": (_text, "text"),
    "origin": (_text, "text"),
    "sources": (lambda v: isinstance(v, list), "a list of files, [] for none"),
    "manual": (_or_null(_text), "text or null"),
    "layout": (_text, "text"),
    "augment": (lambda v: v in AUGMENTS, " | ".join(AUGMENTS)),
    "expectations": (lambda v: isinstance(v, dict), "severity and known"),
}
_SOURCE_KINDS: _Kinds = {
    "part": (_text, "text"),
    "url": (lambda v: _text(v) and v.startswith(("http://", "https://")), "an http(s) URL"),
    "file": (lambda v: _text(v) and Path(v).name == v, "a file name without folders"),
    "bytes": (_or_null(_count), "a positive whole number or null"),
    "sha256": (_hex(64), "64 lower-case hex digits in quotes, or null"),
    "md5": (_hex(32), "32 lower-case hex digits in quotes, or null"),
    "fact_from": (_text, "text"),
}
_EXPECTATION_KINDS: _Kinds = {
    "severity": (_severity, f"fail or warn for each of {', '.join(CHECKS)}"),
    "known": (
        lambda v: isinstance(v, dict) and "exact_duplicates" in v,
        "facts, exact_duplicates among them (a number or null)",
    ),
}


def load_card(path: Path | str) -> Card:
    """Reads and checks a card.

    Raises:
        VtccError: when it is missing, is not YAML, has a key too many or too few, a value of
            the wrong kind, or counts that contradict each other.
    """
    path = Path(path)
    if not path.is_file():
        raise VtccError(f"dataset.source: no dataset card {path}{_nearest_card(path)}")
    values = config.read_yaml(path)
    if not isinstance(values, dict):
        raise VtccError(f"{path}: expected keys and values, found {values!r}")
    _check_keys(path, "", values, [f.name for f in fields(Card)], _KINDS)
    sources = []
    for i, value in enumerate(values["sources"]):
        _check_keys(path, f"sources[{i}].", value, list(_SOURCE_KINDS), _SOURCE_KINDS)
        sources.append(Source(**value))
    expected = values["expectations"]
    _check_keys(path, "expectations.", expected, list(_EXPECTATION_KINDS), _EXPECTATION_KINDS)
    card = Card(**values | {"sources": sources, "expectations": Expectations(**expected)})
    _check_counts(path, card)
    return card


def _check_keys(path: Path, inside: str, values: Any, names: list[str], kinds: _Kinds) -> None:
    if not isinstance(values, dict):
        raise VtccError(f"{path}: {inside[:-1]}: expected keys and values, found {values!r}")
    for key in values:
        if key not in names:
            near = difflib.get_close_matches(str(key), names, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names)}"
            raise VtccError(f"{path}: unknown key {inside + str(key)!r}; {hint}")
    for name in names:
        if name not in values:
            what = "a card" if not inside else inside[:-1]
            raise VtccError(f"{path}: {inside}{name} is missing; {what} has {', '.join(names)}")
        fits, allowed = kinds[name]
        if not fits(values[name]):
            raise VtccError(f"{path}: {inside}{name}: expected {allowed}, found {values[name]!r}")


def _check_counts(path: Path, card: Card) -> None:
    counts = card.class_counts
    if counts is None:
        return
    known = [count for count in counts.values() if count is not None]
    total = sum(known)
    # Where a count is not known, the others can only be too many.
    wrong = total != card.images if len(known) == len(counts) else total >= card.images
    if wrong or len(counts) != card.classes:
        raise VtccError(
            f"{path}: class_counts holds {len(counts)} classes and {total} images, "
            f"but the card says {card.classes} and {card.images}"
        )
    twice = len({plain(name) for name in counts}) < len(counts)
    if twice:
        raise VtccError(
            f"{path}: class_counts: two class names differ in case or signs only; rename one"
        )


def resolve(source: str) -> Card | Folder:
    """Finds out what `dataset.source` names.

    Args:
        source: path of a card (`*.yaml`), a directory, or a zip or tar archive.

    Raises:
        VtccError: when nothing is there.
    """
    path = Path(source)
    if path.suffix.lower() in (".yaml", ".yml"):
        return load_card(path)
    if path.exists():
        return Folder(path)
    hint = "; write the path in full, '~' is not expanded" if source.startswith("~") else ""
    raise VtccError(
        f"dataset.source: {source!r} does not exist in {Path.cwd()}; give a dataset card "
        f"(data/catalog/*.yaml), a folder of images, or a zip or tar of one{hint}"
    )


def _nearest_card(path: Path) -> str:
    known = sorted(p.stem for p in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.stem, known, n=1)
    if near:
        return f"; did you mean {path.with_name(near[0] + '.yaml')}?"
    return f"; {path.parent} has {', '.join(known)}" if known else ""
