"""Edits and parameters: good files, how their words are changed, and how they are read."""

import functools
import json
import random
import re
from pathlib import Path
from typing import Any

from vtcc import config

_MODEL = "0" * 16
_WORDS = re.compile(rb'"[^"\n]*"|[\w.+-]+|[^\w\s"]|\s+')
# What a reader may not expect in the place of another word.
_ODD = (
    b"null", b"true", b"-1", b"0", b"1e999", b"NaN", b"9" * 400, b'""', b"[]", b"{}", b"[[[[]]]]",
    b"1.5", b"~", b'"\\ud800"', b'"\\u0000"', b"!!python/name:os.system", b"&a [*a]", b"<<: {}",
    b"2020-01-01", b"0x10", b"042", b"|", b"\xff", b"\xef\xbb\xbf", b"\x00", b"\t", b"\r",
    b":", b"#",
)  # fmt: skip


def texts_of(kind: str) -> list[bytes]:
    """Good files: one of edits of every kind, or complete sets of parameters."""
    if kind == "params":
        return [file.read_bytes() for file in sorted(config.PRESETS.glob("*.yaml"))]
    edits = [
        {"do": "rename", "cluster": 0, "name": "boats"},
        {"do": "merge", "clusters": [1, 2], "into": 2, "name": "cars"},
        {"do": "move", "files": ["f22.png"], "to": 3},
        {"do": "exclude_files", "files": ["f21.png"]},
        {"do": "split", "cluster": 3, "into": 2},
        {"do": "split", "cluster": 0, "files": [["f00.png", "f01.png"], ["f02.png", "f03.png"]]},
        {"do": "new", "cluster": 4, "name": "seven", "files": ["f23.png", "f24.png"]},
        {"do": "exclude", "cluster": 0},
        {"do": "decline", "cluster": 4},
    ]
    some = [edits[:4], *([edit] for edit in edits)]
    head = {"format": 1, "model": _MODEL, "next": 5}
    return [json.dumps(head | {"edits": chosen}, indent=1).encode() for chosen in some]


def with_words(data: bytes, rng: random.Random) -> bytes:
    """Some words are replaced, dropped, doubled or exchanged."""
    words = _WORDS.findall(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        at, other = rng.randrange(len(words)), rng.randrange(len(words))
        kind = rng.randrange(4)
        if kind == 0:
            words[at] = rng.choice(_ODD)
        elif kind == 1:
            words[at] = b""
        elif kind == 2:
            words[at] *= rng.choice((2, 3, 200))
        else:
            words[at] = words[other]
    return b"".join(words)


def read_text(kind: str, data: bytes, place: Path) -> None:
    """Reads a file of either kind; edits are applied to four small clusters as well.

    Raises:
        VtccError: as of the readers.
    """
    file = place / "sample"
    file.write_bytes(data)
    if kind == "params":
        config.load(file)
        return
    from vtcc.grouping import edits, edits_file

    wanted = edits_file.read(file, _MODEL)
    edits.apply(_state(), wanted.edits, following=wanted.following)


@functools.cache
def _state() -> Any:
    import numpy as np

    from vtcc.grouping import edits
    from vtcc.grouping.clusters import Clusters

    group = np.repeat(np.arange(4), 10)
    h = np.eye(6)[group] * 5 + np.random.default_rng(0).normal(0, 0.1, (40, 6))
    p = np.full((40, 4), 0.02)
    p[np.arange(40), group] = 0.94
    clusters = Clusters.fit(p.astype(np.float32), h.astype(np.float32))
    files = {f"f{i:02d}.png": i for i in range(40)}
    proposed = {4: ["f23.png", "f24.png"]}
    return edits.State(clusters, files, h.astype(np.float32), group, {}, proposed=proposed)
