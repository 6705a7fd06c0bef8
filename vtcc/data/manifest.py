"""The tables beside the images: which there are, how they are split, what they are called."""

import csv
import hashlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from vtcc.errors import VtccError
from vtcc.regular import regular

MANIFEST_COLUMNS = ["path", "bytes", "sha256", "split"]
_SPLITS = ("train", "holdout")
LABEL_COLUMNS = ["path", "label", "class_name"]


def choose(count: int, *, limit: int, holdout: float, seed: int) -> tuple[np.ndarray, list[str]]:
    """Draws the subset and the held-out images, blind to anything but the number of images.

    A larger limit with the same seed contains the smaller one. At least two images are left to
    train on.

    Args:
        count: images there are, in sorted order of their paths.
        limit: at most this many are kept; 0 for all.
        holdout: fraction of the kept ones that is set apart, rounded to whole images.
        seed: of the draw.

    Returns:
        Ascending indices of the kept images, int64, and `train` or `holdout` for each.
    """
    kept = np.random.default_rng(seed).permutation(count)[: limit or None]
    apart = min(round(holdout * len(kept)), max(len(kept) - 2, 0))
    held = set(kept[:apart].tolist())
    kept = np.sort(kept)
    return kept, ["holdout" if i in held else "train" for i in kept.tolist()]


def digest(paths: Sequence[str], hashes: Sequence[str]) -> str:
    """Names the images: sha256 in hex over their paths and hashes, in the order given."""
    sha = hashlib.sha256()
    for path, value in zip(paths, hashes, strict=True):
        # The length keeps two names from sharing their letters differently.
        sha.update(f"{len(path)}:{path}:{value}\n".encode())
    return sha.hexdigest()


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Writes a CSV in which any file name survives: all text is quoted."""
    table.to_csv(path, index=False, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")


def read_manifest(path: Path) -> pd.DataFrame:
    """Reads `data/raw/manifest.csv`.

    Returns:
        Columns path (str), bytes (int64), sha256 (str), split (str).

    Raises:
        VtccError: when it is missing, has other columns or values, or names files elsewhere.
    """
    table = _read(path, MANIFEST_COLUMNS, "vtcc download", whole="bytes")
    for name in table["path"]:
        parts = PurePosixPath(name)
        if not parts.parts or parts.is_absolute() or ".." in parts.parts or "\0" in name:
            raise VtccError(
                f"{path}: found {name[:200]!r}, which is no path below the images; run "
                "`vtcc download`"
            )
    strange = table.loc[~table["split"].isin(_SPLITS), "split"]
    if len(strange):
        raise VtccError(
            f"{path}: split: found {strange.iloc[0][:200]!r}; allowed: {' | '.join(_SPLITS)}; run "
            "`vtcc download`"
        )
    return table


def read_labels(path: Path) -> pd.DataFrame:
    """Reads `data/labels/labels.csv`; no rows where there are no labels.

    Returns:
        Columns path (str), label (int64), class_name (str).

    Raises:
        VtccError: when it is missing, or has other columns or values.
    """
    return _read(path, LABEL_COLUMNS, "vtcc download", whole="label")


def _read(path: Path, columns: list[str], remedy: str, *, whole: str) -> pd.DataFrame:
    """A table of text, but for a column of whole numbers."""
    try:
        # A class called NA or an image called null.png is not a missing value.
        table = pd.read_csv(regular(path), dtype=str, keep_default_na=False, na_filter=False)
    except FileNotFoundError:
        raise VtccError(f"{path}: no such file; run `{remedy}`") from None
    except (OSError, ValueError, pd.errors.ParserError) as error:
        reason = " ".join(str(error).split())
        raise VtccError(f"{path}: not a readable table ({reason}); run `{remedy}`") from None
    if list(table.columns) != columns:
        raise VtccError(
            f"{path}: expected the columns {', '.join(columns)}, found "
            f"{', '.join(table.columns)}; run `{remedy}`"
        )
    strange = table.loc[~table[whole].str.fullmatch(r"[0-9]{1,18}"), whole]
    if len(strange):
        raise VtccError(
            f"{path}: {whole}: found {strange.iloc[0][:200]!r}, not a whole number; run `{remedy}`"
        )
    return table.astype({whole: "int64"})
