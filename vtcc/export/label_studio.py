"""Label Studio: tasks with the clusters as predictions, and the labelling configuration for them.

Images are served by Label Studio's own local storage, which takes paths from a folder that is
called document root: the one above the folder of the images, as a storage may not be that root.
"""

import json
import os
from pathlib import Path
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from vtcc.atomic import write_text
from vtcc.export.dataset import Dataset, Image, has_text_path
from vtcc.version import __version__

TASKS, CONFIG = "tasks.json", "config.xml"
_CONTROL, _OBJECT = "cluster", "image"


def write(dataset: Dataset, out: Path) -> None:
    """Writes `tasks.json` and `config.xml` into a folder; an image in no cluster has no prediction.

    Args:
        out: the folder.
    """
    served = [image for image in dataset.images if has_text_path(image)]
    above = storage(dataset).parent
    model = f"vtcc {__version__} {dataset.model}"
    tasks = [_task(image, os.path.relpath(image.file, above), model) for image in served]
    write_text(out / TASKS, json.dumps(tasks, ensure_ascii=False, allow_nan=False, indent=1) + "\n")
    choices = "".join(
        f"    <Choice value={quoteattr(name)}/>\n" for name in dataset.clusters.values()
    )
    write_text(
        out / CONFIG,
        f'<View>\n  <Image name="{_OBJECT}" value="$image" zoom="true"/>\n'
        f'  <Choices name="{_CONTROL}" toName="{_OBJECT}" choice="single" showInline="true">\n'
        f"{choices}  </Choices>\n</View>\n",
    )


def storage(dataset: Dataset) -> Path:
    """The folder that Label Studio has to serve: the one that all images are below."""
    folders = {image.file.parent for image in dataset.images if has_text_path(image)}
    return Path(os.path.commonpath(folders)) if folders else dataset.root


def _task(image: Image, path: str, model: str) -> dict[str, object]:
    address = f"/data/local-files/?d={quote(path)}"
    result = {
        "from_name": _CONTROL,
        "to_name": _OBJECT,
        "type": "choices",
        "value": {"choices": [image.label]},
    }
    prediction = {"model_version": model, "score": image.confidence, "result": [result]}
    return {
        "data": {"image": address, "file": image.name} | image.facts,
        "predictions": [] if image.cluster is None else [prediction],
    }
