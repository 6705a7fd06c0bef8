"""What `dataset.source` names: a dataset card, or a folder or archive of images."""

import difflib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vtcc import config, schema
from vtcc.errors import VtccError
from vtcc.schema import parameter

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


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_class_counts(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and all(isinstance(k, str) for k in value)
        and all(v is None or _is_count(v) for v in value.values())
    )


def _is_severity(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and sorted(value) == sorted(CHECKS)
        and set(value.values()) <= {"fail", "warn"}
    )


def _text(words: str = "text") -> Any:
    return parameter(fits=_is_text, words=words)


def _count(words: str) -> Any:
    return parameter(fits=_is_count, words=words)


def _hex(digits: int) -> Any:
    return parameter(
        fits=lambda v: bool(re.fullmatch(f"[0-9a-f]{{{digits}}}", str(v))),
        words=f"{digits} lower-case hex digits in quotes, or null",
    )


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

    part: str = _text()
    url: str = parameter(
        fits=lambda v: _is_text(v) and v.startswith(("http://", "https://")),
        words="an http(s) URL",
    )
    file: str = parameter(
        fits=lambda v: _is_text(v) and Path(v).name == v, words="a file name without folders"
    )
    bytes: int | None = _count("a positive whole number or null")
    sha256: str | None = _hex(64)
    md5: str | None = _hex(32)
    fact_from: str = _text()


@dataclass(frozen=True, kw_only=True)
class Expectations:
    """What the images must be like.

    Attributes:
        severity: check (see CHECKS) -> `fail` or `warn` when it is not met.
        known: facts about the published files, such as `exact_duplicates`; null when not known.
    """

    severity: dict[str, str] = parameter(
        fits=_is_severity, words=f"fail or warn for each of {', '.join(CHECKS)}"
    )
    known: dict[str, Any] = parameter(
        fits=lambda v: isinstance(v, dict) and "exact_duplicates" in v,
        words="facts, exact_duplicates among them (a number or null)",
    )


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

    name: str = _text()
    title: str = _text()
    loader: str = _text()
    images: int = _count("a positive whole number")
    classes: int | None = _count("a positive whole number or null")
    class_counts: dict[str, int | None] | None = parameter(
        fits=_is_class_counts,
        words="class names (text, quoted if they are digits) with positive whole numbers or "
        "null, or null without names",
    )
    image_size: list[int] | None = parameter(
        fits=lambda v: isinstance(v, list) and len(v) == 2 and all(map(_is_count, v)),
        words="[width, height] or null",
    )
    size_exceptions: int | None = parameter(
        fits=lambda v: v == 0 or _is_count(v), words="a whole number or null"
    )
    channels: int = parameter(fits=lambda v: v in (1, 3), words="1 or 3")
    modes: list[str] | None = parameter(
        fits=lambda v: isinstance(v, list) and bool(v) and all(map(_is_text, v)),
        words="a list of Pillow modes such as [RGB, L], or null",
    )
    licence: str = _text()
    citation: str = _text()
    origin: str = _text()
    sources: list[Source] = parameter(
        fits=lambda v: isinstance(v, list), words="a list of files, [] for none"
    )
    manual: str | None = _text("text or null")
    layout: str = _text()
    augment: str = parameter(fits=lambda v: v in AUGMENTS, words=" | ".join(AUGMENTS))
    expectations: Expectations

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


def load_card(path: Path | str) -> Card:
    """Reads and checks a card.

    Raises:
        VtccError: when it is missing, is not YAML, has a key too many or too few, a value of
            the wrong kind, or counts that contradict each other.
    """
    path = Path(path)
    if not path.exists():
        raise VtccError(f"dataset.source: no dataset card {path}{_nearest_card(path)}")
    values = config.read_yaml(path)
    try:
        card: Card = schema.build(Card, values)
    except VtccError as error:
        raise VtccError(f"{path}: {error}") from None
    _check_counts(path, card)
    return card


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
