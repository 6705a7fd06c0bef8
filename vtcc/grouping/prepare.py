"""First step of `vtcc cluster`: looks at the images, chooses the training, reads every image."""

from pathlib import Path

from vtcc import compose, config
from vtcc.grouping import choices, intake, survey, workdir
from vtcc.grouping.options import MAX_PIXELS, OVERCLUSTER, Options, check_clusters
from vtcc.grouping.state import Prepared
from vtcc.progress import note


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
    cache, sketches, errors = intake.cached(
        listed,
        work / "cache",
        name=options.title,
        channels=params["dataset"]["channels"],
        size=params["validate"]["image_size"],
        max_pixels=MAX_PIXELS,
    )
    check_clusters(options.given_clusters, len(cache.paths), readable=True)
    if params["train"]["batch_size"] > len(cache.paths):
        params = config.override(params, {"train.batch_size": len(cache.paths)})
    return Prepared(listed, cache, sketches, errors, params, chosen.reasons)


def _surveyed(options: Options, listed: intake.Listed, work: Path) -> survey.Survey:
    file = work / "survey.json"
    known = workdir.read_json(file)
    if known is not None:
        return survey.Survey(**known)
    note(f"looking at a sample of {min(len(listed.files), survey.SAMPLE)} images")
    seen = survey.look(listed.files, max_pixels=MAX_PIXELS, seed=options.seed)
    workdir.write_json(file, seen.to_dict())
    return seen
