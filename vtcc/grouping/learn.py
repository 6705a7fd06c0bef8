"""Second step of `vtcc cluster`: trains twice, and chooses K in between where it is open."""

import time
from pathlib import Path

from vtcc import config
from vtcc.grouping import count, training, workdir
from vtcc.grouping.options import (
    AFTER_IMAGES,
    AFTER_PER_IMAGE,
    AFTER_TRAINING,
    LEAST_TRAINING,
    MAIN_SHARE,
    SCOUT_SHARE,
    Options,
)
from vtcc.grouping.state import Learned, Prepared
from vtcc.grouping.training import Material, Trained
from vtcc.progress import note, report


def learn(prepared: Prepared, options: Options, work: Path, *, deadline: float) -> Learned:
    """Trains on the images or their features, resuming what an interrupted run left.

    Args:
        work: its directory. deadline: of all of `vtcc cluster`, on `time.monotonic`'s clock.

    Raises:
        VtccError: as `engine.loop.fit`. Interrupted: after a signal, with the checkpoint written.
    """
    seconds = None
    if "train.epochs" not in options.overrides:
        seconds = _budget(len(prepared.cache.paths), work, deadline)
    material = Material(prepared.cache)
    main_share, scout_share = MAIN_SHARE, SCOUT_SHARE
    if prepared.features is not None:
        components = prepared.params["train"]["model"]["components"]
        material = Material.of_features(
            prepared.cache, prepared.features, components, prepared.digest
        )
        main_share = scout_share = 0.5  # both go into the map, so both are trained as long

    def train(title: str, share: float, clusters: int, seed: int) -> Trained:
        values = {"train.seed": seed, "train.num_clusters": clusters}
        return training.train(
            material,
            config.override(prepared.params, values),
            work / title.replace(" ", "-"),
            seconds=None if seconds is None else seconds * share,
            title=title,
        )

    seed = options.seed
    other_seed = seed + 1 if seed < config.MAX_SEED else seed - 1
    if isinstance(options.clusters, int):
        K = options.clusters
        main = train("training", main_share, K, seed)
        second = train("second training", 1 - main_share, K, other_seed)
        return Learned(K, main, second, counted(main, K, K, seed, work), material)
    low, high = options.clusters
    heads = prepared.params["train"]["num_clusters"]
    second = train("first training", scout_share, heads, other_seed)
    chosen = counted(second, low, high, seed, work)
    for reason in chosen.reasons:
        note(reason)
    main = train("training", 1 - scout_share, chosen.clusters, seed)
    return Learned(chosen.clusters, main, second, chosen, material)


def counted(trained: Trained, low: int, high: int, seed: int, work: Path) -> count.Count:
    """The criteria of K from `low` to `high` in a training's embedding, computed once.

    Args:
        work: where an interrupted run kept them.
    """
    file = work / "count.json"
    asked = {"training": trained.key, "low": low, "high": high, "seed": seed}
    known = workdir.read_json(file)
    if known is not None:
        if known.get("asked") == asked:
            return count.Count.from_dict(known["count"])
        note(f"{file}: of another training, so this step is done again")
    note("judging groups" if low == high else f"how many clusters, from {low} to {high}")
    recommended = count.count(
        trained.space,
        trained.heads,
        low=low,
        high=high,
        seed=seed,
        on_progress=lambda done, total: report("count", done, total),
    )
    workdir.write_json(file, {"asked": asked, "count": recommended.to_dict()})
    return recommended


def _budget(images: int, work: Path, deadline: float) -> float:
    """Seconds for both trainings; a resume must train what was begun."""
    file = work / "budget.json"
    known = workdir.read_json(file)
    if known is not None and isinstance(known.get("seconds"), int | float):
        return float(known["seconds"])
    after = AFTER_TRAINING + AFTER_PER_IMAGE * min(images, AFTER_IMAGES)
    seconds = max(deadline - time.monotonic() - after, LEAST_TRAINING)
    workdir.write_json(file, {"seconds": seconds})
    return seconds
