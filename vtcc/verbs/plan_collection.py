"""`vtcc plan INPUT...`: what `vtcc cluster` will take of these images here, before it starts.

Counts the images, chooses the encoder as `vtcc cluster` would, and reads a hundred images with it.
Nothing is trained, unpacked or written.
"""

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from vtcc import encoders
from vtcc.data import inputs, peek
from vtcc.data.walk import as_text
from vtcc.errors import VtccError
from vtcc.grouping import estimate, intake, sample
from vtcc.grouping.options import LEAST_IMAGES, Options, check, check_clusters
from vtcc.grouping.outputs import JSON_FILES
from vtcc.grouping.prepare import chosen_for
from vtcc.grouping.survey import SAMPLE as LOOKED_AT
from vtcc.progress import several
from vtcc.verbs.plan import show_rows


def run(options: Options, console: Console | None = None) -> dict[str, Any]:
    """Measures, and prints a table.

    Args:
        options: as for `vtcc cluster`; results and folders are not looked at.
        console: to print on.

    Returns:
        `images`, `shards`, `sample`, `assigned`, `encoder`, `why`, `images_per_second`,
        `seconds` (`embedding`, `trainings`, `assigning`, `after`, `total`), `minutes` (given),
        `least_minutes`, `fits` (whether that is enough), `memory`, `disk` (`unpacked`, `work`,
        `results`, `free`) in bytes, `tables`.

    Raises:
        VtccError: when there are too few images, or the inputs or the encoder cannot be used.
    """
    check(options)
    if "train.epochs" in options.overrides:
        raise VtccError(
            "train.epochs: a plan of inputs asks what fits into --minutes, which end no training "
            "whose epochs are given; leave it out"
        )
    _refuse_download(options)
    given = (options.folder, *options.others)
    with tempfile.TemporaryDirectory() as directory:
        room = Path(directory)
        unpacked, work = room / "images", room / "work"
        unpacked.mkdir()
        work.mkdir()
        seen = peek.peeked(given, unpacked, LOOKED_AT)
        if seen.images < LEAST_IMAGES:
            where = as_text(", ".join(map(inputs.kept, given)))[:200]
            raise VtccError(
                f"{where}: {several(seen.images, 'images')}, and grouping needs at least "
                f"{LEAST_IMAGES}; check what is there"
            )
        if not seen.shards:
            listed = intake.listed(*given)
            images = len(listed.names)
        else:
            images = seen.images
            names = [str(number) for number in range(len(seen.files))]
            root = inputs.home(options.folder)
            listed = intake.Listed(root, names, seen.files, None, [], "", [""] * len(names))
        check_clusters(options.clusters, images, readable=False)
        looked_at, _ = sample.drawn(listed, options.sample, options.seed)
        # The number of clusters is that of all images, not of those that were unpacked to look at.
        few = replace(options, clusters=(2, 3)) if seen.shards else options
        chosen = chosen_for(few, looked_at, work)
        rates = estimate.measured(looked_at.files, chosen.params)
    found = estimate.foreseen(images, options.sample, rates, chosen.params)
    model = estimate.model_bytes(chosen.params)
    training = estimate.training_bytes(found.sample, rates, chosen.params)
    found = replace(found, work=found.work + 2 * (training + model), results=found.results + model)
    longest = estimate.longest_trainings(found.sample, rates, chosen.params)
    planned = _planned(options, seen, found, rates, longest)
    reason = chosen.reasons["encoder"]
    planned |= {"encoder": reason["value"], "why": reason["why"]}
    _show(console or Console(highlight=False), planned, options)
    return planned


def _refuse_download(options: Options) -> None:
    name = options.encoder
    known = name in encoders.names() and options.weights is None
    if known and not encoders.available(encoders.card(name)):
        raise VtccError(
            f"--encoder {name}: its weights are not on this machine, and a plan downloads "
            f"nothing; `vtcc encoders fetch {name}` does"
        )


def _planned(
    options: Options,
    seen: peek.Peeked,
    found: estimate.Foreseen,
    rates: estimate.Rates,
    longest: float,
) -> dict[str, Any]:
    limit = 60 * options.minutes
    least = min(found.least_trainings, longest)
    trainings = min(max(limit - found.fixed, least), longest)
    home = inputs.home(options.folder).parent
    beside = next(p for p in (home, *home.parents) if p.exists())
    return {
        "images": found.images,
        "shards": seen.shards,
        "sample": found.sample,
        "assigned": found.images - found.sample,
        "images_per_second": round(rates.whole, 2),
        "seconds": {
            "embedding": round(found.embedding, 1),
            "trainings": round(trainings, 1),
            "assigning": round(found.assigning, 1),
            "after": round(found.after, 1),
            "total": round(found.fixed + trainings, 1),
        },
        "minutes": options.minutes,
        "least_minutes": int(np.ceil((found.fixed + least) / 60)),
        "fits": found.fixed <= limit,
        "memory": int(found.memory),
        "disk": {
            "unpacked": seen.packed,
            "work": int(found.work),
            "results": int(found.results),
            "free": shutil.disk_usage(beside).free,
        },
        "tables": ["csv", "parquet", *(["json"] if found.images <= JSON_FILES else [])],
    }


def _show(console: Console, plan: dict[str, Any], options: Options) -> None:
    from vtcc.engine.memory import readable
    from vtcc.engine.plan import rounds

    seconds, disk = plan["seconds"], plan["disk"]
    images, n = plan["images"], plan["sample"]
    packed = f" in {several(plan['shards'], 'shards')}, unpacked first" if plan["shards"] else ""
    sampled = f"made of all {n:,}"
    if plan["assigned"]:
        sampled = (
            f"made of {n:,} of them, drawn with seed {options.seed}; {plan['assigned']:,} are "
            "assigned"
        )
    limit = f"--minutes {plan['minutes']:g}"
    if not plan["fits"] and plan["assigned"]:
        limit += f" is refused: give --minutes {plan['least_minutes']} or more"
    elif not plan["fits"] or plan["least_minutes"] > plan["minutes"]:
        limit += f" is too short: it takes about {plan['least_minutes']} min"
    else:
        limit += " is enough"
    # Of few images the trainings end before the limit does.
    left = 60 * plan["minutes"] - seconds["total"]
    of_all = "at most" if abs(left) < 1 else "about"
    trainings = f"about {rounds(seconds['trainings'])}, more brings nothing"
    if left < 1:
        trainings = f"up to {rounds(seconds['trainings'])}, what is left of the limit"
    needed = disk["unpacked"] + disk["work"] + disk["results"]
    full = " (too little)" if needed > disk["free"] else ""
    rows = {
        "images": f"{images:,}{packed}",
        "clusters": sampled,
        "encoder": f"{plan['encoder']} ({plan['why']})",
        "here": f"{plan['images_per_second']:,.3g} images/s decoded and embedded",
        "features": f"{rounds(seconds['embedding'])} for the sample",
        "trainings": trainings,
        "assigning": f"{rounds(seconds['assigning'])} for the others" if plan["assigned"] else "",
        "map, page": f"about {rounds(seconds['after'])}",
        "in all": f"{of_all} {rounds(seconds['total'])}; {limit}",
        "memory": f"about {readable(plan['memory'])}",
        "disk": f"{readable(needed)}, of which {readable(disk['results'])} are results; "
        f"{readable(disk['free'])} free{full}",
        "tables": ", ".join(plan["tables"]) + f": {images:,} rows; the page shows {n:,}",
    }
    show_rows(console, rows)
