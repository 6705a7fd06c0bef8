"""Second step of `vtcc cluster`: trains twice, and chooses K in between where it is open."""

from pathlib import Path
from typing import Any

import numpy as np

from vtcc import config, json_file
from vtcc.engine.frozen import FrozenFeatures
from vtcc.grouping import budget, count, training, workdir
from vtcc.grouping.options import MAIN_SHARE, SCOUT_SHARE, Options
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
    material = Material(prepared.cache)
    main_share, scout_share = MAIN_SHARE, SCOUT_SHARE
    if prepared.features is not None:
        known = prepared.features
        components = prepared.params["train"]["model"]["components"]
        rows = np.arange(len(known.values))
        features = FrozenFeatures.of(
            known.values, known.info["key"], rows=rows, components=components
        )
        material = Material(prepared.cache, features)
        main_share = scout_share = 0.5  # both go into the map, so both are trained as long
    share = main_share if isinstance(options.clusters, int) else 1 - scout_share
    time_left = None
    if "train.epochs" not in options.overrides:
        time_left = budget.divide(
            material, prepared.params, [share, 1 - share], options, work, deadline=deadline
        )
    else:
        note("train.epochs: given, so --minutes ends no training")

    def train(title: str, part: float, clusters: int, seed: int) -> Trained:
        values = {"train.seed": seed, "train.num_clusters": clusters}
        if time_left is not None:
            values["train.epochs"] = time_left.epochs(part)
        return training.train(
            material,
            config.override(prepared.params, values),
            work / title.replace(" ", "-"),
            limit=None if time_left is None else time_left.limit(part),
            title=title,
            remedies=any(key.startswith("train.") for key in options.overrides),
        )

    seed = options.seed
    other_seed = seed + 1 if seed < config.MAX_SEED else seed - 1
    if isinstance(options.clusters, int):
        K = options.clusters
        main = train("training", share, K, seed)
        second = train("second training", 1 - share, K, other_seed)
        return Learned(K, main, second, counted(main, K, K, seed, work), material)
    low, high = options.clusters
    heads = prepared.params["train"]["num_clusters"]
    second = train("first training", 1 - share, heads, other_seed)
    chosen = counted(second, low, high, seed, work)
    for reason in chosen.reasons:
        note(reason)
    main = train("training", share, chosen.clusters, seed)
    return Learned(chosen.clusters, main, second, chosen, material)


def counted(trained: Trained, low: int, high: int, seed: int, work: Path) -> count.Count:
    """The criteria of K from `low` to `high` in a training's embedding, computed once.

    Args:
        work: where an interrupted run kept them.
    """
    file = work / "count.json"
    asked = {"training": trained.key, "low": low, "high": high, "seed": seed}
    known = workdir.read_as(file, lambda kept: (kept["asked"], _counted(kept)))
    if known is not None:
        if known[0] == asked:
            return known[1]
        note(f"{file}: of another training, so this step is done again")
    most = count.most(len(trained.space), low, high)
    judged = min(len(trained.space), count.IMAGES)
    cut_off = f", as many as {judged:,} images allow" if most < high else ""
    note("judging groups" if low == high else f"how many clusters, from {low} to {most}{cut_off}")
    recommended = count.count(
        trained.space,
        low=low,
        high=high,
        seed=seed,
        on_progress=lambda done, total: report("count", done, total),
    )
    workdir.write_json(file, {"asked": asked, "count": recommended.to_dict()})
    return recommended


def _counted(kept: dict[str, Any]) -> count.Count:
    wanted = dict.fromkeys(("count.clusters", "count.low", "count.high"), int)
    lists = dict.fromkeys(("count.curve", "count.reasons"), list)
    values = json_file.checked(kept, {"count": dict, **wanted, **lists})["count"]
    for criteria in values["curve"]:
        workdir.numbers(criteria)
    return count.Count.from_dict(values)
