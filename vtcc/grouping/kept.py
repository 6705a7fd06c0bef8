"""Final clusters in the work directory, for a run that goes on: images are assigned to these.

Made again, they could differ in a bit, and a part of the images would be assigned to others.
"""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from vtcc import json_file, zip_file
from vtcc.atomic import atomic_directory
from vtcc.engine import checkpoint
from vtcc.errors import VtccError
from vtcc.grouping import workdir
from vtcc.grouping.clusters import Clusters
from vtcc.grouping.options import Options
from vtcc.grouping.state import Judged, Learned
from vtcc.grouping.trust import Trust
from vtcc.progress import note

MODEL = "model"
_ARRAYS, _ABOUT = "judged.npz", "judged.json"
_SHAPES = {
    "h": "float N d", "heads": "float H N K", "base": "int N", "first": "int N",
    "looks": "float N 6",
}  # fmt: skip
_NEEDED = {
    "chosen": int, "how": dict, "how.value": str, "how.why": str, "trust": dict,
    "trust.confused": list, "comparison": list,
}  # fmt: skip


def key(learned: Learned, options: Options) -> str:
    """Names what the final clusters depend on."""
    parts = [
        learned.main.key,
        learned.second.key,
        learned.num_clusters,
        options.seed,
        options.unclustered,
        options.unclustered_at_most,
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]


def write(directory: Path, judged: Judged, named: str) -> None:
    """Keeps them.

    Args:
        directory: becomes whole or not at all. named: of `key`.
    """
    with atomic_directory(directory) as building:
        checkpoint.save_model(building / MODEL, judged.model.model, judged.model.info)
        judged.clusters.write(building / MODEL)
        with (building / _ARRAYS).open("wb") as file:
            np.savez(
                file,
                h=judged.model.h,
                heads=judged.model.heads,
                base=judged.base,
                first=judged.first,
                looks=judged.looks,
            )
        about = {
            "key": named,
            "chosen": judged.model.chosen,
            "how": judged.how,
            "trust": judged.trust.to_dict(),
            "comparison": list(judged.comparison),
        }
        workdir.write_json(building / _ABOUT, about)


def read(directory: Path, learned: Learned, named: str) -> Judged | None:
    """What `write` kept under the same name; None where there is none, or it is damaged."""
    about = workdir.read_json(directory / _ABOUT)
    if about is None or about.get("key") != named:
        return None
    try:
        json_file.checked(about, _NEEDED)
        model, info = checkpoint.read_model(directory / MODEL)
        clusters = Clusters.load(directory / MODEL)
        arrays = zip_file.arrays(
            directory / _ARRAYS,
            _SHAPES,
            N=len(learned.main.h),
            d=int(model.encoder.embed_dim),  # type: ignore[arg-type]
            H=len(model.cluster_projectors),
            K=info["num_clusters"],
        )
        trust = about["trust"]
        trust["confused"] = [(a, b, share) for a, b, share in trust["confused"]]
        if clusters is None:
            raise ValueError("without clusters.json")
        trained = replace(
            learned.main,
            model=model,
            info=info,
            h=arrays["h"],
            heads=arrays["heads"],
            chosen=int(about["chosen"]),
        )
        return Judged(
            model=trained,
            clusters=clusters,
            base=arrays["base"],
            applied=clusters.apply(trained.p, trained.h, arrays["base"]),
            how=about["how"],
            trust=Trust(**trust),
            comparison=about["comparison"],
            first=arrays["first"],
            looks=arrays["looks"],
        )
    except (VtccError, OSError, ValueError, LookupError, TypeError) as error:
        note(f"{directory}: damaged ({error}), so the clusters are made again")
        return None
