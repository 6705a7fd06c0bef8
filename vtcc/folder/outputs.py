"""What `vtcc cluster` and `vtcc refine` leave: tables, links by cluster, the embedding."""

import csv
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

COLUMNS = (
    "file",
    "cluster",
    "name",
    "confidence",
    "distance",
    "second",
    "outlier",
    "error",
)
EMBEDDING = "embedding.npz"


@dataclass(frozen=True)
class Assigned:
    """The table's rows, in the order of the files.

    Attributes:
        files: M names relative to the folder.
        row: name -> row of the arrays, for the N that could be read.
        cluster: (N,) int64 ids, -1 where the image was excluded.
        names: id -> name of the cluster.
        confidence, distance: (N,) floats. second: (N,) ids, -1 for none. outlier: (N,) bool.
        errors: name -> why it could not be read.
    """

    files: Sequence[str]
    row: Mapping[str, int]
    cluster: np.ndarray
    names: Mapping[int, str]
    confidence: np.ndarray
    distance: np.ndarray
    second: np.ndarray
    outlier: np.ndarray
    errors: Mapping[str, str]

    def rows(self) -> list[dict[str, object]]:
        """One per file; None where there is nothing to say."""
        found = []
        for file in self.files:
            i = self.row.get(file)
            line: dict[str, object] = dict.fromkeys(COLUMNS)
            line |= {"file": file, "name": "", "error": self.errors.get(file, "")}
            if i is not None:
                k = int(self.cluster[i])
                line |= {
                    "cluster": k if k >= 0 else None,
                    "name": self.names.get(k, ""),
                    "confidence": round(float(self.confidence[i]), 6),
                    "distance": _number(self.distance[i]),
                    "second": int(self.second[i]) if self.second[i] >= 0 else None,
                    "outlier": bool(self.outlier[i]),
                }
            found.append(line)
        return found


def _number(value: float) -> float | None:
    return round(float(value), 6) if np.isfinite(value) else None


def tables(directory: Path, assigned: Assigned) -> None:
    """Writes assignments.csv, .parquet and .json with the same rows."""
    import pandas as pd

    rows = assigned.rows()
    with (directory / "assignments.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for row in rows:
            said = {k: "" if v is None else v for k, v in row.items()}
            if row["outlier"] is not None:
                said["outlier"] = str(row["outlier"]).lower()
            writer.writerow(said)
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (directory / "assignments.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    kinds = {"cluster": "Int64", "second": "Int64", "outlier": "boolean"}
    kinds |= {"confidence": "float64", "distance": "float64"}
    table.astype(kinds).to_parquet(directory / "assignments.parquet", index=False)


def links(directory: Path, root: Path, assigned: Assigned, *, copies: bool) -> None:
    """`folders/NAME/...`: a link (or copy) of each image, by cluster.

    Args:
        directory: of the output. root: of the images. copies: files instead of links.
    """
    folders = folder_names(assigned.names)
    made: set[Path] = set()
    for file in assigned.files:
        i = assigned.row.get(file)
        if i is None or assigned.cluster[i] < 0:
            continue
        place = directory / "folders" / folders[int(assigned.cluster[i])] / file.replace("/", "__")
        if place.parent not in made:
            place.parent.mkdir(parents=True)
            made.add(place.parent)
        source = root / file
        if copies:
            shutil.copy2(source, place)
        else:
            place.symlink_to(source)


def folder_names(names: Mapping[int, str]) -> dict[int, str]:
    """Names that any file system takes, no two alike."""
    found: dict[int, str] = {}
    for k, name in names.items():
        plain = re.sub(r"[^\w .()-]+", "_", name).strip(" .")[:80] or f"cluster {k}"
        if plain.casefold() in {other.casefold() for other in found.values()}:
            plain = f"{plain} ({k})"
        found[k] = plain
    return found


def save_embedding(directory: Path, **arrays: np.ndarray) -> None:
    """Writes `embedding.npz`, which holds plain arrays only."""
    with (directory / EMBEDDING).open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def load_embedding(directory: Path) -> dict[str, np.ndarray]:
    """Reads it back; nothing in it is run."""
    with np.load(directory / EMBEDDING, allow_pickle=False) as saved:
        return {name: saved[name] for name in saved.files}
