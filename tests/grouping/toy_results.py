"""Results as `vtcc cluster` writes them, of a toy model that needs no training."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from tests.tracking import toy
from vtcc.data import duplicates, folder, images
from vtcc.data.walk import as_text
from vtcc.engine import checkpoint, predict
from vtcc.grouping import columns, describe, lookalikes, outputs, reopen, result, stream
from vtcc.grouping.clusters import Clusters
from vtcc.grouping.rest import Rest
from vtcc.pages import clusters as page
from vtcc.pages import thumbnails

NEW_KIND = 3  # the quadrant that is bright in images the clusters never saw
TRUST = {
    "seeds": 0.9,
    "map_silhouette": 0.6,
    "halves": 0.9,
    "reference_silhouette": 0.3,
    "reference_kmeans": 0.3,
    "predicted": 0.9,
    "looks": 0.2,
    "confidence": 0.9,
    "balance": 1.0,
    "alike": 0.1,
    "confused": [],
    "level": "clear",
    "verdict": "clear structure",
}


def draw(file: Path, kind: int, seed: int) -> None:
    """A picture that is bright in one quadrant; those of the new kind are more alike."""
    rng = np.random.default_rng(seed)
    side, half = toy.SIZE, toy.SIZE // 2
    pixels = rng.integers(0, 10, (side, side))
    y, x = divmod(kind, 2)
    light = 180 + (0 if kind == NEW_KIND else rng.integers(-40, 40))
    pixels[y * half : (y + 1) * half, x * half : (x + 1) * half] += light
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(file, "PNG")


def folder_of(root: Path, each: int = 20) -> None:
    """Images of three kinds, `0-00.png` and so on."""
    for kind in range(3):
        for i in range(each):
            draw(root / f"{kind}-{i:02d}.png", kind, 100 * kind + i)


@torch.no_grad()
def teach(predictor: predict.Predictor, pixels: np.ndarray, kinds: np.ndarray) -> None:
    """Sets the last layer of the head: an image is in the cluster of the nearest mean of a kind."""
    h = torch.from_numpy(predictor.predict(pixels).embedding)
    head = predictor.model.cluster_projectors[0]
    z = head[:-1](h)
    means = torch.stack([z[kinds == k].mean(dim=0) for k in range(3)])
    scale = 20 / torch.cdist(means, means).max() ** 2
    head[-1].weight[:3] = scale * means
    head[-1].bias[:3] = -scale * (means**2).sum(dim=1) / 2
    head[-1].weight[3] = 0
    head[-1].bias[3] = -1000


def write(
    root: Path,
    results: Path,
    unclustered: float = 0,
    *,
    more: columns.Columns | None = None,
    names_of: Mapping[int, str] | None = None,
) -> None:
    """Results of the images below `root`, a cluster for each kind and one that is empty.

    Args:
        unclustered: share of the images that belong nowhere at most; their limit is as low as that.
        more: columns that came with them. names_of: clusters that are called otherwise.
    """
    model = toy.model(results / result.MODEL, 0)
    predictor = predict.load(model, "cpu")
    files = sorted(path for path in root.rglob("*") if path.is_file())
    names = [as_text(str(path.relative_to(root))) for path in files]
    pixels = np.stack([images.load(path, **predictor.decoding) for path in files])
    teach(predictor, pixels, np.array([int(path.name[0]) for path in files]))
    checkpoint.save_model(model, predictor.model, predictor.info)
    found = predictor.predict(pixels)
    clusters = Clusters.fit(found.probabilities, found.embedding)
    if unclustered:
        doubt = clusters.means.doubt(
            clusters.means.distances(found.embedding), found.probabilities.argmax(axis=1)
        )
        limit = float(np.quantile(doubt, 1 - unclustered, method="higher"))
        means = replace(clusters.means, limit=limit, unclustered=True)
        clusters = replace(clusters, means=means)
    clusters = replace(clusters, names=clusters.names | dict(names_of or {}))
    columns.write(results, more or {})
    clusters.write(model)
    applied = clusters.apply(found.probabilities, found.embedding)
    place = thumbnails.places(applied.cluster, applied.confidence)
    thumb = thumbnails.write_sprites(results / page.SPRITES, lambda rows: pixels[rows], place)
    embedding = outputs.Embedding(
        h=found.embedding,
        p=found.probabilities,
        base=found.probabilities.argmax(axis=1).astype(np.int32),
        map=np.random.default_rng(0).random((len(names), 2)).astype(np.float32),
        tile=place,
        first=np.arange(len(names)),
        looks=describe.looks(pixels),
        paths=names,
        known=np.ones(len(names), bool),
        sketches=np.stack([duplicates.sketch(image) for image in pixels]),
    )
    embedding.save(results)
    summary = {
        "format": 1,
        "title": root.name,
        "root": str(root.resolve()),
        "files": names,
        "stamps": [folder.stamp(path) for path in files],
        "errors": {},
        "labels": None,
        "classes": [],
        "thumb": thumb,
        "choices": {},
        "count": {},
        "trust": TRUST,
        "seconds": 1.0,
        "baselines": [],
        "seed": 0,
        "folders": "",
    }
    result.finish(
        results,
        summary,
        embedding=embedding,
        applied=applied,
        clusters=clusters,
        read=lambda rows: pixels[rows],
        attention_of=lambda shown: None,
        final=results,
    )


def beside(root: Path, results: Path, *, shard: int) -> None:
    """Makes results those of a collection: the files they do not have are the rest of it.

    Args:
        root: the folder of the images. shard: files of one.
    """
    with reopen.opened(results) as before:
        summary, embedding = dict(before.summary), before.embedding
        predictor = predict.load(before.model, "cpu")
        names = [as_text(str(p.relative_to(root))) for p in sorted(root.rglob("*")) if p.is_file()]
        names = [name for name in names if name not in summary["files"]]
        files = [root / name for name in names]
        with reopen.rewriting(before) as building:
            rest = Rest.of(building)
            rest.directory.mkdir()
            stamps = [folder.stamp(file) for file in files]
            stream.assign(rest, names, files, stamps, predictor, shard=shard)
            alike = lookalikes.write(building, embedding.paths, embedding.sketches)
            reopen.finish(
                building,
                before,
                summary | {"collection": {"sample": len(summary["files"]), "alike": alike}},
                embedding=embedding,
                applied=reopen.decided(before.clusters, embedding, {}),
                clusters=before.clusters,
                predictor=predictor,
            )
