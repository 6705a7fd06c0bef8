"""Hugging Face's imagefolder: images, a table of what is known of them, and a data card.

The table is `metadata.parquet`: in `metadata.jsonl` types are guessed from the first rows, so that
dates become numbers and a column that begins empty cannot be read. `label` is a class of the
cluster's name, by the features that the table's schema holds.
"""

import json
from pathlib import Path
from typing import Any

from vtcc.atomic import write_text
from vtcc.engine import model_card
from vtcc.export.dataset import Dataset
from vtcc.progress import several
from vtcc.version import __version__

METADATA, CARD, MEDIA = "metadata.parquet", "README.md", "images"


def write(dataset: Dataset, out: Path) -> None:
    """Writes table and card.

    Args:
        out: the folder that the images are in.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = dataset.table()
    for name in table.column_names:  # which would be read as names of files
        if name.endswith(("_file_name", "_file_names")):
            free = f"{name}_"
            while free in table.column_names:
                free += "_"
            table = table.rename_columns({name: free})
    place = {k: i for i, k in enumerate(dataset.clusters)}
    labels = [None if image.cluster is None else place[image.cluster] for image in dataset.images]
    files = [f"{MEDIA}/{image.media}" for image in dataset.images]
    table = table.add_column(0, "label", pa.array(labels, pa.int64()))
    table = table.add_column(0, "file_name", pa.array(files, pa.string()))
    features: dict[str, Any] = {
        field.name: {"dtype": _dtype(field.type), "_type": "Value"} for field in table.schema
    }
    features["label"] = {"names": list(dataset.clusters.values()), "_type": "ClassLabel"}
    said = json.dumps({"info": {"features": features}})
    with (out / METADATA).open("wb") as file:
        pq.write_table(table.replace_schema_metadata({"huggingface": said}), file)
    write_text(out / CARD, _card(dataset, table.column_names))


def _dtype(kind: Any) -> str:
    return {"double": "float64", "float": "float32"}.get(str(kind), str(kind))


def _card(dataset: Dataset, columns: list[str]) -> str:
    from huggingface_hub import DatasetCardData

    N = len(dataset.images)
    front = DatasetCardData(
        task_categories=["image-classification"],
        annotations_creators=["machine-generated"],
        tags=model_card.TAGS,
        size_categories=[model_card.size_category(N)],
        configs=[
            {
                "config_name": "default",
                "data_files": [{"split": "train", "path": [METADATA, f"{MEDIA}/*"]}],
            }
        ],
    )
    sizes = dict.fromkeys(dataset.clusters, 0)
    for image in dataset.images:
        if image.cluster is not None:
            sizes[image.cluster] += 1
    rows = (
        ("images", N),
        ("clusters", len(sizes)),
        ("images in no cluster", N - sum(sizes.values())),
        ("files that could not be read, left out", dataset.unreadable),
        ("edits by people", dataset.edits),
        ("model and clusters, digest", dataset.model),
    )
    shown = [(f"{k}: {model_card.plain(dataset.clusters[k])}", sizes[k]) for k in sizes]
    named = ", ".join(f"`{name}`" for name in columns)
    return (
        f"---\n{front.to_yaml()}\n---\n\n"
        f"# {several(N, 'images')} in {several(len(sizes), 'clusters')}\n\n"
        f"Grouped without labels by vtcc {__version__}. `label` is the cluster: a group by "
        "appearance, not a class that somebody checked, and empty where an image is in none.\n\n"
        f"{model_card.table(rows)}\nColumns: {named}.\n\n"
        f"## How far to trust the clusters\n\n{model_card.plain(dataset.verdict)}\n\n"
        f"## Clusters\n\n{model_card.table(shown, head=('cluster', 'images'), escaped=False)}\n"
        "## Licence\n\nLicence, consent and origin of the images are not known to vtcc: whoever "
        "passes them on has to answer for them.\n"
    )
