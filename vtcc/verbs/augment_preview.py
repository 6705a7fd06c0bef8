"""`vtcc augment-preview`: what an augmentation does to images, as a picture.

The images are those of `data/cache`; without one, samples that ship with scikit-learn.
"""

from pathlib import Path
from typing import Any

from vtcc import config, paths
from vtcc.config import compose
from vtcc.errors import VtccError
from vtcc.progress import note

VIEWS = 4  # of each kind, per image
DEFAULT_SIZE = 224
GLYPH_SIZE = 16  # of the digits preset; the samples have 8 pixels


def run(
    names: list[str], *, out: Path, images: int = 4, size: int | None = None, seed: int = 0
) -> None:
    """Draws `out`: a section per preset, a row per image.

    Args:
        names: augmentation presets, `all`, or nothing for `train.augment` of params.yaml.
        out: PNG.
        images: rows per section.
        size: side of a view in pixels; by default `train.image_size`, or what suits the samples.
        seed: of the images' choice and of the draws; the views of an image depend on nothing else.

    Raises:
        VtccError: when a preset is unknown or there is nothing to show.
    """
    if out.suffix.lower() != ".png":
        raise VtccError(f"--out {out}: allowed: a file that ends in .png")
    if out.is_dir():
        raise VtccError(f"--out {out}: a directory; name a file")
    chosen = _chosen(names)
    sections = [
        _section(name, augment, *_images(name, images, size, seed), seed=seed)
        for name, augment in chosen.items()
    ]
    out.parent.mkdir(parents=True, exist_ok=True)
    _draw(out, sections)
    note(f"{out}: {', '.join(chosen)}")


def _chosen(names: list[str]) -> dict[str, config.Augment]:
    """Title -> ranges."""
    if not names:
        return {paths.PARAMS.name: config.load().train.augment}
    folder, known = compose.directory("augment"), compose.names("augment")
    if "all" in names:
        names = known
    for name in names:
        if name not in known:
            raise VtccError(config.unknown("--augment", name, [*known, "all"]))
    return {
        name: config.from_dict(config.Augment, config.read_yaml(folder / f"{name}.yaml"), name)
        for name in names
    }


def _images(name: str, count: int, size: int | None, seed: int) -> tuple[list[Any], int, str]:
    """Images (h, w, C) uint8, the side of their views, and where they come from."""
    import numpy as np

    rng = np.random.default_rng(seed)
    params = config.load() if paths.PARAMS.exists() else None
    if params and (paths.CACHE / "cache.json").exists():
        from vtcc.data.cache import open_cache

        cache = open_cache(paths.CACHE)
        rows = cache.rows("train")
        rows = np.sort(rng.choice(rows, min(count, len(rows)), replace=False))
        return (
            [np.array(cache.images[row]) for row in rows],
            size or params.train.image_size,
            (cache.name),
        )
    own = params if params and name == paths.PARAMS.name else None
    if name == "glyphs" or (own and own.dataset.channels == 1):
        from sklearn.datasets import load_digits

        digits = load_digits().images
        rows = rng.choice(len(digits), count, replace=False)
        pixels = [(digits[row] * 255 / 16).astype(np.uint8)[..., None] for row in rows]
        return pixels, size or (own.train.image_size if own else GLYPH_SIZE), "sample digits"
    from sklearn.datasets import load_sample_images

    photos = load_sample_images().images[:count]
    # The middle square: views are cut from squares, as the cache holds them.
    squares = [
        photo[:, (photo.shape[1] - photo.shape[0]) // 2 :][:, : len(photo)] for photo in photos
    ]
    return squares, size or (own.train.image_size if own else DEFAULT_SIZE), "sample photos"


def _section(
    name: str, augment: config.Augment, images: list[Any], size: int, source: str, *, seed: int
) -> tuple[str, list[list[Any]]]:
    """A title and, of each image, the row of its pictures: itself, its first and second views.

    Pictures are (h, w, 3) floats, about 0-1.
    """
    import numpy as np
    import torch
    import torch.nn.functional as F

    from vtcc.engine.augment import view
    from vtcc.pages.thumbnails import displayable

    generator = torch.Generator().manual_seed(seed)

    def drawn(image: np.ndarray, second: bool) -> np.ndarray:
        x = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255
        # As the cache would hold it: a little larger than the view.
        side = round(size * 8 / 7)
        if source.startswith("sample"):
            x = F.interpolate(x, (side, side), mode="bilinear", antialias=True).clamp(0, 1)
        batch = x.expand(VIEWS, -1, -1, -1)
        views = view(batch, augment, size, generator, second=second).permute(0, 2, 3, 1).numpy()
        return displayable(views)

    first = [drawn(image, False) for image in images]
    second = [drawn(image, True) for image in images]
    rows = [
        [displayable(image) / 255, *a, *b]
        for image, a, b in zip(images, first, second, strict=True)
    ]
    return f"{name}, {size} px ({source})", rows


def _draw(out: Path, sections: list[tuple[str, list[list[Any]]]]) -> None:
    """Sections one below the other, a line for each row of pictures."""
    from vtcc.analysis.plots import INK, figure_file

    columns = 1 + 2 * VIEWS
    heights = [len(rows) for _, rows in sections]
    size = (1.25 * columns, sum(1.25 * n + 0.45 for n in heights))
    with figure_file(out, size) as figure:
        parts = figure.subfigures(len(sections), 1, height_ratios=heights, squeeze=False)[:, 0]
        for (title, rows), part in zip(sections, parts, strict=True):
            part.suptitle(title, x=0.01, ha="left", fontsize=11, color=INK)
            axes = part.subplots(len(rows), columns, squeeze=False)
            for pictures, line in zip(rows, axes, strict=True):
                for picture, ax in zip(pictures, line, strict=True):
                    ax.imshow(picture.clip(0, 1), interpolation="nearest", vmin=0, vmax=1)
                    ax.set_axis_off()
            for at, name in ((0, "original"), (1, "first views"), (1 + VIEWS, "second views")):
                axes[0, at].set_title(name, loc="left", fontsize=8)
