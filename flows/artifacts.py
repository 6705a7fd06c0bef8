"""What a run's page shows: scores, stages, links, pictures. Nothing here can fail a run."""

import base64
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prefect.artifacts import (
    create_image_artifact,
    create_link_artifact,
    create_markdown_artifact,
    create_table_artifact,
)
from prefect.logging import get_run_logger

from vtcc.analysis.scores import SCORES
from vtcc.runner import dvc
from vtcc.study import records

# A picture lies in the server's database; a larger one is made smaller.
PICTURE_BYTES, PICTURE_PIXELS = 400_000, 1000


def _shown(create: Callable[..., None]) -> Callable[..., None]:
    """A run goes on without its artifact: the server may be away, a picture missing."""

    @functools.wraps(create)
    def shown(*given: Any, **named: Any) -> None:
        try:
            create(*given, **named)
        except Exception as error:
            get_run_logger().warning("artifact of %s: %s", create.__name__, error)

    return shown


@_shown
def table(key: str, rows: list[dict[str, Any]], description: str) -> None:
    """A table under a key of its own."""
    create_table_artifact(key=key, table=rows, description=description)


@_shown
def stages(runs: list[dvc.StageRun], link: str | None, run_id: str | None) -> None:
    """The artifact `vtcc-stages`: what was computed, what was cached and by which run."""
    shown_run = f"[{run_id}]({link})" if link else run_id or "not tracked"
    lines = ["| stage | | seconds | MLflow run |", "|---|---|---|---|"]
    lines += [
        f"| {r.stage} | {r.how if r.how == 'ran' else f'cached ({r.how})'} | {r.seconds:.1f} | "
        f"{shown_run if r.stage in ('train', 'evaluate') else ''} |"
        for r in runs
    ]
    create_markdown_artifact(key="vtcc-stages", markdown="\n".join(lines))


@_shown
def mlflow_link(link: str, run_id: str) -> None:
    """The artifact `vtcc-mlflow`."""
    create_link_artifact(key="vtcc-mlflow", link=link, link_text=f"MLflow run {run_id}")


@_shown
def picture(key: str, image: Path | bytes, description: str) -> None:
    """A PNG with its data in it: pages need no other server."""
    data = image if isinstance(image, bytes) else image.read_bytes()
    encoded = base64.b64encode(_small(data)).decode()
    create_image_artifact(
        image_url=f"data:image/png;base64,{encoded}", key=key, description=description
    )


@_shown
def sheet(key: str, make: Callable[[], bytes]) -> None:
    """Thumbnails, a row per cluster; made here, so that what goes wrong is told and no more."""
    picture(key, make(), "a row per cluster, the most certain images first")


def _small(data: bytes) -> bytes:
    if len(data) <= PICTURE_BYTES:
        return data
    import io

    from PIL import Image

    picture = Image.open(io.BytesIO(data))
    picture.thumbnail((PICTURE_PIXELS, PICTURE_PIXELS))
    file = io.BytesIO()
    picture.convert("P", palette=Image.Palette.ADAPTIVE).save(file, "PNG", optimize=True)
    return file.getvalue()


def score_table(metrics: dict[str, Any]) -> list[dict[str, Any]]:
    """A row for the model, one for its held-out images and one per baseline."""
    return [
        {"method": name} | {s: _rounded(metrics.get(prefix + s)) for s in SCORES}
        for name, prefix in records.methods(metrics).items()
    ]


def one_line(metrics: dict[str, Any], otherwise: str) -> str:
    """The scores for a log; `otherwise` where there are none."""
    return " ".join(f"{s} {metrics[s]:.4f}" for s in SCORES if s in metrics) or otherwise


def _rounded(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value


def run_url(experiment_id: str, run_id: str) -> str:
    """The run's page: of the tracking server, else of `make ui`."""
    from vtcc.tracking import store

    return f"{store.pages()}/#/experiments/{experiment_id}/runs/{run_id}"
