"""What `vtcc datasets` shows: the known datasets, how each is got, and what is here already."""

import dataclasses
import difflib
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from vtcc import config, json_file, paths, yaml_file
from vtcc.data import catalog, mirror
from vtcc.data.catalog import Card
from vtcc.errors import VtccError

CATALOG = Path("data/catalog")


def run(name: str | None = None) -> Any:
    """Prints all cards as a table, or one in full; returns what they say.

    Args:
        name: of a dataset; compared without case, hyphens and underscores. None for all.

    Raises:
        VtccError: when there is no such dataset, no catalogue here, or a card is wrong.
    """
    cards = _cards()
    if name is None:
        rows = [_row(card) for card in cards]
        _table(rows)
        return rows
    card = _named(cards, name)
    full = dataclasses.asdict(card) | {"obtained": card.obtained, "present": _present(card)}
    print(f"{yaml_file.dump(full)}# use it: vtcc use folder --dataset {card.name}")
    return full


def _cards() -> list[Card]:
    files = sorted(CATALOG.glob("*.yaml"))
    if not files:
        raise VtccError(
            f"{CATALOG.resolve()} holds no dataset card; run this in a clone of vtcc: the cards "
            "are not in the installed package"
        )
    return [catalog.load_card(file) for file in files]


def _named(cards: list[Card], name: str) -> Card:
    known = {catalog.plain(card.name): card for card in cards}
    if card := known.get(catalog.plain(name)):
        return card
    near = difflib.get_close_matches(catalog.plain(name), known, n=1)
    hint = f"did you mean {known[near[0]].name!r}?" if near else "see `vtcc datasets`"
    raise VtccError(f"no dataset {name!r} in {CATALOG}; {hint}")


def _row(card: Card) -> dict[str, Any]:
    return {
        "name": card.name,
        "images": card.images,
        "classes": card.classes,
        "image_size": card.image_size,
        "channels": card.channels,
        "licence": card.licence,
        "obtained": card.obtained,
        "augment": card.augment,
        "present": _present(card),
    }


def _present(card: Card) -> list[str]:
    """Where the dataset is on this machine; a mirror on the web is not asked."""
    here = []
    place = _mirror()
    if isinstance(place, Path) and (held := mirror.look(card, place)):
        here.append(f"mirror: {held.place}")
    if (held := mirror.look_everywhere(card, None)) is not None:
        here.append(str(held.place))
    if _in_raw(card):
        here.append(str(paths.MANIFEST.parent))
    return here


def _mirror() -> Path | str | None:
    try:
        return mirror.configured(config.load().download.mirror if paths.PARAMS.is_file() else "")
    except VtccError:
        return None  # it is for the stages to say what is wrong with params.yaml


def _in_raw(card: Card) -> bool:
    try:
        dataset = json_file.parsed(paths.DATASET)
        return bool(Path(dataset["source"]).name == f"{card.name}.yaml")
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _table(rows: list[dict[str, Any]]) -> None:
    table = Table(box=None)
    for title in ("dataset", "images", "classes", "pixels", "C", "got by", "augment", "here"):
        table.add_column(title, justify="right" if title in ("images", "classes") else "left")
    table.add_column("licence")
    for row in rows:
        size = row["image_size"]
        table.add_row(
            row["name"],
            f"{row['images']:,}",
            str(row["classes"] or "?"),
            f"{size[0]} x {size[1]}" if size else "varied",
            str(row["channels"]),
            row["obtained"],
            row["augment"],
            "yes" if row["present"] or row["obtained"] == "ships" else "-",
            row["licence"],
        )
    # Piped, the table would be cut to 80 columns.
    Console(width=None if Console().is_terminal else 160).print(table)
    if isinstance(_mirror(), str):
        print("(the mirror is on the web and was not asked)")
    print("`vtcc datasets NAME` says where it comes from and how to get it")
