"""A picture of images beside random views of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vtcc.analysis.plots import INK, figure_file


@dataclass(frozen=True)
class Section:
    """The rows of one augmentation.

    Attributes:
        title: above the rows.
        originals: n images, (h, w, 3) uint8 each.
        first, second: (n, columns, S, S, 3) floats in 0-1.
    """

    title: str
    originals: Sequence[np.ndarray]
    first: np.ndarray
    second: np.ndarray


def views(path: Path, sections: Sequence[Section]) -> None:
    """A row per image: the original, its first views, its second views.

    Args:
        path: of the PNG.
        sections: one below the other, all with the same number of columns.
    """
    columns = 1 + 2 * sections[0].first.shape[1]
    rows = [len(s.originals) for s in sections]
    size = (1.25 * columns, sum(1.25 * n + 0.45 for n in rows))
    with figure_file(path, size) as figure:
        parts = figure.subfigures(len(sections), 1, height_ratios=rows, squeeze=False)[:, 0]
        for section, part in zip(sections, parts, strict=True):
            part.suptitle(section.title, x=0.01, ha="left", fontsize=11, color=INK)
            axes = part.subplots(len(section.originals), columns, squeeze=False)
            for i, row in enumerate(axes):
                pictures = [section.originals[i] / 255, *section.first[i], *section.second[i]]
                for ax, picture in zip(row, pictures, strict=True):
                    ax.imshow(np.clip(picture, 0, 1), interpolation="nearest", vmin=0, vmax=1)
                    ax.set_axis_off()
            half = section.first.shape[1]
            for at, name in ((0, "original"), (1, "first views"), (1 + half, "second views")):
                axes[0, at].set_title(name, loc="left", fontsize=8)
