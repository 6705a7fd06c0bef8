"""First step of `vtcc cluster`: looks at the images, chooses the training, reads every image."""

import math
import time
from dataclasses import replace
from pathlib import Path

from vtcc import config
from vtcc.config import compose
from vtcc.encoders.tensor_file import read_tensors
from vtcc.grouping import choices, intake, survey, which, workdir
from vtcc.grouping.options import (
    LEAST_TRAINING,
    OVERCLUSTER,
    Options,
    after_trainings,
    check_clusters,
    idle,
    with_channels,
)
from vtcc.grouping.state import Prepared
from vtcc.progress import duration, note

THUMBNAIL = 64  # pixels of the cache that page and gradients are made from, with an encoder


def chosen_for(options: Options, listed: intake.Listed, work: Path) -> choices.Choices:
    """Chooses the training by some hundred of the images.

    Args:
        listed: the images. work: the directory of an interrupted run, or a new one.

    Raises:
        VtccError: when parameters or images cannot be used.
    """
    seen = _surveyed(options, listed, work)
    heads = options.given_clusters or min(max(OVERCLUSTER, 2), len(listed.files) // 2)
    chosen = choices.choose(
        seen, name=options.name, source=str(listed.root), clusters=heads, seed=options.seed
    )
    encoder = which.encoder(options, seen, listed.files, work)
    chosen.reasons["encoder"] = encoder.reason
    if encoder.name:
        choices.use_encoder(
            chosen, encoder.name, seen, weights=options.weights, finetune=options.finetune
        )
    if options.overrides:
        _set_by_user(chosen, options)
    if weights := chosen.params["train"]["model"]["weights"]:
        read_tensors(Path(weights))  # what is wrong with it is told before images are decoded
    for what, reason in chosen.reasons.items():
        note(f"{what}: {reason['value']} ({reason['why']})")
    return chosen


def prepare(
    options: Options,
    listed: intake.Listed,
    work: Path,
    chosen: choices.Choices | None = None,
    deadline: float = math.inf,
) -> Prepared:
    """Decodes all images once, for the training that was chosen for them.

    Args:
        listed: the images. work: the directory of an interrupted run, or a new one.
        chosen: of `chosen_for` for these images; None: it is asked.
        deadline: of all of `vtcc cluster`, on `time.monotonic`'s clock.

    Raises:
        VtccError: when parameters or images cannot be used.
    """
    chosen = chosen or chosen_for(options, listed, work)
    params = chosen.params
    frozen = params["train"]["model"]["frozen"]
    cache, sketches, errors = intake.cached(
        listed,
        work / "cache",
        name=params["dataset"]["name"],
        channels=params["dataset"]["channels"],
        size=THUMBNAIL if frozen else params["validate"]["image_size"],
        **options.decoding(),
    )
    N = len(cache.paths)
    check_clusters(options.clusters, N, readable=True)
    if (batch := params["train"]["batch_size"]) > N:
        if "train.batch_size" in options.overrides:
            note(f"train.batch_size: {N} instead of {batch}, all images there are")
        params = config.override(params, {"train.batch_size": N})
    if options.given_clusters is None and params["train"]["num_clusters"] > N // 2:
        params = config.override(params, {"train.num_clusters": N // 2})
    prepared = Prepared(listed, cache, sketches, errors, params, chosen.reasons)
    if not frozen:
        return prepared
    from vtcc.grouping.encode import encoded

    late = _Late(deadline, options.minutes, N)
    embedded, sketches = encoded(prepared.files, cache, params, work, late.look)
    return replace(prepared, features=embedded, sketches=sketches)


class _Late:
    """Says once, as soon as it is seen, that the features alone take longer than the limit.

    Args:
        deadline: on `time.monotonic`'s clock. minutes: the limit that it came from.
        images: how many there are.
    """

    def __init__(self, deadline: float, minutes: float, images: int):
        self.deadline, self.minutes, self.said = deadline, minutes, False
        self.later = LEAST_TRAINING + after_trainings(images)

    def look(self, left: float) -> None:
        """Args: left: seconds until the features are there."""
        over = time.monotonic() + left - self.deadline
        if over > 0 and not self.said:
            self.said = True
            needed = math.ceil(self.minutes + (over + self.later) / 60)
            note(
                f"--minutes {self.minutes:g} is too short: the features alone are there in about "
                f"{duration(left)}, {duration(over)} over the limit; wait, or stop and go on from "
                f"here with --minutes {needed}"
            )


def _set_by_user(chosen: choices.Choices, options: Options) -> None:
    """Puts the user's parameters in place of choices, and says which have no effect beside them.

    Raises:
        VtccError: when they do not go with the choices that are left.
    """
    chosen.params = config.override(chosen.params, with_channels(options.overrides))
    compose.check_encoder(chosen.params)
    without_effect = [k for k in options.overrides if idle(k, chosen.params)]
    effective = {k: v for k, v in options.overrides.items() if k not in without_effect}
    chosen.reasons["set by you"] = {
        "value": ", ".join(f"{k}={v}" for k, v in effective.items()) or "nothing",
        "why": "--set and other options win over the choices below"
        + (f"; without effect here: {', '.join(without_effect)}" if without_effect else ""),
    }


def _surveyed(options: Options, listed: intake.Listed, work: Path) -> survey.Survey:
    file = work / "survey.json"
    known = workdir.read_as(file, lambda kept: survey.Survey(**workdir.numbers(kept)))
    if known is not None:
        return known
    note(f"looking at a sample of {min(len(listed.files), survey.SAMPLE)} images")
    seen = survey.look(listed.files, seed=options.seed, **options.decoding())
    workdir.write_json(file, seen.to_dict())
    return seen
