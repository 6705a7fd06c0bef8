"""duplicates.csv of a large collection: images that look like an earlier one, and like which."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vtcc.atomic import atomic_file
from vtcc.data import duplicates
from vtcc.data.spreadsheet import path_cell
from vtcc.grouping.rest import Rest
from vtcc.progress import note

FILE = "duplicates.csv"
BITS = 2  # of 64 that may differ


def write(directory: Path, names: Sequence[str], sketches: np.ndarray) -> int:
    """Compares all images of results, those in shards too, and writes the table.

    Args:
        directory: of the results, being built. names: of the n images that are shown.
        sketches: (n, 8, 9) of `duplicates.sketch`, of these.

    Returns:
        How many images look like an earlier one; the images that are shown come first.
    """
    every, drawn = list(names), [sketches]
    for shard in Rest.of(directory):
        every += shard.readable
        drawn.append(shard.sketches)
    note(f"looking for images that look alike among {len(every)}")
    together = np.concatenate(drawn)
    drawn.clear()
    first = duplicates.groups(duplicates.nearest_earlier(together, BITS))
    later = np.flatnonzero(first != np.arange(len(first)))
    with (
        atomic_file(directory / FILE) as building,
        building.open("w", encoding="utf-8", newline="") as file,
    ):
        table = csv.writer(file)
        table.writerow(("file", "looks_like"))
        for row in later.tolist():
            table.writerow((path_cell(every[row]), path_cell(every[first[row]])))
    return len(later)
