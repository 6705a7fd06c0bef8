"""`vtcc demo`: `vtcc cluster` on pictures that every installation has."""

import os
import sys
import time
import webbrowser
from pathlib import Path
from typing import Any

from vtcc.errors import VtccError
from vtcc.progress import note

# Two photographs of 427 x 640 pixels, a temple and a flower, ship with scikit-learn.
PHOTOGRAPHS = ("temple", "flower")
ROWS, COLUMNS = 7, 10  # of tiles, 61 x 64 pixels each
CLUSTERS, MINUTES = (2, 12), 3.0  # a range to choose from; at most


def run(out: Path, *, open_page: bool = True) -> dict[str, Any]:
    """Cuts the photographs into tiles, groups these, and opens the page.

    Args:
        out: a folder of its own, for `tiles` and `clusters`. Finished results in it are shown
            again; an interrupted run goes on.
        open_page: in a browser, where there is a screen.

    Returns:
        As `vtcc.grouping.summary.headline`.

    Raises:
        VtccError: when `out` holds something else or cannot be written.
    """
    began = time.monotonic()
    from vtcc.grouping import summary, workdir
    from vtcc.grouping.options import Options
    from vtcc.grouping.run import run as cluster

    tiles, results = out / "tiles", out / "clusters"
    if out.exists() and not _is_own(out):
        raise VtccError(f"--out: {out} holds something else; name a new folder")
    if not (results / summary.FILE).exists():
        asked = Options(tiles, results, clusters=CLUSTERS, minutes=MINUTES)
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise VtccError(
                f"--out: {out} cannot be written to ({error.strerror}); name another folder"
            ) from None
        with workdir.alone(results):
            workdir.refuse_taken(results, asked)
            if not tiles.exists():
                _cut(tiles)
            cluster(asked)
    shown = summary.headline(results, began=began)
    page = Path(shown["report"])
    if open_page and _has_screen() and webbrowser.open(page.as_uri()):
        note("the page is open in your browser")
    else:
        note(f"open {page} in a browser")
    note("your own pictures: vtcc cluster FOLDER")
    return shown


def _is_own(out: Path) -> bool:
    """Whether nothing is in a folder but what this command writes."""
    if not out.is_dir():
        return False
    shown = {entry for entry in out.iterdir() if not entry.name.startswith(".")}
    if not (shown <= {out / "tiles", out / "clusters"} and all(entry.is_dir() for entry in shown)):
        return False
    return all(
        tile.name.startswith(PHOTOGRAPHS) and tile.suffix == ".png"
        for tile in (out / "tiles").glob("*")
    )


def _cut(tiles: Path) -> None:
    """Writes the tiles as PNG files; all are there or the directory is not."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    from vtcc.atomic import atomic_directory

    photographs = load_sample_images()
    with atomic_directory(tiles) as building:
        for name, photograph in zip(PHOTOGRAPHS, photographs.images, strict=True):
            height, width = photograph.shape[0] // ROWS, photograph.shape[1] // COLUMNS
            for i in range(ROWS):
                for j in range(COLUMNS):
                    top, left = i * height, j * width
                    tile = photograph[top : top + height, left : left + width]
                    Image.fromarray(tile).save(building / f"{name}-{i}-{j}.png")


def _has_screen() -> bool:
    """Whether a browser would be a window; in a terminal it would take the terminal."""
    if sys.platform in ("darwin", "win32"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
