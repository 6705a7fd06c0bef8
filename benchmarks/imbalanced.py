"""scikit-learn's digits with classes of unequal size, as a zip that the pipeline reads.

    python -m benchmarks.imbalanced

writes `data/digits-imbalanced.zip`: class 0 keeps its images, class 9 a ninth of them (20), those
between fall geometrically, the first images of each class in the order of the dataset. Labels
make the images unequal and score at the end; training sees none.
"""

import argparse
import io
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

CLASSES = 10


def kept(label: int, count: int, ratio: float) -> int:
    """How many of a class's images stay; `ratio` is the last class's share of its own."""
    return max(1, round(count * ratio ** (label / (CLASSES - 1))))


def main() -> None:
    """Writes the zip."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.imbalanced", description=__doc__)
    parser.add_argument("--ratio", type=float, default=1 / 9, help="share that class 9 keeps")
    parser.add_argument("--out", type=Path, default=Path("data/digits-imbalanced.zip"))
    given = parser.parse_args()
    digits = load_digits()
    written = 0
    with zipfile.ZipFile(given.out, "w") as archive:
        for label in range(CLASSES):
            rows = np.flatnonzero(digits.target == label)
            for row in rows[: kept(label, len(rows), given.ratio)]:
                pixels = np.round(digits.images[row] * 255 / 16).astype(np.uint8)
                file = io.BytesIO()
                Image.fromarray(pixels).save(file, "PNG")
                # A fixed date, so that the same images are the same file.
                name = zipfile.ZipInfo(f"{label}/{row:04d}.png")
                archive.writestr(name, file.getvalue())
                written += 1
    print(f"{given.out}: {written} digits")


if __name__ == "__main__":
    main()
