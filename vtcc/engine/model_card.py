"""The cards of a model, filled by the code: README.md (the model) and DATA.md (its images).

Both have the layout of the Hugging Face hub, so that `huggingface_hub.ModelCard` and
`DatasetCard` read them. They hold numbers and the names of clusters; no path, no name of a file
or folder.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vtcc import encoders
from vtcc.atomic import write_text

CARDS = MODEL_CARD, DATA_CARD = "README.md", "DATA.md"
JOINERS = "\u200c\u200d"  # of letters and emoji: without them a name is another one
Rows = Sequence[tuple[str, Any]]

_HUB_LICENCES = {"Apache-2.0": "apache-2.0", "MIT": "mit"}
TAGS = ["image-clustering", "unsupervised", "vtcc"]
_LISTED = 100  # clusters; more make a card that nobody reads
_USE = """\
Sorts images that are like those it was made from into the groups found there, and says how sure it
is. The groups come from what images look like; people may have renamed, merged or split them.

Not meant for decisions about people, nor where a wrong group does harm and nobody looks.

    vtcc predict MORE --model THIS_FOLDER --out more.csv
"""
_LIMITS = """\
- Groups are by appearance. They need not be the classes that you think of; look at them first.
- Every image gets a group, where no limit was asked for (`--unclustered`). One of another kind is
  flagged where `novelty` is above 1, by the distance of its embedding; most of a new kind are not.
- `confidence` is the model's own, measured without labels. It is not the share of right answers by
  somebody's classes.
- All figures are of the images the model was made from, unless a row says otherwise.
"""


def write(
    directory: Path,
    info: Mapping[str, Any],
    *,
    data: Rows = (),
    verdict: str = "",
    figures: Rows = (),
    clusters: Sequence[tuple[int, str, int]] = (),
) -> None:
    """Writes both cards into a model's directory.

    Args:
        directory: of the model. info: its `model.json`.
        data: further rows of the data card: what, number. verdict, figures, clusters: as `body`.
    """
    text = body(info, verdict=verdict, figures=figures, clusters=clusters)
    write_text(directory / MODEL_CARD, f"---\n{_model_data(info).to_yaml()}\n---\n\n{text}")
    about = _data_of(info, data)
    write_text(directory / DATA_CARD, f"---\n{_image_data(info).to_yaml()}\n---\n\n{about}")


def body(
    info: Mapping[str, Any],
    *,
    verdict: str = "",
    figures: Rows = (),
    clusters: Sequence[tuple[int, str, int]] = (),
) -> str:
    """The model card without its front matter.

    Args:
        info: the model's `model.json`.
        verdict: how far to trust the clusters, in words. figures: what, number.
        clusters: id, name, number of images of each.
    """
    dataset = info.get("dataset", {})
    train, versions = info.get("train", {}), info.get("versions", {})
    trained: Rows = [
        ("clusters", info["num_clusters"]),
        ("images", dataset.get("images")),
        ("images held out", dataset.get("held_out")),
        ("encoder", _encoder(info)),
        ("epochs", train.get("epochs")),
        ("epoch that was kept", info.get("epoch")),
        ("images per step", train.get("batch_size")),
        ("learning rate", train.get("optimizer", {}).get("learning_rate")),
        ("seed", train.get("seed")),
        ("versions", ", ".join(f"{name} {number}" for name, number in sorted(versions.items()))),
    ]
    parts = [
        f"# {_title(info)}\n",
        "## Intended use\n\n" + _USE,
        "## How it was trained\n\nBy VTCC (arXiv 2206.12925), without labels.\n\n" + table(trained),
        "## Licence\n\n" + _licence(info),
        "## How far to trust it\n\n"
        + (f"{plain(verdict)}\n\n" if verdict else "")
        + (
            table(figures)
            if figures
            else "Not measured yet where this was written: `vtcc evaluate` writes figures to "
            "reports/metrics.json, and a registered version has them in its description.\n"
        ),
        "## Limits\n\n" + _LIMITS,
    ]
    if clusters:
        shown = [(f"{k}: {plain(name)}", size) for k, name, size in clusters[:_LISTED]]
        more = len(clusters) - len(shown)
        parts.append(
            "## Clusters\n\n"
            + table(shown, head=("cluster", "images"), escaped=False)
            + (f"\n{more} more are in clusters.json.\n" if more else "")
        )
    return "\n".join(parts)


def _title(info: Mapping[str, Any]) -> str:
    images = info.get("dataset", {}).get("images")
    return f"{info['num_clusters']} clusters" + (f" of {images:,} images" if images else "")


def _model_data(info: Mapping[str, Any]) -> Any:
    from huggingface_hub import ModelCardData

    licence: dict[str, Any] = {}
    pretrained = info.get("encoder", {})
    if name := pretrained.get("licence"):
        card = _encoder_card(pretrained["name"])
        licence["license"] = _HUB_LICENCES.get(name, "other")
        if licence["license"] == "other":
            licence["license_name"] = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
        if card is not None:
            licence["base_model"] = card.hub.repo
            licence["license_link"] = card.licence_url
    return ModelCardData(
        library_name="vtcc", pipeline_tag="image-classification", tags=TAGS, **licence
    )


def _image_data(info: Mapping[str, Any]) -> Any:
    from huggingface_hub import DatasetCardData

    images = info.get("dataset", {}).get("images")
    return DatasetCardData(
        task_categories=["image-classification"],
        annotations_creators=["no-annotation"],
        tags=TAGS,
        size_categories=[size_category(images)] if images else None,
    )


def size_category(images: int) -> str:
    """The hub's word for how many there are, such as `1K<n<10K`."""
    size, low = "n<1K", "1K"
    for limit, name in ((1e3, "10K"), (1e4, "100K"), (1e5, "1M"), (1e6, "10M"), (1e7, "100M")):
        if images >= limit:
            size, low = f"{low}<n<{name}", name
    return size


def _data_of(info: Mapping[str, Any], data: Rows) -> str:
    dataset = info.get("dataset", {})
    rows: Rows = [
        ("images the model was made from", dataset.get("images")),
        ("images held out", dataset.get("held_out")),
        ("channels", info["channels"]),
        ("decoded to, pixels", f"{info['cache_size']} x {info['cache_size']}"),
        *data,
        ("SHA-256 of pixels, names and splits", dataset.get("digest")),
    ]
    return (
        f"# The images behind {_title(info)}\n\n"
        "The images themselves, their names and where they lie are not part of this card.\n\n"
        + table(rows)
        + "\nNo label was used in training. Licence, consent and origin of the images are not "
        "known to vtcc: whoever passes the model on has to answer for them.\n"
    )


def _encoder(info: Mapping[str, Any]) -> str:
    model, pretrained = info["model"], info.get("encoder")
    if pretrained:
        how = "kept as it is" if model.get("frozen") else "trained on"
        return f"{pretrained['name']} ({pretrained['timm']}), {how}"
    if info.get("imported"):
        return f"imported, SHA-256 {info['imported']['sha256']}"
    origin = "pretrained" if _from_a_file(info) else "from scratch"
    return f"{model.get('encoder', 'vit')}, {origin}"


def _from_a_file(info: Mapping[str, Any]) -> bool:
    """Whether the encoder began with a file's weights: `model` names none once it was trained."""
    begun = info.get("train", {}).get("model", {})
    return any(model.get("weights") or model.get("frozen") for model in (info["model"], begun))


def _encoder_card(name: str) -> encoders.EncoderCard | None:
    """None of one that this version no longer knows."""
    return encoders.card(name) if name in encoders.names() else None


def _licence(info: Mapping[str, Any]) -> str:
    pretrained = info.get("encoder", {})
    if name := pretrained.get("licence"):
        card = _encoder_card(pretrained["name"])
        where = f" (<{card.licence_url}>)" if card else ""
        return (
            f"The encoder {pretrained['name']} is under {name}{where}; SHA-256 of "
            f"its weights: {pretrained['digest']}. That licence holds for what is built on it.\n"
        )
    if pretrained or info.get("imported") or _from_a_file(info):
        return "Weights came from a file whose licence vtcc does not know. Ask its maker.\n"
    return "No weights of others are in it: its licence is for whoever trained it to choose.\n"


def table(rows: Rows, head: tuple[str, str] = ("what", "value"), *, escaped: bool = True) -> str:
    """Rows without those that have no value."""
    clean = plain if escaped else str
    lines = [f"| {clean(a)} | {_number(b)} |" for a, b in rows if b not in (None, "")]
    return "\n".join([f"| {head[0]} | {head[1]} |", "|---|---|", *lines]) + "\n"


def _number(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else plain(str(value))


def plain(text: str) -> str:
    """Text that Markdown and HTML show as it is; names are whatever a person typed."""
    text = "".join(c if c.isprintable() or c in JOINERS else " " for c in text)
    return re.sub(r"([\\`*_{}\[\]<>#|~&])", r"\\\1", text)
