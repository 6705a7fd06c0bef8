"""The benchmark of large collections makes what it says, the same each time."""

import io
import tarfile

import numpy as np
from PIL import Image

from benchmarks import collection
from tests.grouping.test_collection import draw


def members(shards):
    found = {}
    for shard in sorted(shards.glob("*.tar")):
        with tarfile.open(shard) as archive:
            found |= {m.name: archive.extractfile(m).read() for m in archive}
    return found


def test_images_are_made_in_shards(tmp_path, monkeypatch):
    monkeypatch.setattr(collection, "PER_SHARD", 8)
    monkeypatch.setattr(collection, "BROKEN", 10)
    draw(tmp_path / "photos", 5)
    collection.make(tmp_path / "photos", tmp_path / "a", 20)
    assert [f.name for f in sorted((tmp_path / "a").iterdir())] == [
        "00000.tar",
        "00001.tar",
        "00002.tar",
    ]
    made = members(tmp_path / "a")
    assert list(made) == [f"{i:07d}.jpg" for i in range(20)]
    assert [name for name, data in made.items() if data == b"no image"] == [
        "0000009.jpg",
        "0000019.jpg",
    ]
    pixels = np.asarray(Image.open(io.BytesIO(made["0000000.jpg"])))
    assert pixels.shape == (64, 64, 3)
    assert len(set(made.values())) == 19
    (tmp_path / "a" / "00001.tar").unlink()
    collection.make(tmp_path / "photos", tmp_path / "a", 20)
    assert members(tmp_path / "a") == made
