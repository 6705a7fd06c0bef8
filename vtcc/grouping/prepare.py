"""First step of `vtcc cluster`: looks at the images, chooses the training, reads every image."""

from dataclasses import replace
from pathlib import Path

from vtcc import config
from vtcc.config import compose
from vtcc.grouping import choices, intake, survey, which, workdir
from vtcc.grouping.options import MAX_PIXELS, OVERCLUSTER, Options, check_clusters
from vtcc.grouping.state import Prepared
from vtcc.progress import note

THUMBNAIL = 64  # pixels of the cache that page and gradients are made from, with an encoder


def prepare(options: Options, listed: intake.Listed, work: Path) -> Prepared:
    """Chooses parameters by a sample of the images, then decodes all of them once.

    Args:
        listed: the images. work: the directory of an interrupted run, or a new one.

    Raises:
        VtccError: when parameters or images cannot be used.
    """
    seen = _surveyed(options, listed, work)
    heads = options.given_clusters or min(max(OVERCLUSTER, 2), len(listed.files) // 2)
    chosen = choices.choose(
        seen, name=options.title, source=str(listed.root), clusters=heads, seed=options.seed
    )
    encoder = which.encoder(options, seen)
    chosen.reasons["encoder"] = encoder.reason
    if encoder.name:
        choices.use_encoder(
            chosen, encoder.name, seen, weights=options.weights, finetune=options.finetune
        )
    if options.overrides:
        chosen.set(
            options.overrides,
            "set by you",
            ", ".join(f"{k}={v}" for k, v in options.overrides.items()),
            "--set and other options win over the choices below",
        )
        config.from_dict(config.Params, chosen.params)
        compose.check_encoder(chosen.params)
    for what, reason in chosen.reasons.items():
        note(f"{what}: {reason['value']} ({reason['why']})")
    params = chosen.params
    frozen = params["train"]["model"]["frozen"]
    cache, sketches, errors = intake.cached(
        listed,
        work / "cache",
        name=options.title,
        channels=params["dataset"]["channels"],
        size=THUMBNAIL if frozen else params["validate"]["image_size"],
        max_pixels=MAX_PIXELS,
    )
    check_clusters(options.given_clusters, len(cache.paths), readable=True)
    if params["train"]["batch_size"] > len(cache.paths):
        params = config.override(params, {"train.batch_size": len(cache.paths)})
    prepared = Prepared(listed, cache, sketches, errors, params, chosen.reasons)
    if not frozen:
        return prepared
    from vtcc.grouping.encode import encoded

    made = encoded(prepared.files, cache, params, work)
    return replace(prepared, features=made.values, digest=made.info["key"])


def _surveyed(options: Options, listed: intake.Listed, work: Path) -> survey.Survey:
    file = work / "survey.json"
    known = workdir.read_json(file)
    if known is not None:
        return survey.Survey(**known)
    note(f"looking at a sample of {min(len(listed.files), survey.SAMPLE)} images")
    seen = survey.look(listed.files, max_pixels=MAX_PIXELS, seed=options.seed)
    workdir.write_json(file, seen.to_dict())
    return seen
