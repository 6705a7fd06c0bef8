"""What `dataset.source` names: a dataset card, or a folder or archive of images."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from vtcc import config
from vtcc.errors import VtccError


@dataclass(frozen=True, kw_only=True)
class Card:
    """A known dataset: one file in data/catalog.

    Attributes:
        name: of the dataset.
        loader: which function of `vtcc.data.sources` gets it.
        images: how many there are.
        classes: how many there are; null without labels.
        class_counts: class name -> images, in the order of the labels; null when unknown.
        image_size: [width, height] in pixels; null where it varies.
        channels: 1 or 3.
        licence: of the images.
        citation: of the paper or the people who made it.
        origin: where the images come from.
    """

    name: str
    loader: str
    images: int
    classes: int | None
    class_counts: dict[str, int] | None
    image_size: list[int] | None
    channels: int
    licence: str
    citation: str
    origin: str


@dataclass(frozen=True)
class Folder:
    """Images of one's own: a directory, or a zip or tar of one."""

    path: Path


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


_KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "name": (_text, "text"),
    "loader": (_text, "text"),
    "images": (_count, "a positive whole number"),
    "classes": (lambda v: v is None or _count(v), "a positive whole number or null"),
    "class_counts": (
        lambda v: (
            v is None
            or (
                isinstance(v, dict)
                and all(isinstance(k, str) for k in v)
                and all(map(_count, v.values()))
            )
        ),
        "class names (text, quoted if they are digits) with positive whole numbers, or null",
    ),
    "image_size": (
        lambda v: v is None or (isinstance(v, list) and len(v) == 2 and all(map(_count, v))),
        "[width, height] or null",
    ),
    "channels": (lambda v: v in (1, 3), "1 or 3"),
    "licence": (_text, "text"),
    "citation": (_text, "text"),
    "origin": (_text, "text"),
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
    names = [f.name for f in fields(Card)]
    for key in values:
        if key not in names:
            near = difflib.get_close_matches(str(key), names, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names)}"
            raise VtccError(f"{path}: unknown key {key!r}; {hint}")
    for name in names:
        if name not in values:
            raise VtccError(f"{path}: {name} is missing; a card has {', '.join(names)}")
        fits, allowed = _KINDS[name]
        if not fits(values[name]):
            raise VtccError(f"{path}: {name}: expected {allowed}, found {values[name]!r}")
    card = Card(**values)
    counts = card.class_counts
    if counts is not None and (sum(counts.values()), len(counts)) != (card.images, card.classes):
        raise VtccError(
            f"{path}: class_counts holds {len(counts)} classes and {sum(counts.values())} images, "
            f"but the card says {card.classes} and {card.images}"
        )
    return card


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
