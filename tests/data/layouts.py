"""Every shipped card with two images or so a class, arranged as its makers do."""

import dataclasses
import gzip
import io
import json
import pickle
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np

from tests.data.project import ROOT
from vtcc.data.catalog import Card, load_card

NAMES = sorted(p.stem for p in (ROOT / "data/catalog").glob("*.yaml"))
EACH = 2
_FOLDERS = {
    "ucmerced": "UCMerced_LandUse/Images/{c}/{c}{i:02d}.tif",
    "rsod": "RSOD-Dataset/{c}/JPEGImages/{c}_{i}.jpg",
    "siri-whu": "Google/12class_tif/{c}/{i:04d}.tif",
    "aid": "AID/{c}/{c}_{i}.jpg",
    "d0": "pests/{c}/{i}.jpg",
    "dtd": "dtd/images/{c}/{c}_{i:04d}.jpg",
    "eurosat": "2750/{c}/{c}_{i}.jpg",
    "eurosat-ms": "ds/images/remote_sensing/otherDatasets/sentinel_2/tif/{c}/{c}_{i}.tif",
}


def shrink(name: str, *, each: int = EACH) -> Card:
    """The shipped card with that many images a class and no checksums."""
    card = load_card(ROOT / f"data/catalog/{name}.yaml")
    classes = 4 if card.loader == "omniglot" else card.classes or 0
    counts = dict.fromkeys(card.class_counts, each) if card.class_counts else None
    blank = {"bytes": None, "sha256": None, "md5": None}
    return dataclasses.replace(
        card,
        images=each * classes,
        classes=classes,
        class_counts=counts,
        sources=[dataclasses.replace(source, **blank) for source in card.sources],
    )


def class_names(card: Card) -> list[str]:
    return list(card.class_counts or [f"kind {i}" for i in range(card.classes or 0)])


def content(number: int) -> bytes:
    """What stands for an encoded image: the download stage copies, it does not decode."""
    return f"image {number}".encode()


def upstream(card: Card) -> dict[str, bytes]:
    """File names as the makers serve them, with their content."""
    if card.name in _FOLDERS:
        files = folders(card, _FOLDERS[card.name])
        return {card.sources[0].file if card.sources else f"{card.name}.zip": pack(files)}
    return globals()["_" + card.loader.replace("-", "_")](card)


def folders(card: Card, pattern: str) -> dict[str, bytes]:
    rows = [(c.replace("/", "_"), i) for c in class_names(card) for i in range(EACH)]
    return {pattern.format(c=c, i=i): content(n) for n, (c, i) in enumerate(rows)}


def pack(files: dict[str, bytes], kind: str = "zip") -> bytes:
    out = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(out, "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
    else:
        with tarfile.open(fileobj=out, mode="w:gz") as archive:
            for name, data in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


def write(files: dict[str, bytes], directory: Path) -> Path:
    for name, data in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(data)
    return directory


def pixels(count: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, *shape), dtype=np.uint8)


def labels(card: Card) -> list[int]:
    """Each class in turn, so that both parts of a set hold several."""
    return [i % (card.classes or 1) for i in range(card.images)]


def idx(values: np.ndarray) -> bytes:
    head = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    return head + values.tobytes()


def _idx(card: Card) -> dict[str, bytes]:
    images, targets = pixels(card.images, 28, 28), np.array(labels(card), dtype=np.uint8)
    half = card.images // 2
    return {
        f"{stem}-{kind}-ubyte.gz": gzip.compress(idx(values[rows]), mtime=0)
        for stem, rows in (("train", slice(half)), ("t10k", slice(half, None)))
        for kind, values in (("images-idx3", images), ("labels-idx1", targets))
    }


def cifar_batches(card: Card) -> dict[str, tuple[np.ndarray, list[int]]]:
    names = ["train", "test"]
    if card.name == "cifar10":
        names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    rows, targets = pixels(card.images, 3072), np.array(labels(card))
    blocks = zip(np.array_split(rows, len(names)), np.array_split(targets, len(names)), strict=True)
    return {name: (x, y.tolist()) for name, (x, y) in zip(names, blocks, strict=True)}


def _cifar10(card: Card) -> dict[str, bytes]:
    key = b"labels" if card.name == "cifar10" else b"coarse_labels"
    folder = "cifar-10-batches-py" if card.name == "cifar10" else "cifar-100-python"
    files = {
        f"{folder}/{name}": pickle.dumps({b"data": x, key: y}, protocol=2)
        for name, (x, y) in cifar_batches(card).items()
    }
    return {card.sources[0].file: pack(files, "tar")}


_cifar100 = _cifar10


def cifar_binary(card: Card) -> dict[str, bytes]:
    """The other version on the authors' page."""
    ten = card.name == "cifar10"
    files = {}
    for name, (x, y) in cifar_batches(card).items():
        columns = [np.array(y, dtype=np.uint8)] + ([] if ten else [np.zeros(len(y), np.uint8)])
        rows = np.concatenate([np.stack(columns, axis=1), x], axis=1)
        files[f"cifar-binary/{name}.bin"] = rows.tobytes()
    return {card.sources[1].file: pack(files, "tar")}


def _stl10(card: Card) -> dict[str, bytes]:
    images, targets = pixels(card.images, 3, 96, 96), np.array(labels(card), dtype=np.uint8) + 1
    half = card.images // 2
    files = {"stl10_binary/unlabeled_X.bin": b"not unpacked"}
    for part, rows in (("train", slice(half)), ("test", slice(half, None))):
        files[f"stl10_binary/{part}_X.bin"] = images[rows].tobytes()
        files[f"stl10_binary/{part}_y.bin"] = targets[rows].tobytes()
    return {card.sources[0].file: pack(files, "tar")}


def _mat(**values: np.ndarray) -> bytes:
    from scipy.io import savemat

    out = io.BytesIO()
    savemat(out, values)
    return out.getvalue()


def _svhn(card: Card) -> dict[str, bytes]:
    images, targets = pixels(card.images, 32, 32, 3), np.array(labels(card), dtype=np.uint8)
    targets[targets == 0] = 10
    half = card.images // 2
    return {
        f"{part}_32x32.mat": _mat(X=images[rows].transpose(1, 2, 3, 0), y=targets[rows, None])
        for part, rows in (("train", slice(half)), ("test", slice(half, None)))
    }


def _chaoyang(card: Card) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for part in ("train", "test"):
        entries = []
        for i, label in enumerate(labels(card)):
            if (i < card.images // 2) == (part == "train"):
                entries.append({"name": f"{part}/{i}.jpg", "label": label})
                files[f"chaoyang-data/{part}/{i}.jpg"] = content(i)
        files[f"chaoyang-data/{part}.json"] = json.dumps(entries).encode()
    return {"chaoyang.zip": pack(files)}


def _flowers102(card: Card) -> dict[str, bytes]:
    files = {f"jpg/image_{i:05d}.jpg": content(i - 1) for i in range(1, card.images + 1)}
    targets = np.array([labels(card)], dtype=np.uint8) + 1
    return {"102flowers.tgz": pack(files, "tar"), "imagelabels.mat": _mat(labels=targets)}


def _oxford_pets(card: Card) -> dict[str, bytes]:
    breeds = class_names(card)
    names = [f"{breeds[label]}_{i}" for i, label in enumerate(labels(card))]
    rows = [f"{name} {label + 1} 1 1" for name, label in zip(names, labels(card), strict=True)]
    listed = "\n".join(["#Image CLASS-ID SPECIES BREED ID", *rows]).encode()
    trimap = {f"annotations/trimaps/{name}.png": b"trimap" for name in names}
    images = {f"images/{name}.jpg": content(i) for i, name in enumerate(names)}
    return {
        "images.tar.gz": pack(images | {"images/unlisted_1.jpg": b"x"}, "tar"),
        "annotations.tar.gz": pack({"annotations/list.txt": listed} | trimap, "tar"),
    }


def _omniglot(card: Card) -> dict[str, bytes]:
    archives = {}
    for a, part in enumerate(("background", "evaluation")):
        files = {
            f"images_{part}/Alphabet{a}/character{c:02d}/{i}.png": content(4 * a + 2 * c + i)
            for c in range(2)
            for i in range(EACH)
        }
        archives[f"images_{part}.zip"] = pack(files)
    return archives
