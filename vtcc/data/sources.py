"""Where images come from: one function per loader, registered by its name.

A source says what it has (names, labels) before any image is written, so that a subset costs
no more than its images. To add one, decorate a function with `@source("name")`, write a card
with `loader: name`, and nothing else changes.
"""

import gzip
import io
import os
import socket
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from vtcc.data.catalog import Card
from vtcc.errors import TemporaryError, VtccError


@dataclass(frozen=True)
class Found:
    """What a source has.

    Attributes:
        paths: relative POSIX paths the images will have, unique, in any order.
        read: gives image i (by position in `paths`): a file to copy, or the bytes of one.
        labels: per image a row number of `class_names`; None without labels.
        class_names: empty without labels.
        notes: sentences the user should see.
    """

    paths: Sequence[str]
    read: Callable[[int], bytes | Path]
    labels: Sequence[int] | None = None
    class_names: Sequence[str] = ()
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Places:
    """Where a source may look and write.

    Attributes:
        mirror: a directory tried before the network; None when there is none.
        scratch: an empty directory that is deleted when the images are in place.
    """

    mirror: Path | None
    scratch: Path


Source = Callable[[Card, Places], Found]
_sources: dict[str, Source] = {}


def source(name: str) -> Callable[[Source], Source]:
    """Registers a loader under the name that cards call it by."""

    def register(function: Source) -> Source:
        _sources[name] = function
        return function

    return register


def find(card: Card, places: Places) -> Found:
    """Asks the card's loader what it has.

    Raises:
        VtccError: when the card names no known loader, or the loader finds no data.
    """
    if card.loader not in _sources:
        raise VtccError(
            f"card {card.name}: found loader {card.loader!r}; allowed: {' | '.join(_sources)}"
        )
    return _sources[card.loader](card, places)


@source("digits")
def digits(card: Card, places: Places) -> Found:
    """The handwritten digits inside scikit-learn, 8 x 8, values 0-16 spread over 0-255."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.rint(bunch.images * 255 / 16).astype(np.uint8)
    return Found(
        # Numbered in scikit-learn's order: a name must not tell the class.
        paths=[f"digits/{i:05d}.png" for i in range(len(images))],
        read=lambda i: png(images[i]),
        labels=bunch.target.tolist(),
        class_names=[str(name) for name in bunch.target_names],
    )


_FASHION = tuple(
    (part, f"{stem}-images-idx3-ubyte", f"{stem}-labels-idx1-ubyte")
    for part, stem in (("train", "train"), ("test", "t10k"))
)
_FASHION_FOLDERS = (
    "",
    "fashion-mnist",
    "raw",
    "FashionMNIST/raw",
    "fashion-mnist/FashionMNIST/raw",
    "usr/share/datasets/fashion-mnist",
)
DEBIAN_FASHION = Path("/usr/share/datasets/fashion-mnist")


@source("fashion-mnist")
def fashion_mnist(card: Card, places: Places) -> Found:
    """Training and test images of Fashion-MNIST joined: from a mirror, else downloaded."""
    tried = [places.mirror] if places.mirror else []
    tried.append(DEBIAN_FASHION)
    folders = [base / sub for base in tried for sub in _FASHION_FOLDERS]
    folder = next((f for f in folders if _has_fashion(f)), None)
    notes = [f"fashion-mnist: read from {folder}"] if folder else []
    if folder is None:
        folder = _download_fashion(places.scratch, tried)
    paths, images, labels = [], [], []
    for part, image_file, label_file in _FASHION:
        block = read_idx(_idx_file(folder, image_file), dimensions=3)
        names = read_idx(_idx_file(folder, label_file), dimensions=1)
        if len(block) != len(names):
            raise VtccError(
                f"{folder}: {image_file} holds {len(block)} images but {label_file} "
                f"{len(names)} labels; fetch both again"
            )
        paths += [f"fashion-mnist/{part}/{i:05d}.png" for i in range(len(block))]
        images.append(block)
        labels.append(names)
    joined, targets = np.concatenate(images), np.concatenate(labels).tolist()
    class_names = list(card.class_counts or {})
    if max(targets, default=0) >= len(class_names):
        raise VtccError(
            f"{folder}: found the label {max(targets)}, but card {card.name} names "
            f"{len(class_names)} classes; is this Fashion-MNIST?"
        )
    return Found(
        paths=paths,
        read=lambda i: png(joined[i]),
        labels=targets,
        class_names=class_names,
        notes=notes,
    )


def _idx_file(folder: Path, name: str) -> Path:
    plain = folder / name
    return plain if plain.is_file() else folder / f"{name}.gz"


def _has_fashion(folder: Path) -> bool:
    return all(_idx_file(folder, name).is_file() for _, *pair in _FASHION for name in pair)


def _download_fashion(scratch: Path, tried: list[Path]) -> Path:
    from torchvision.datasets import FashionMNIST

    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(30)  # a network that swallows packets must not hang the stage
    try:
        FashionMNIST(str(scratch), download=True)
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise TemporaryError(
            f"fashion-mnist: not found in {', '.join(map(str, tried))}, and the download failed "
            f"({reason}); fetch the four *-ubyte.gz files from "
            "https://github.com/zalandoresearch/fashion-mnist (or install Debian's package "
            "dataset-fashion-mnist) and name their directory in download.mirror or VTCC_MIRROR"
        ) from None
    finally:
        socket.setdefaulttimeout(timeout)
    return scratch / "FashionMNIST" / "raw"


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
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise VtccError(f"{path}: cannot be read ({error}); fetch it again") from None
    start = 4 + 4 * dimensions
    # idx: two zero bytes, 8 for unsigned bytes, the number of dimensions, then their lengths.
    if data[:4] != bytes((0, 0, 8, dimensions)) or len(data) < start:
        raise VtccError(f"{path}: not an idx file of bytes with {dimensions} dimensions")
    shape = struct.unpack(f">{dimensions}I", data[4:start])
    if len(data) - start != int(np.prod(shape, dtype=np.int64)):
        raise VtccError(
            f"{path}: {len(data) - start} bytes for the shape {shape}; truncated? fetch it again"
        )
    return np.frombuffer(data, dtype=np.uint8, offset=start).reshape(shape)


def png(image: np.ndarray) -> bytes:
    """An 8-bit grey PNG, stored without compression, so that its bytes do not depend on zlib's.

    Args:
        image: (height, width) uint8.
    """
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG", compress_level=0)
    return file.getvalue()


def mirror(configured: str) -> Path | None:
    """The mirror directory: VTCC_MIRROR, else `download.mirror`, else None.

    Raises:
        VtccError: when it is named but is no directory.
    """
    variable = os.environ.get("VTCC_MIRROR")
    name = variable or configured
    if not name:
        return None
    path = Path(name)
    if not path.is_dir():
        key = "VTCC_MIRROR" if variable else "download.mirror"
        raise VtccError(f"{key}: {name!r} is not a directory; correct it or leave it empty")
    return path
