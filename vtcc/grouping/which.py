"""Pretrained features or training from scratch: decided without labels.

Photographs get a pretrained encoder. Grey shapes on plain ground may be things that no photograph
shows (digits, glyphs) or things that many do (clothes, hands), so there it is measured: where the
images' gradients fall into clearer groups than the encoder's features do, it has nothing to give.
"""

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from vtcc import config, encoders
from vtcc.config import compose
from vtcc.encoders import conversion, models
from vtcc.errors import VtccError
from vtcc.grouping import workdir
from vtcc.grouping.choices import FEW_COLOURED, LARGEST, PLAIN, SMALL, Reason
from vtcc.grouping.options import LEAST_IMAGES, Options, with_channels
from vtcc.grouping.survey import SAMPLE, Survey
from vtcc.progress import note

# Of those whose weights are on this machine the first is taken: strongest first on a GPU, by
# clusters per minute on a CPU.
ON_GPU = ("dinov2-base", "clip-b16", "eva02-clip-b", "dinov2-small", "clip-b32", "lite2", "lite0")
ON_CPU = ("lite2", "lite0")
# Clearness of 600 images' gradients and of lite2's features: digits .95 and .80; letters of seven
# fonts .91 and .92; Fashion-MNIST .90 and .90; TrashNet in grey .67 and .81. Of
# these only digits are known to gain from scratch.
CLEARER = 0.05
MOST_GROUPS = 25


@dataclass(frozen=True)
class Chosen:
    """The encoder, as `train.model.encoder` names it; empty: trained from scratch."""

    name: str
    reason: Reason


@dataclass(frozen=True)
class Clearness:
    """How clear the groups in two kinds of features are: `count.Criteria.score` at its best K.

    Attributes:
        features: of an encoder, with features_clusters groups.
        gradients: of the pixels, with gradients_clusters groups.
    """

    features: float
    features_clusters: int
    gradients: float
    gradients_clusters: int


def encoder(options: Options, survey: Survey, files: Sequence[Path], work: Path) -> Chosen:
    """Which encoder a folder gets.

    Args:
        files: the images. work: the directory of this run, where a measurement is kept.

    Raises:
        VtccError: when the one that was asked for does not exist, its weights cannot be had, or
            its licence is not accepted.
    """
    if given := options.overrides.get("train.model.encoder"):
        return _chosen("", str(given), "by the parameters you gave")
    if options.encoder == "none":
        return _chosen("", "from scratch", "as you asked")
    if options.encoder != "auto":
        return _asked_for(options)
    import torch

    names = ON_GPU if torch.cuda.is_available() else ON_CPU
    bands = options.overrides.get("validate.bands", ())
    channels = options.overrides.get("dataset.channels", len(bands) or 3)
    if channels not in (1, 3):
        why = f"{channels} bands, of which pretrained encoders know nothing"
        return _chosen("", "from scratch", why)
    name = next((n for n in names if _usable(n)), "")
    shapes = survey.colour < FEW_COLOURED and survey.plain > PLAIN
    what = f"{survey.plain:.0%} of the images are grey shapes on plain ground"
    if not name:
        why = "no weights of a pretrained encoder are on this machine (`vtcc encoders` lists them)"
        if not shapes:
            why += "; with one photographs are grouped better in less time"
        note(f"encoder: {why}")
        return _chosen("", "from scratch", why)
    card = encoders.card(name)
    terms = f"{card.licence}, {card.parameters / 1e6:.0f} million parameters"
    if not shapes:
        return _chosen(name, name, f"photographs; {terms}")
    seen = clearness(files, name, work, options)
    compared = (
        f"whose gradients fall into groups of clearness {seen.gradients:.2f} of 1 (at K = "
        f"{seen.gradients_clusters}), {name}'s features {seen.features:.2f} (at K = "
        f"{seen.features_clusters})"
    )
    if seen.gradients > seen.features + CLEARER:
        return _chosen("", "from scratch", f"{what}, {compared}: unlike what {name} has learned")
    return _chosen(name, name, f"{what}, {compared}; {terms}")


def refuse_unfit(options: Options) -> None:
    """Refuses a file of weights that is not its encoder's, before any image is looked at.

    What the images have yet to decide about may be as the file needs it.

    Raises:
        VtccError: naming the file, what it lacks, and whose weights they may be.
    """
    asked = with_channels(options.overrides)
    name = str(asked.get("train.model.encoder", options.encoder))
    weights = asked.get("train.model.weights") or options.weights
    if not weights or name in ("auto", "none", "vit"):
        return
    from vtcc.engine.model import build_encoder

    size = LARGEST
    if name in encoders.names():
        size = min(encoders.card(name).image_size, LARGEST)
        timm_name = encoders.card(name).timm
    else:
        timm_name = name.removeprefix("timm:")
        name = f"timm:{timm_name}"
    sizes, channels = [size], [3]
    if "train.model.encoder" in asked:  # the images decide about both, as without an encoder
        sizes, channels = [size, *SMALL], [3, 1]
    if given := asked.get("train.image_size"):
        sizes = [given]
    if given := asked.get("dataset.channels"):
        channels = [given]
    model = replace(
        config.from_dict(config.Params, compose.compose("folder")).train.model,
        encoder=name,
        weights=str(weights),
    )
    refusals = []
    for image_size, C in itertools.product(sizes, channels):
        try:
            build_encoder(model, image_size=image_size, channels=C, pretrained=True)
            return
        except VtccError as error:
            refusals.append(error)
        if len(refusals) == 1 and not conversion.resembles(Path(weights), timm_name):
            break  # no size and no number of channels makes it fit
    raise refusals[0]


def _usable(name: str) -> bool:
    """Whether an encoder's weights are here and whole."""
    if not encoders.available(encoders.card(name)):
        return False
    try:
        encoders.resolve(name)
    except VtccError as error:
        note(f"encoder {name}: not used ({error})")
        return False
    return True


def clearness(files: Sequence[Path], name: str, work: Path, options: Options) -> Clearness:
    """Measures a sample of the images, once for a run.

    Args:
        files: the images. name: of an encoder whose weights are here.
        work: where the result is kept. options: seed of the sample, maps and k-means; decoding.
    """
    from vtcc.analysis.features import COMPONENTS, gradients, pca, unit_rows
    from vtcc.grouping import count
    from vtcc.grouping.encode import sampled

    kept = work / "clearness.json"
    known = workdir.read_as(kept, lambda values: Clearness(**workdir.numbers(values)))
    if known is not None:
        return known
    note(f"comparing {name}'s features with gradients")
    seed = options.seed
    rows = np.sort(np.random.default_rng(seed).permutation(len(files))[:SAMPLE])
    pixels, features = sampled([files[i] for i in rows], name, work, **options.decoding())
    if len(pixels) < LEAST_IMAGES:  # too few to measure: `intake.cached` will refuse the folder
        return Clearness(0.0, 0, 0.0, 0)
    spaces = unit_rows(features.astype(np.float32)), gradients(pixels)
    best: list[count.Criteria] = []
    for space in spaces:
        points = pca(space, COMPONENTS, seed)
        curve = count.count(points, low=2, high=MOST_GROUPS, seed=seed).curve
        best.append(max(curve, key=lambda c: c.score))
    result = Clearness(best[0].score, best[0].clusters, best[1].score, best[1].clusters)
    workdir.write_json(kept, asdict(result))
    return result


def _asked_for(options: Options) -> Chosen:
    name = options.encoder
    if name in encoders.names():
        resolved = encoders.resolve(
            name,
            weights=options.weights,
            may_download=True,
            accept_licence=options.accept_licence,
        )
        return _chosen(name, name, f"as you asked; {resolved.card.licence}, {resolved.source}")
    timm = name.removeprefix("timm:")
    models.check(timm, str(options.weights))
    return _chosen(f"timm:{timm}", timm, f"as you asked; weights from {options.weights}")


def _chosen(name: str, value: str, why: str) -> Chosen:
    return Chosen(name, Reason(value=value, why=why))
