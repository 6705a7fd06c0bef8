"""Stage `source`: what `dataset.source` and a file of weights hold now.

DVC would hash every file of a folder, and stop at what people's folders hold: a broken link, a
name that is not UTF-8, a pipe. This looks at names, sizes and times by the same walk as
`download`, in each `dvc repro`; `download` depends on the outcome. Of the file
`train.model.weights`, of which DVC sees the name, it notes the digest, on which `embed` depends.
"""

import json
from pathlib import Path

from vtcc import config, paths
from vtcc.atomic import write_text
from vtcc.data import catalog, folder
from vtcc.digests import sha256
from vtcc.stages import embed


def run() -> None:
    """Writes data/source.json and data/weights.json of the current directory.

    Raises:
        VtccError: when there is no such source, or a directory in it or the file of weights cannot
            be read.
    """
    params = config.load()
    origin = catalog.resolve(params.dataset.source)
    if isinstance(origin, catalog.Card):
        card = Path(params.dataset.source)
        kind, files, digest = "card", [card], sha256(card)
    elif origin.path.is_dir():
        kind, names = "folder", folder.listed(origin.path)
        files = [origin.path / name for name in names]
        digest = folder.fingerprint(names, [folder.stamp(file) for file in files])
    else:
        kind, files = "archive", [origin.path]
        digest = folder.fingerprint([""], [folder.stamp(origin.path)])
    described = {"kind": kind, "files": len(files), "digest": digest}
    weights = {"digest": embed.weights_digest(params.train.model.weights)}
    write_text(paths.WEIGHTS, json.dumps(weights) + "\n")
    write_text(paths.SOURCE, json.dumps(described, indent=2) + "\n")
