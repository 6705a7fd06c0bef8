"""Labels, where there are any, joined to the cached images."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vtcc.errors import VtccError
from vtcc.progress import note
from vtcc.regular import regular


@dataclass(frozen=True)
class Labels:
    """The labels of N images; `known[i]` says whether image i has one.

    Attributes:
        known: (N,) bool.
        label: N words that scores compare, "" where unknown.
        class_name: N words that people read, "" where unknown.
    """

    known: np.ndarray
    label: list[str]
    class_name: list[str]


def read_labels(file: Path, image_paths: Sequence[str]) -> Labels | None:
    """Joins `data/labels/labels.csv` to the cached images by path.

    Args:
        file: the table `path,label,class_name`.
        image_paths: of the cache, one per image.

    Returns:
        None when there is no label at all.

    Raises:
        VtccError: when the file is not such a table, or names an image twice.
    """
    try:
        with regular(file).open(encoding="utf-8", newline="") as opened:
            reader = csv.DictReader(opened)
            if not {"path", "label"} <= set(reader.fieldnames or []):
                raise VtccError(
                    f"{file}: expected the columns path,label,class_name, found "
                    f"{','.join(reader.fieldnames or []) or 'none'}; run `vtcc download` again"
                )
            labelled: dict[str, tuple[str, str]] = {}
            for row in reader:
                if row["path"] in labelled:
                    raise VtccError(f"{file}: {row['path']!r} is listed twice; keep one label")
                if row["label"]:
                    labelled[row["path"]] = (row["label"], row.get("class_name") or row["label"])
    except FileNotFoundError:
        note(f"{file}: no such file; evaluating without labels")
        return None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise VtccError(f"{file}: not readable ({error}); run `vtcc download` again") from None
    pairs = [labelled.get(path, ("", "")) for path in image_paths]
    known = np.array([bool(label) for label, _ in pairs])
    if not known.any():
        if labelled:
            note(f"{file}: none of its {len(labelled)} labels belongs to a cached image")
        return None
    return Labels(known, [label for label, _ in pairs], [name for _, name in pairs])
