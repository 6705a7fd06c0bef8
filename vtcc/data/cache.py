"""The uint8 cache that training, evaluation and plots read: every image, decoded once.

Needs numpy and the standard library only, since a training node may have nothing else.
"""

import contextlib
import csv
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from vtcc import json_file
from vtcc.atomic import building, replace_directory
from vtcc.errors import VtccError
from vtcc.regular import regular

IMAGES = "images.npy"
INDEX = "index.csv"
INFO = "cache.json"
QUARANTINE = "quarantine.csv"

# What cache.json and model.json say of how numbers became bytes; older files say nothing.
DECODING = ("bands", "stretch", "stretch_range")
SPLITS = ("train", "holdout")
_HEADER_BYTES = 128  # of numpy's version 1.0, which leaves room for the number of rows
_FLUSH_BYTES = 4 << 20


@dataclass(frozen=True)
class Cache:
    """Decoded images and what is known of them.

    Attributes:
        images: (N, S, S, C) uint8, a read-only memory map.
        paths: N POSIX paths below data/raw/images; `paths[i]` is image i.
        split: N words, `train` or `holdout`.
        name: of the dataset.
        image_size: S.
        channels: C, 1 to 16.
        digest: sha256 in hex over pixels, paths and splits.
        mean: C floats, of the training rows, pixel range 0-1.
        std: C floats, likewise; at least 1/255, so that dividing by it is safe.
        bands: taken from the files, from 1; none where they were taken as a viewer shows them.
        stretch: how values became bytes, as `validate.stretch`.
        stretch_range: likewise.
    """

    images: np.ndarray
    paths: list[str]
    split: list[str]
    name: str
    image_size: int
    channels: int
    digest: str
    mean: list[float]
    std: list[float]
    bands: list[int] = field(default_factory=list)
    stretch: str = "type"
    stretch_range: list[float] = field(default_factory=lambda: [0.0, 255.0])

    @property
    def decoding(self) -> dict[str, Any]:
        """How the files became pixels: keywords of `vtcc.data.images.decode`."""
        return {name: getattr(self, name) for name in DECODING}

    def rows(self, split: str) -> np.ndarray:
        """Row numbers of a split, ascending, int64.

        Args:
            split: `train` or `holdout`.
        """
        if split not in SPLITS:
            raise ValueError(f"split: found {split!r}; allowed: {' | '.join(SPLITS)}")
        return np.array([i for i, s in enumerate(self.split) if s == split], dtype=np.int64)


_NEEDED = {
    "name": str, "images": int, "image_size": int, "channels": int, "digest": str, "mean": list,
    "std": list,
}  # fmt: skip


def open_cache(directory: Path | str) -> Cache:
    """Opens a cache without reading its pixels.

    Args:
        directory: `data/cache`.

    Raises:
        VtccError: when it is missing, or its parts do not fit together.
    """
    directory = Path(directory)
    try:
        info = json_file.checked(json_file.parsed(directory / INFO), _NEEDED)
        images = np.load(regular(directory / IMAGES), mmap_mode="r", allow_pickle=False)
        index = read_pairs(directory / INDEX, ("path", "split"))
        if unknown := {split for _, split in index} - {*SPLITS}:
            raise ValueError(
                f"{INDEX}: found split {min(unknown)!r:.60}; allowed: {' | '.join(SPLITS)}"
            )
    except FileNotFoundError as error:
        raise VtccError(
            f"{error.filename}: no such file; run `vtcc validate` (or `dvc repro validate`)"
        ) from None
    except (OSError, ValueError) as error:
        raise VtccError(
            f"{directory}: not a readable image cache ({error}); run `vtcc validate` again"
        ) from None
    shape = (info["images"], info["image_size"], info["image_size"], info["channels"])
    if images.shape != shape or images.dtype != np.uint8 or len(index) != shape[0]:
        raise VtccError(
            f"{directory}: {IMAGES} is {images.dtype} {images.shape} and {INDEX} has {len(index)} "
            f"rows, but {INFO} says uint8 {shape}; run `vtcc validate` again"
        )
    return Cache(
        images=images,
        paths=[path for path, _ in index],
        split=[split for _, split in index],
        name=info["name"],
        image_size=info["image_size"],
        channels=info["channels"],
        digest=info["digest"],
        mean=info["mean"],
        std=info["std"],
        **{name: info[name] for name in DECODING if name in info},
    )


def read_pairs(file: Path, header: tuple[str, str]) -> list[tuple[str, str]]:
    """The rows of a table of two columns.

    Raises:
        OSError, ValueError: when it cannot be read, or is no such table.
    """
    try:
        with regular(file).open(encoding="utf-8", newline="") as opened:
            first, *rows = ((left, right) for left, right in csv.reader(opened))
    except csv.Error as error:
        raise ValueError(f"{file.name}: {error}") from None
    if first != header:
        raise ValueError(f"{file.name}: found the columns {first}, expected {header}")
    return rows


class CacheWriter:
    """Writes a cache image by image; it appears at `directory` as a whole, or not at all.

    ```
    with CacheWriter(directory, name="digits", image_size=16, channels=1) as writer:
        writer.add("0.png", "train", pixels)
        writer.quarantine("1.png", "truncated")
        writer.finish()
    ```

    Leaving the block without `finish` (by an error, or because a check failed) leaves no trace.
    Memory stays at a few megabytes for any number of images. The digest depends on the order of
    `add`, so images should come in the order of the manifest.
    """

    def __init__(
        self,
        directory: Path | str,
        *,
        name: str,
        image_size: int,
        channels: int,
        bands: Sequence[int] = (),
        stretch: str = "type",
        stretch_range: Sequence[float] = (0.0, 255.0),
    ):
        self.directory = Path(directory)
        self.name = name
        self.image_size = image_size
        self.channels = channels
        self.decoding: dict[str, Any] = {
            "bands": list(bands),
            "stretch": stretch,
            "stretch_range": list(stretch_range),
        }
        self.paths: list[str] = []
        self.split: list[str] = []
        self.quarantined: list[tuple[str, str]] = []
        self._place = contextlib.ExitStack()
        self._sha = hashlib.sha256()
        # Counts of each value per channel: mean and deviation come out exact and order-free.
        self._values = np.zeros((channels, 256), dtype=np.int64)
        self._pending: list[np.ndarray] = []
        self._pending_train: list[bool] = []

    def __enter__(self) -> "CacheWriter":
        self._building = self._place.enter_context(building(self.directory))
        self._file = (self._building / IMAGES).open("wb")
        self._file.write(b"\0" * _HEADER_BYTES)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._file.close()  # writes what is left, which a full disk refuses
        finally:
            self._place.close()

    def add(self, path: str, split: str, image: np.ndarray) -> None:
        """Appends an image.

        Args:
            path: POSIX path below data/raw/images.
            split: `train` or `holdout`.
            image: (S, S, C) uint8.

        Raises:
            ValueError: when shape, dtype or split are not those.
        """
        shape = (self.image_size, self.image_size, self.channels)
        if image.shape != shape or image.dtype != np.uint8:
            raise ValueError(f"{path}: expected {shape} uint8, found {image.shape} {image.dtype}")
        if split not in SPLITS:
            raise ValueError(f"{path}: found split {split!r}; allowed: {' | '.join(SPLITS)}")
        self.paths.append(path)
        self.split.append(split)
        self._pending.append(image)
        self._pending_train.append(split == "train")
        if len(self._pending) * image.nbytes >= _FLUSH_BYTES:
            self._flush()

    def quarantine(self, path: str, reason: str) -> None:
        """Notes an image that was set aside, and why."""
        self.quarantined.append((path, reason))

    def peek(self, row: int) -> np.ndarray:
        """Reads back image `row` of those added, (S, S, C) uint8."""
        self._flush()
        self._file.flush()
        shape = (self.image_size, self.image_size, self.channels)
        count = int(np.prod(shape))
        with (self._building / IMAGES).open("rb") as file:
            file.seek(_HEADER_BYTES + row * count)
            return np.fromfile(file, dtype=np.uint8, count=count).reshape(shape)

    def finish(self) -> Cache:
        """Completes the cache, puts it in place of an older one, and opens it.

        Raises:
            VtccError: when no training image was added.
        """
        self._flush()
        pixels = self._values.sum(axis=1)
        if "train" not in self.split:
            raise VtccError(
                f"{self.directory}: no readable training image among {len(self.paths)} images and "
                f"{len(self.quarantined)} quarantined ones; see reports/validation.html"
            )
        self._file.seek(0)
        shape = (len(self.paths), self.image_size, self.image_size, self.channels)
        about = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._file, about)
        self._file.close()
        mean, std = zip(
            *(_moments(c, int(n)) for c, n in zip(self._values, pixels, strict=True)), strict=True
        )
        self._sha.update(
            json.dumps([self.image_size, self.channels, self.paths, self.split]).encode()
        )
        info: dict[str, Any] = {
            "name": self.name,
            "images": len(self.paths),
            "image_size": self.image_size,
            "channels": self.channels,
            **self.decoding,
            "digest": self._sha.hexdigest(),
            "mean": list(mean),
            "std": list(std),
        }
        _write_csv(
            self._building / INDEX, ("path", "split"), zip(self.paths, self.split, strict=True)
        )
        _write_csv(self._building / QUARANTINE, ("path", "reason"), self.quarantined)
        (self._building / INFO).write_text(json.dumps(info, indent=2) + "\n", encoding="utf-8")
        replace_directory(self._building, self.directory)
        return open_cache(self.directory)

    def _flush(self) -> None:
        if not self._pending:
            return
        block = np.stack(self._pending)
        self._file.write(block.data)
        self._sha.update(block.data)
        train = block[np.array(self._pending_train)]
        for channel in range(self.channels):
            self._values[channel] += np.bincount(train[..., channel].ravel(), minlength=256)
        self._pending.clear()
        self._pending_train.clear()


def _moments(counts: np.ndarray, n: int) -> tuple[float, float]:
    """Mean and standard deviation, range 0-1, of a histogram of 0-255."""
    total = sum(v * int(c) for v, c in enumerate(counts))
    squares = sum(v * v * int(c) for v, c in enumerate(counts))
    # Python integers: n * squares - total ** 2 has no rounding to cancel.
    std = (n * squares - total**2) ** 0.5 / n / 255
    return total / n / 255, max(std, 1 / 255)


def _write_csv(path: Path, header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        # Quoted as a whole, any name survives, one with a carriage return as well.
        writer = csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
