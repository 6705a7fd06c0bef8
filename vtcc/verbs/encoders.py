"""Verb `encoders`: which pretrained encoders there are, and fetching their weights."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from vtcc import encoders
from vtcc.encoders import EncoderCard
from vtcc.progress import note


def run() -> list[dict[str, Any]]:
    """Prints all encoders as a table; returns its rows.

    Raises:
        VtccError: when a card is wrong or VTCC_WEIGHTS names no directory.
    """
    rows = [_row(encoders.card(name)) for name in encoders.names()]
    table = Table(box=None)
    for title in ("encoder", "parameters", "MB", "licence", "pixels", "weights", "good for"):
        right = title in ("parameters", "MB", "pixels")
        table.add_column(title, justify="right" if right else "left")
    for row in sorted(rows, key=lambda row: row["parameters"]):
        table.add_row(
            row["name"],
            f"{row['parameters'] / 1e6:.1f} M",
            str(row["megabytes"]),
            row["licence"],
            str(row["image_size"]),
            row["weights"] or row["get"],
            row["purpose"],
        )
    # Piped, the table would be cut to 80 columns.
    Console(width=None if Console().is_terminal else 250).print(table)
    print("use one: `train.model.encoder: NAME` with `train.normalize: encoder`")
    return rows


def fetch(name: str, *, accept_licence: Sequence[str] = ()) -> dict[str, str]:
    """Has the weights of an encoder on this machine, from the hub where they are nowhere else.

    Returns:
        `name`, `file`, `digest`, `licence`, `source`.

    Raises:
        VtccError: on an unknown name, a licence that is not accepted, or a failed download.
    """
    for accepted in accept_licence:
        encoders.card(accepted)
    resolved = encoders.resolve(name, may_download=True, accept_licence=accept_licence)
    note(f"{name}: {resolved.file} (digest {resolved.digest})")
    return {
        "name": name,
        "file": str(resolved.file),
        "digest": resolved.digest,
        "licence": resolved.card.licence,
        "source": resolved.source,
    }


def _row(card: EncoderCard) -> dict[str, Any]:
    accept = f" --accept-licence {card.name}" if card.restricted else ""
    return {
        "name": card.name,
        "purpose": card.purpose,
        "timm": card.timm,
        "parameters": card.parameters,
        "megabytes": card.megabytes,
        "licence": card.licence,
        "restricted": card.restricted,
        "image_size": card.image_size,
        "feature_dim": card.feature_dim,
        "weights": encoders.available(card),
        "get": f"vtcc encoders fetch {card.name}{accept}",
    }
