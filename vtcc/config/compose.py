"""Presets expanded to one complete set of explicit numbers.

A run preset is a whole `params.yaml`; a model preset and an augmentation preset replace some of
its keys, and so does a dataset card. What comes out names none of them: `dvc params diff` shows
numbers.
"""

import importlib.util
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vtcc import config, paths
from vtcc.errors import VtccError
from vtcc.regular import regular

CATALOG = Path("data/catalog")
_DECIDING = {"paper", "features"}  # augmentations that belong to a method, not to a data set
_COUNTING = ("dataset.source", "dataset.limit", "dataset.holdout")  # how many images there are
STEPS = 600  # of a training on features: enough for its few weights, and seconds long


def directory(kind: str, project: Path | None = None) -> Path:
    """Where the presets of one kind are: the project's own `vtcc/presets`, else the package's."""
    own = project / "vtcc" / "presets" if project else config.PRESETS
    root = own if os.path.isdir(own) else config.PRESETS  # noqa: PTH112 - Path's own raises
    return {"run": root, "model": root / "models", "augment": root / "augment"}[kind]


def names(kind: str, project: Path | None = None) -> list[str]:
    """The presets of a kind (`run`, `model`, `augment`) or cards (`dataset`, `encoder`)."""
    if kind == "encoder":
        from vtcc.encoders import catalog

        return catalog.names()
    if kind == "dataset":
        return sorted(p.stem for p in ((project or paths.project()) / CATALOG).glob("*.yaml"))
    return sorted(p.stem for p in directory(kind, project).glob("*.yaml"))


def compose(
    preset: str | None,
    *,
    dataset: str | None = None,
    model: str | None = None,
    augment: str | None = None,
    encoder: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    project: Path | None = None,
) -> dict[str, Any]:
    """The complete parameters, checked.

    Later wins: preset, model, dataset, encoder, augment, overrides.

    Args:
        preset: a run preset; None takes the project's `params.yaml`.
        dataset: a card of the project's `data/catalog`.
        model: a model preset.
        augment: an augmentation preset.
        encoder: a name of `vtcc encoders`: pretrained and frozen, trained on by its features.
        overrides: dotted keys and their values, `{"train.epochs": 2}`.
        project: directory of `params.yaml`; default: the one around the working directory.

    Returns:
        Nested parameters, as `params.yaml` holds them.

    Raises:
        VtccError: on an unknown name, with the nearest, an unknown key or a value that is not
            allowed.
    """
    project = project or paths.project()
    file = paths.PARAMS if preset is None else _file("run", preset, project)
    values = config.read_yaml(project / file)
    if not isinstance(values, dict):
        raise VtccError(f"{project / file}: expected sections, found {values!r:.200}")
    config.from_dict(config.Params, values)
    changed = changes(dataset, model, augment, overrides, project, encoder=encoder, base=values)
    return config.override(values, changed)


def keep_params(project: Path) -> Path | None:
    """Keeps a `params.yaml` that is about to be replaced in `.vtcc/params`.

    Returns:
        Where it is kept; None where it is no more than a preset as it stands, or missing.

    Raises:
        VtccError: when it cannot be kept.
    """
    from vtcc.atomic import atomic_file

    file, room = project / paths.PARAMS, Path(".vtcc/params")
    try:
        former = regular(file).read_bytes() if file.exists() else b""  # need not be text
        presets = (regular(_file("run", n, project)).read_bytes() for n in names("run", project))
        if not former or former in presets:
            return None
        stamp = f"{time.strftime('%Y%m%d-%H%M%S')}-{time.time_ns() % 1000}"
        kept = room / f"{stamp}.yaml"
        with atomic_file(project / kept) as place:
            place.write_bytes(former)
    except OSError as error:
        raise VtccError(
            f"{file}: cannot be kept in {room} ({error.strerror or error}); move it away, then "
            "re-run"
        ) from None
    return kept


def changes(
    dataset: str | None = None,
    model: str | None = None,
    augment: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    project: Path | None = None,
    *,
    encoder: str | None = None,
    base: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What cards, a model and an augmentation preset and overrides replace, as dotted keys.

    Args:
        dataset, model, augment, overrides, project, encoder: as of `compose`.
        base: the nested parameters that are changed; where neither a card nor an override says
            so, they say how many images there are.

    Raises:
        VtccError: on an unknown name, with the nearest, or an override of the images that is not
            allowed.
    """
    project = project or paths.project()
    overrides = overrides or {}
    changed: dict[str, Any] = {}
    if model is not None:
        changed |= _mapping(_file("model", model, project))
    if dataset is not None:
        changed |= _card(dataset, project)
        if proposed := proposed_augment(dataset, project, base):
            changed |= _augment(proposed, project)
    if encoder is not None:
        counting = {key: overrides[key] for key in _COUNTING if key in overrides}
        for key, value in counting.items():
            config.check(key, value)  # the whole is checked later, but these are used now
        flat = config.flatten(dict(base or {})) | changed | counting
        changed |= _encoder(encoder, flat, project)
    if augment is not None:
        changed |= _augment(augment, project)
    return changed | dict(overrides)


def expected_images(flat: Mapping[str, Any], project: Path) -> int | None:
    """Training images that a dataset's card promises; None where it promises none.

    Args:
        flat: parameters with dotted keys. project: directory that `dataset.source` is below.
    """
    count = _promised(flat, project).get("images")
    if not isinstance(count, int):
        return None
    count = min(count, flat.get("dataset.limit") or count)
    return count - round(count * flat.get("dataset.holdout", 0.0))


def _promised(flat: Mapping[str, Any], project: Path) -> dict[str, Any]:
    """What the card says that `dataset.source` names; nothing where it names none."""
    source = project / str(flat.get("dataset.source", ""))
    card = config.read_yaml(source) if source.suffix == ".yaml" and source.is_file() else {}
    return card if isinstance(card, dict) else {}


def frozen(project: Path | None = None) -> dict[str, Any]:
    """What every frozen encoder is trained on with, as dotted keys."""
    project = project or paths.project()
    preset = _mapping(directory("run", project) / "encoders" / "frozen.yaml")
    return preset | _augment("features", project)


def _encoder(name: str, flat: Mapping[str, Any], project: Path) -> dict[str, Any]:
    from vtcc.encoders import catalog

    known = catalog.names()
    if name not in known:
        raise VtccError(config.unknown("encoder", name, known))
    card = catalog.card(name)
    sides = _promised(flat, project).get("image_size")
    told = [side for side in sides if isinstance(side, int)] if isinstance(sides, list) else []
    size = card.size_for(min(told, default=None))
    changed = frozen(project) | {
        "train.model.encoder": name,
        "train.image_size": size,
        "validate.image_size": size,
    }
    changed["train.model.components"] = min(changed["train.model.components"], card.feature_dim)
    if images := expected_images(flat, project):
        changed["train.batch_size"] = min(changed["train.batch_size"], max(2, images // 2))
        changed["train.epochs"] = max(1, round(STEPS / (images // changed["train.batch_size"])))
    return changed


def _file(kind: str, name: str, project: Path) -> Path:
    known = names(kind, project)
    if name not in known:
        what = {"run": "preset", "augment": "augmentation preset"}.get(kind, f"{kind} preset")
        message = config.unknown(what, name, known)
        if kind == "run":
            message += "; datasets, which it may name as well: `vtcc datasets`"
        raise VtccError(message)
    return directory(kind, project) / f"{name}.yaml"


def check_encoder(values: Mapping[str, Any]) -> None:
    """Refuses an encoder that there is not, or weights that are no file, before anything runs.

    Args:
        values: nested params. Without timm nothing can be said.

    Raises:
        VtccError: with the names that come near.
    """
    model = values["train"]["model"]
    if model["encoder"] == "vit" or not importlib.util.find_spec("timm"):
        return
    from vtcc import encoders
    from vtcc.encoders.models import check

    name = model["encoder"].removeprefix("timm:")
    check(encoders.card(name).timm if name == model["encoder"] else name, model["weights"])


def run_text(name: str, project: Path | None = None) -> str:
    """The params file of a run preset, as text.

    Raises:
        VtccError: when there is no such preset, with the nearest name.
    """
    return regular(_file("run", name, project or paths.project())).read_text(encoding="utf-8")


def describe(kind: str, name: str, project: Path | None = None) -> str:
    """One line about a model or augmentation preset or a card of a dataset or an encoder."""
    if kind == "encoder":
        from vtcc.encoders import catalog

        return catalog.card(name).purpose
    if kind != "dataset":
        return comment(directory(kind, project) / f"{name}.yaml")
    card = _mapping((project or paths.project()) / CATALOG / f"{name}.yaml")
    images, classes = card.get("images"), card.get("classes")
    size = f"{images:,} images" if isinstance(images, int) else "images"
    return f"{size}, {classes} classes" if classes else size


def comment(file: Path) -> str:
    """A preset's first line, which says what it is for."""
    first = regular(file).read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""


def _mapping(file: Path) -> dict[str, Any]:
    values = config.read_yaml(file)
    if not isinstance(values, dict):
        raise VtccError(f"{file}: expected keys and values, found {values!r:.200}")
    return values


def _augment(name: str, project: Path) -> dict[str, Any]:
    values = _mapping(_file("augment", name, project))
    return {f"train.augment.{key}": value for key, value in values.items()}


def _card(name: str, project: Path) -> dict[str, Any]:
    known = names("dataset", project)
    if name not in known:
        raise VtccError(config.unknown("dataset", name, known))
    file = CATALOG / f"{name}.yaml"
    card = _mapping(project / file)
    for key in ("name", "channels"):
        if key not in card:
            raise VtccError(f"{project / file}: {key} is missing")
    changed = {
        "dataset.name": card["name"],
        "dataset.source": file.as_posix(),
        "dataset.channels": card["channels"],
    }
    if card.get("classes") is not None:
        changed["train.num_clusters"] = card["classes"]
    return changed


def proposed_augment(
    dataset: str, project: Path, base: Mapping[str, Any] | None = None
) -> str | None:
    """The augmentation preset that a card proposes where nothing else decides, or None.

    A card's word counts instead of the ranges of the preset `folder`, which is for any images, and
    of what another card proposed; the paper's ranges and a recipe's own stay as they are.

    Args:
        dataset: the card. base: nested parameters that it is put into.
    """
    proposed: str | None = _mapping(project / CATALOG / f"{dataset}.yaml").get("augment")
    if proposed is None or base is None:
        return proposed
    ours = {f"train.augment.{k}": v for k, v in base["train"]["augment"].items()}
    general = config.read_yaml(_file("run", "folder", project))["train"]["augment"]
    if base["train"]["augment"] == general:
        return proposed
    others = set(names("augment", project)) - _DECIDING
    return proposed if any(_augment(name, project) == ours for name in others) else None
