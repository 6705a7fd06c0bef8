"""FiftyOne's format for image classification, which `fiftyone.Dataset.from_dir` reads.

`data/` has the images, `labels.json` the classes, and for each image by the stem of its file name
the class with confidence and attributes, or null for an image in no cluster.
"""

import json
import re
from pathlib import Path

from vtcc.atomic import write_text
from vtcc.export.dataset import Dataset

LABELS, MEDIA = "labels.json", "data"
# Fields that a FiftyOne classification has already, and those that `label` and `confidence` say.
_FIELDS = ("id", "tags", "label", "confidence", "logits")
_SAID = ("name", "confidence")


def write(dataset: Dataset, out: Path) -> None:
    """Writes `labels.json`.

    Args:
        out: the folder that the images are in.
    """
    place = {k: i for i, k in enumerate(dataset.clusters)}
    labels = {
        Path(image.media).stem: None
        if image.cluster is None
        else {
            "label": place[image.cluster],
            "confidence": image.confidence,
            "attributes": _attributes({"file": image.name} | image.facts),
        }
        for image in dataset.images
    }
    content = {"classes": list(dataset.clusters.values()), "labels": labels}
    write_text(out / LABELS, json.dumps(content, ensure_ascii=False, allow_nan=False) + "\n")


def _attributes(facts: dict[str, object]) -> dict[str, object]:
    """Under names that a field may have: letters, digits and `_`, which does not begin it."""
    named: dict[str, object] = {}
    for name, value in facts.items():
        if name in _SAID:
            continue
        field = re.sub(r"\W", "_", name).lstrip("_0123456789") or "column"
        while field in _FIELDS or field in named:
            field += "_"
        named[field] = value
    return named
