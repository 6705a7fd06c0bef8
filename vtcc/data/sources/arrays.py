"""Datasets that come as arrays: digits, idx files, CIFAR, STL-10, SVHN.

They are written as PNGs, numbered in the order of the files: a name must not tell the class.
"""

import gzip
import io
import itertools
import math
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vtcc import bounds
from vtcc.data.catalog import Card
from vtcc.data.image_set import ImageSet
from vtcc.data.sources import pickles
from vtcc.data.sources.class_folders import class_folders
from vtcc.data.sources.registry import Places, reader, source
from vtcc.data.sources.tree import Tree
from vtcc.errors import VtccError
from vtcc.regular import regular

# Name of the part, its images (N, height, width[, 3]) uint8, its labels (N,) counted from 0.
Part = tuple[str, np.ndarray, np.ndarray]


@source("digits")
def digits(card: Card, places: Places) -> ImageSet:
    """The handwritten digits inside scikit-learn, 8 x 8, values 0-16 spread over 0-255."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.rint(bunch.images * 255 / 16).astype(np.uint8)
    return ImageSet(
        paths=[f"digits/{i:05d}.png" for i in range(len(images))],
        read=lambda i: png(images[i]),
        labels=bunch.target.tolist(),
        class_names=[str(name) for name in bunch.target_names],
    )


def idx(card: Card, tree: Tree) -> ImageSet | None:
    """MNIST and its relatives: four idx files, raw or gzipped."""
    stems = {"train": "train", "test": "t10k"}
    names = [
        f"{stem}-{kind}-ubyte" for stem in stems.values() for kind in ("images-idx3", "labels-idx1")
    ]
    files = _files(card, tree, names, endings=("", ".gz"))
    if files is None:
        return None
    parts = []
    for i, part in enumerate(stems):
        images = read_idx(files[2 * i], dimensions=3)
        parts.append((part, images, read_idx(files[2 * i + 1], dimensions=1)))
    return _joined(card, tree, parts)


def cifar10(card: Card, tree: Tree) -> ImageSet | None:
    """CIFAR-10's six batches, pickles or the binary version."""
    train = [f"data_batch_{i}" for i in range(1, 6)]
    return _cifar(card, tree, train, ["test_batch"], b"labels", columns=1)


def cifar100(card: Card, tree: Tree) -> ImageSet | None:
    """CIFAR-100's two batches, pickles or the binary version, labelled by superclass."""
    return _cifar(card, tree, ["train"], ["test"], b"coarse_labels", columns=2)


def _cifar(
    card: Card, tree: Tree, train: list[str], test: list[str], key: bytes, *, columns: int
) -> ImageSet | None:
    batches = train + test
    parts = []
    if files := _files(card, tree, [f"{name}.bin" for name in batches]):
        pairs = [_cifar_rows(file, columns) for file in files]
    elif files := _files(card, tree, batches):
        pairs = [_cifar_pickle(file, key) for file in files]
    else:
        return None
    for name, rows in (("train", slice(len(train))), ("test", slice(len(train), None))):
        images = np.concatenate([block for block, _ in pairs[rows]])
        labels = np.concatenate([values for _, values in pairs[rows]])
        parts.append((name, images.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), labels))
    return _joined(card, tree, parts)


def _cifar_rows(file: Path, columns: int) -> tuple[np.ndarray, np.ndarray]:
    data = np.fromfile(file, dtype=np.uint8)
    width = columns + 3072
    if not len(data) or len(data) % width:
        raise VtccError(f"{file}: {len(data)} bytes are no rows of {width}; fetch it again")
    rows = data.reshape(-1, width)
    return rows[:, columns:], rows[:, 0].astype(np.int64)


def _cifar_pickle(file: Path, key: bytes) -> tuple[np.ndarray, np.ndarray]:
    batch = pickles.read(file)
    images = batch.get(b"data") if isinstance(batch, dict) else None
    labels = batch.get(key) if isinstance(batch, dict) else None
    if not (
        isinstance(images, np.ndarray)
        and images.dtype == np.uint8
        and images.ndim == 2
        and images.shape[1] == 3072
        and isinstance(labels, list)
        and len(labels) == len(images)
        and all(type(label) is int and 0 <= label < 2**31 for label in labels)
    ):
        raise VtccError(
            f"{file}: expected data (N, 3072) in bytes and N {key.decode()}, found "
            f"{_keys(batch) if isinstance(batch, dict) else type(batch).__name__}"
        )
    return np.asarray(images), np.array(labels, dtype=np.int64)


def _keys(batch: dict[Any, Any]) -> str:
    shown = sorted(str(key)[:40] for key in itertools.islice(batch, 8))
    return f"{shown}" + (f" and {len(batch) - 8} more" if len(batch) > 8 else "")


def stl10(card: Card, tree: Tree) -> ImageSet | None:
    """STL-10's labelled images: 96 x 96, stored column by column, labels from 1."""
    files = _files(card, tree, ["train_X.bin", "train_y.bin", "test_X.bin", "test_y.bin"])
    if files is None:
        return None
    parts = []
    for name, images, labels in zip(("train", "test"), files[::2], files[1::2], strict=True):
        size = images.stat().st_size
        if not size or size % (3 * 96 * 96):
            raise VtccError(f"{images}: {size} bytes are no images of 3 x 96 x 96; fetch it again")
        # Mapped, not read: a third of a gigabyte.
        block = np.memmap(images, dtype=np.uint8, mode="r").reshape(-1, 3, 96, 96)
        values = np.fromfile(labels, dtype=np.uint8).astype(np.int64) - 1
        parts.append((name, block.transpose(0, 3, 2, 1), values))
    return _joined(card, tree, parts)


def svhn(card: Card, tree: Tree) -> ImageSet | None:
    """SVHN's cropped digits: X (32, 32, 3, N), y with 10 for the digit 0."""
    files = _files(card, tree, ["train_32x32.mat", "test_32x32.mat"])
    if files is None:
        return None
    parts = []
    for name, file in zip(("train", "test"), files, strict=True):
        values = read_mat(file, "X", "y")
        images = values["X"]
        if images.ndim != 4 or images.shape[:3] != (32, 32, 3) or images.dtype != np.uint8:
            raise VtccError(f"{file}: X is {images.shape} {images.dtype}, not (32, 32, 3, N) bytes")
        labels = values["y"].reshape(-1).astype(np.int64)
        parts.append((name, images.transpose(3, 0, 1, 2), np.where(labels == 10, 0, labels)))
    return _joined(card, tree, parts)


def read_mat(file: Path, *keys: str) -> dict[str, np.ndarray]:
    """Arrays of a MATLAB file, by name.

    Raises:
        VtccError: when it is damaged or lacks one of them.
    """
    from scipy.io import loadmat, whosmat

    try:
        _check_expanded(file)
        kinds = {name: kind for name, _, kind in whosmat(regular(file))}
        numeric = [key for key in keys if kinds.get(key) in _MAT_NUMBERS]
        # A cell in a cell in a cell ... would overflow the stack of scipy's reader.
        values = loadmat(regular(file), variable_names=numeric) if numeric else {}
    except VtccError:
        raise
    except Exception as error:
        # scipy raises anything from TypeError to zlib.error on damaged files.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise VtccError(f"{file}: not a readable MATLAB file ({reason}); fetch it again") from None
    for key in keys:
        if key not in values:
            raise VtccError(f"{file}: holds no variable {key!r} of numbers; fetch it again")
        if not np.isfinite(values[key]).all():
            raise VtccError(f"{file}: {key!r} holds numbers that are not finite; fetch it again")
    return values


_MAT_NUMBERS = frozenset(
    (
        *("double", "single", "logical", "int8", "int16", "int32", "int64"),
        *("uint8", "uint16", "uint32", "uint64"),
    )
)
_MAT_COMPRESSED = 15


def _check_expanded(file: Path) -> None:
    """Refuses a MATLAB file (level 5) whose compressed elements expand to far more than it has."""
    most, total = bounds.expanded_bytes(file.stat().st_size), 0
    with regular(file).open("rb") as content:
        order = "<" if content.read(128)[126:] == b"IM" else ">"
        while len(tag := content.read(8)) == 8:
            kind, length = struct.unpack(f"{order}2I", tag)
            end = content.tell() + length
            expand = zlib.decompressobj()
            while kind == _MAT_COMPRESSED and (left := end - content.tell()) > 0:
                packed = content.read(min(left, bounds.MIB))
                if not packed:
                    return
                while packed:
                    total += len(expand.decompress(packed, bounds.MIB))
                    packed = expand.unconsumed_tail
                    if total > most:
                        raise VtccError(
                            f"{file}: expands to more than {most >> 20} MiB, "
                            f"{bounds.ARCHIVE_RATIO} times its size; it is not read"
                        )
            content.seek(end)


def _files(
    card: Card, tree: Tree, names: list[str], endings: tuple[str, ...] = ("",)
) -> list[Path] | None:
    """The files of these names; None where not one is there, an error where some are not."""
    found = {name: tree.named(*(name + ending for ending in endings)) for name in names}
    lacking = [name for name, file in found.items() if file is None]
    if len(lacking) == len(names):
        return None
    if lacking:
        raise VtccError(
            f"dataset {card.name!r}: {tree.place} lacks {', '.join(lacking)}; it needs "
            f"{', '.join(names)}"
        )
    return [file for file in found.values() if file is not None]


def _joined(card: Card, tree: Tree, parts: list[Part]) -> ImageSet:
    """All parts in a row, their labels checked against the card's classes."""
    names = list(card.class_counts or {})
    places: list[tuple[np.ndarray, int]] = []
    paths: list[str] = []
    targets: list[int] = []
    for part, images, labels in parts:
        if len(images) != len(labels):
            raise VtccError(
                f"{tree.place}: the {part} part holds {len(images)} images but {len(labels)} "
                "labels; fetch both again"
            )
        strange = [x for x in np.unique(labels).tolist() if not 0 <= x < len(names)]
        if strange:
            raise VtccError(
                f"{tree.place}: found the label {strange[-1]}, but card {card.name} names "
                f"{len(names)} classes; is this {card.title}?"
            )
        paths += [f"{card.name}/{part}/{i:05d}.png" for i in range(len(images))]
        places += [(images, i) for i in range(len(images))]
        targets += labels.tolist()

    def read(i: int) -> bytes:
        block, row = places[i]
        return png(block[row])

    return ImageSet(paths=paths, read=read, labels=targets, class_names=names)


def read_idx(path: Path, *, dimensions: int) -> np.ndarray:
    """Reads an idx file of bytes, raw or gzipped, as MNIST and its relatives come.

    Args:
        path: the file.
        dimensions: 3 for images (N, height, width), 1 for labels (N,).

    Returns:
        uint8, of the shape the file states.

    Raises:
        VtccError: when it is damaged, or holds something else.
    """
    start = 4 + 4 * dimensions
    most = bounds.expanded_bytes(path.stat().st_size)
    try:
        with regular(path).open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            content = gzip.GzipFile(fileobj=file) if packed else file
            head = content.read(start)
            # idx: two zero bytes, 8 for unsigned bytes, the number of dimensions, their lengths.
            if head[:4] != bytes((0, 0, 8, dimensions)) or len(head) < start:
                raise VtccError(f"{path}: not an idx file of bytes with {dimensions} dimensions")
            shape = struct.unpack(f">{dimensions}I", head[4:])
            size = math.prod(shape)
            if size > most:
                raise VtccError(
                    f"{path}: claims {size >> 20} MiB, more than {bounds.ARCHIVE_RATIO} times its "
                    "size; fetch it again"
                )
            data = content.read(size + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise VtccError(f"{path}: cannot be read ({error}); fetch it again") from None
    if len(data) != size:
        found = f"{len(data)} bytes" if len(data) < size else "more bytes"
        raise VtccError(f"{path}: {found} for the shape {shape}; truncated? fetch it again")
    return np.frombuffer(data, dtype=np.uint8).reshape(shape)


def png(image: np.ndarray) -> bytes:
    """A PNG, grey or RGB, without compression, so that its bytes do not depend on zlib's.

    Args:
        image: (height, width) or (height, width, 3) uint8.
    """
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(file, "PNG", compress_level=0)
    return file.getvalue()


reader("idx", idx, class_folders)
reader("cifar10", cifar10, class_folders)
reader("cifar100", cifar100, class_folders)
reader("stl10", stl10, class_folders, skip=["unlabeled_X.bin"])
reader("svhn", svhn, class_folders)
