"""`clusters.json` and `clusters.safetensors`: the clusters of a model, beside its weights."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from vtcc import json_file
from vtcc.atomic import atomic_file, write_text
from vtcc.errors import VtccError
from vtcc.grouping import levels
from vtcc.grouping.clusters import ARRAYS, EXCLUDED, FILE, Clusters, Split
from vtcc.grouping.means import DOUBT, NOVEL, Means
from vtcc.regular import regular

FORMAT = 1


def write(clusters: Clusters, directory: Path) -> None:
    """Writes both files, each in one step."""
    from safetensors.numpy import save

    means = clusters.means
    arrays = {"means": means.means, "precision": means.precision}
    arrays |= {f"centre.{k}": v.astype(np.float32) for k, v in clusters.centres.items()}
    arrays |= {f"split.{b}": s.centres.astype(np.float32) for b, s in clusters.splits.items()}
    with atomic_file(directory / ARRAYS) as building:
        building.write_bytes(save({k: np.ascontiguousarray(v) for k, v in arrays.items()}))
    content = {
        "format": FORMAT,
        "names": {str(k): clusters.names[k] for k in clusters.ids},
        "of_base": [None if k == EXCLUDED else k for k in clusters.of_base],
        "splits": {str(b): list(s.ids) for b, s in sorted(clusters.splits.items())},
        "outlier": {str(k): round(v, 6) for k, v in sorted(clusters.fences.items())},
        "novelty": {
            "kind": "Mahalanobis distance to the nearest mean",
            "threshold": means.threshold,
            "training_images_below": NOVEL,
        },
        "unclustered": {
            "kind": "distance to an image's own cluster over that to the nearest other one",
            "limit": means.limit,
            "applied": means.unclustered,
            "means_of": [sorted(ids) for ids in means.owners],
        },
        "tree": levels.to_list(clusters.tree),
        "edits": clusters.edits,
    }
    write_text(directory / FILE, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def read(directory: Path) -> Clusters:
    """What `write` wrote; results of before there was a tree get one, and no limit of doubt.

    Raises:
        VtccError: when the files are damaged or do not belong together.
    """
    from safetensors.numpy import load

    try:
        content = json_file.parsed(directory / FILE)
        if content["format"] != FORMAT:
            raise VtccError(
                f"{directory / FILE}: format {content['format']}, and this vtcc reads {FORMAT}; "
                "use the vtcc that wrote it"
            )
        clusters = _clusters(content, load(regular(directory / ARRAYS).read_bytes()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise VtccError(
            f"{directory}: {FILE} or {ARRAYS} is damaged ({type(error).__name__}: {error}); "
            "make the model again, or delete both to use it without names"
        ) from None
    except Exception as error:  # safetensors has an error of its own
        if isinstance(error, VtccError):
            raise
        raise VtccError(f"{directory / ARRAYS}: cannot be read ({error})") from None
    mentioned = set(clusters.of_base) | levels.leaves(clusters.tree)
    for split in clusters.splits.values():
        mentioned |= set(split.ids)
    if unknown := mentioned - {EXCLUDED} - set(clusters.names):
        raise VtccError(f"{directory / FILE}: cluster {min(unknown)} has no name")
    return clusters


def _clusters(content: dict[str, Any], arrays: dict[str, np.ndarray]) -> Clusters:
    names = {int(k): str(v) for k, v in content["names"].items()}
    centres = {k: arrays[f"centre.{k}"] for k in names if f"centre.{k}" in arrays}
    doubt = content.get("unclustered", {"limit": DOUBT, "applied": False, "means_of": []})
    owners = tuple(frozenset(map(int, ids)) for ids in doubt["means_of"])
    splits = {
        int(b): Split(tuple(map(int, ids)), arrays[f"split.{b}"])
        for b, ids in content["splits"].items()
    }
    m, d = arrays["means"].shape
    if owners and len(owners) != m:
        raise ValueError(f"{len(owners)} owners of {m} means")
    shapes: dict[str, tuple[int, ...]] = {"precision": (d, d)}
    shapes |= {f"centre.{k}": (d,) for k in centres}
    shapes |= {f"split.{b}": (len(split.ids), d) for b, split in splits.items()}
    for name, shape in shapes.items():
        if arrays[name].shape != shape:
            raise ValueError(f"{name}: found {arrays[name].shape}, expected {shape}")
    tree = content.get("tree")
    return Clusters(
        names=names,
        of_base=tuple(EXCLUDED if k is None else int(k) for k in content["of_base"]),
        splits=splits,
        centres=centres,
        fences={int(k): float(v) for k, v in content["outlier"].items()},
        means=Means(
            means=arrays["means"],
            owners=owners,
            precision=arrays["precision"],
            threshold=float(content["novelty"]["threshold"]),
            limit=float(doubt["limit"]),
            unclustered=bool(doubt["applied"]),
        ),
        tree=levels.grown(centres) if tree is None else levels.from_list(tree),
        edits=list(content.get("edits", [])),
    )
