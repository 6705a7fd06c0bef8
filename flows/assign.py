"""The deployment `vtcc/assign`: sort a folder of images into the champion's clusters."""

import time
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.logging import get_run_logger
from prefect.runtime import flow_run

from flows import artifacts, models, session, verbs
from flows.parameters import Alias, BatchSize, Folder, RegisteredModel, TableFile, Version
from vtcc import paths
from vtcc.atomic import beside
from vtcc.errors import VtccError
from vtcc.grouping import assignments
from vtcc.pages import contact_sheet

DIRECTORY = paths.REPORTS / "assigned"
THUMBNAILS = {"channels": 3, "max_pixels": 100_000_000, "size": contact_sheet.SIDE}


def run_name() -> str:
    """Folder and model."""
    given = flow_run.parameters
    model = models.short(given.get("model") or "champion")
    return f"assign {Path(str(given.get('folder') or '?')).name} by {model}"


@flow(**session.OPTIONS, flow_run_name=run_name)
@session.explained
def assign(
    folder: Folder,
    model: RegisteredModel | None = None,
    version: Version | None = None,
    alias: Alias | None = None,
    out: TableFile | None = None,
    batch_size: BatchSize = 512,
) -> Any:
    """Writes a table with cluster and confidence of every image in a folder.

    Args:
        folder: images, relative to the project; searched with all folders below it.
        model: a registered name such as vtcc-digits, or models:/NAME/3, models:/NAME@alias;
            without it, the model of the dataset in params.yaml.
        version: of the registered name.
        alias: of the registered name; without version and alias, champion.
        out: the table, .csv, .parquet or .json, relative to the project; without it a CSV in
            reports/assigned.
        batch_size: images per forward pass.

    Returns:
        The table's path and how many images each cluster has.

    Raises:
        VtccError: on a folder without images, or a model that is not there.
    """
    project = paths.project()
    source = project / folder
    if not source.is_dir():
        raise VtccError(f"folder {folder}: no such directory (looked for {source})")
    address = models.uri(model, version, alias, project)
    if out:
        target = project / out
    else:
        stamp = f"{time.strftime('%Y%m%d-%H%M%S')}-{str(flow_run.id)[:6]}"
        target = beside(project / DIRECTORY / source.resolve().name, "", f"-{stamp}.csv")
        target.parent.mkdir(parents=True, exist_ok=True)
    assignments.check(target)
    with session.session(trains=False):
        command = ["predict", str(source), "--model", address, "--out", str(target)]
        verbs.run_task("predict", [*command, "--batch-size", str(batch_size)], project)
        rows = [row for row in assignments.read(target) if row.cluster is not None]
        counts = clusters(rows)
        description = f"- table: `{target}`\n- images: `{source}`\n- model: `{address}`"
        artifacts.table("vtcc-clusters", counts, description)
        certain = [(r.cluster, r.confidence or 0.0, r.file) for r in rows if r.cluster is not None]
        artifacts.sheet("vtcc-gallery", lambda: contact_sheet.of_files(certain, THUMBNAILS))
    get_run_logger().info("%d images in %d clusters: %s", len(rows), len(counts), target)
    return {"table": str(target), "clusters": {str(r["cluster"]): r["images"] for r in counts}}


def clusters(rows: list[assignments.Row]) -> list[dict[str, Any]]:
    """Images and mean confidence of each cluster, the largest first."""
    members: dict[int, list[float]] = {}
    for row in rows:
        if row.cluster is not None:
            members.setdefault(row.cluster, []).append(row.confidence or 0.0)
    return [
        {
            "cluster": c,
            "images": len(confidences),
            "mean confidence": round(sum(confidences) / len(confidences), 4),
        }
        for c, confidences in sorted(members.items(), key=lambda item: (-len(item[1]), item[0]))
    ]
