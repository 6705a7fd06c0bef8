"""The cards of a model of `vtcc cluster`, with what only its results know."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vtcc.analysis.scores import SCORES
from vtcc.engine import checkpoint, model_card
from vtcc.grouping.clusters import EXCLUDED, UNCLUSTERED
from vtcc.grouping.outputs import Embedding

# Measure of `Trust` -> as the cards call it.
_MEASURES = {
    "seeds": "agreement with a second training, adjusted Rand index",
    "map_silhouette": "silhouette in a map of what was learned",
    "halves": "agreement of k-means fitted to halves of the images",
    "reference_silhouette": "silhouette in features that no training made here",
    "reference_kmeans": "the same of k-means in those features, its own best",
    "gap": "how empty it is there between neighbouring clusters, 1 empty",
    "predicted": "clusters foretold from those features, Cohen's kappa",
    "looks": "the same from brightness, contrast, colour and detail alone",
    "confidence": "mean confidence",
    "balance": "effective number of clusters over all",
    "alike": "share of images that look nearly like one of them",
}


def write(
    model: Path, summary: dict[str, Any], embedding: Embedding, sizes: Mapping[int, int]
) -> None:
    """The cards of the model with what only its results know.

    Args:
        sizes: id -> images. Others: as of `finish`.
    """
    collection = summary.get("collection", {})
    own: dict[str, Any] = next(iter(summary["baselines"]), {})
    trust = summary["trust"]
    figures = [(title, trust.get(measure)) for measure, title in _MEASURES.items()]
    figures += [
        (f"{score.upper()} against the sub-folders as classes", own.get(score)) for score in SCORES
    ]
    model_card.write(
        model,
        checkpoint.read_info(model),
        data=(
            ("files", collection.get("files", len(summary["files"]))),
            ("unreadable", collection.get("unreadable", len(summary["errors"]))),
            ("readable now", collection.get("images", len(embedding.paths))),
            ("of these the clusters were made of a sample of", collection.get("made_of")),
            (
                "of these added after the clusters were made",
                collection.get("added", int((~embedding.known).sum())) or None,
            ),
            (
                "look like another one",
                collection.get(
                    "alike", int((embedding.first != np.arange(len(embedding.first))).sum())
                ),
            ),
            ("in no cluster, as people decided", sizes.get(EXCLUDED, 0)),
            ("in no cluster, as near to another", sizes.get(UNCLUSTERED, 0) or None),
            (
                "classes, by sub-folder, that only scored the result",
                len(summary["classes"]) or None,
            ),
        ),
        verdict=trust["verdict"],
        figures=figures,
        clusters=[(c["id"], c["name"], c["size"]) for c in summary["clusters"]],
    )
