"""Stage `source`: what `dataset.source` holds now, so that DVC need not read it.

DVC would hash every file of a folder, and stop at what people's folders hold: a broken link, a
name that is not UTF-8, a pipe. This looks at names, sizes and times by the same walk as
`download`, in each `dvc repro`; `download` depends on the outcome.
"""

import json
from pathlib import Path

from vtcc import config, paths
from vtcc.atomic import write_text
from vtcc.data import catalog, folder
from vtcc.digests import sha256


def run() -> None:
    """Writes data/source.json of the current directory.

    Raises:
        VtccError: when there is no such source, or a directory in it cannot be read.
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
    write_text(paths.SOURCE, json.dumps(described, indent=2) + "\n")
