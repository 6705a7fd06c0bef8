"""`vtcc.ImageClusterer`: the whole of `vtcc cluster` in scikit-learn's style."""

import contextlib
import io
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, ClusterMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from vtcc.analysis.features import unit_rows
from vtcc.atomic import atomic_directory, remove
from vtcc.errors import VtccError
from vtcc.grouping.clusters import decide, load_predictor

if TYPE_CHECKING:
    from vtcc.grouping.intake import Listed
    from vtcc.grouping.options import Options

_PART = 512


class ImageClusterer(ClusterMixin, TransformerMixin, BaseEstimator):
    """Groups images without labels.

    Images are given as a folder, a sequence of paths, or an array (N, H, W) or (N, H, W, C) of
    uint8, or of floats in 0-1; C is 1, 3 or 4.

    Args:
        n_clusters: K, a range such as (5, 30), or "auto".
        minutes: that `fit` may take at most, about.
        encoder: "auto", "none" (from scratch), a name of `vtcc encoders`, or a timm model's.
        weights: a local file for it.
        random_state: seed of everything random, an integer from 0; None draws one.
        params: dotted parameters that replace automatic choices, `{"train.epochs": 20}`.
        unclustered: leave images that belong nowhere without a cluster, a fifth of all at most; a
            number: that share at most.
        output: a new folder that keeps what `vtcc cluster` writes, report.html among it, outside
            the images' folder; arrays are kept as PNGs in `OUTPUT-images` beside it. None keeps
            the model in memory alone.
        verbose: show progress.
        sample: images that clusters are made of, where there are more; 0: all.

    Attributes:
        labels_: (N,) int64, the cluster of each image; -1 for those that cannot be read or belong
            nowhere.
        confidence_: (N,) float32, its probability, 0-1; 0 where it cannot be read.
        embedding_: (N, d) float32, unit rows; 0 where it cannot be read.
        n_clusters_: K.
        names_: id -> name.
        trust_: the measures and the verdict of summary.json.
        predictor_: the model.
    """

    def __init__(
        self,
        n_clusters: int | str | tuple[int, int] = "auto",
        *,
        minutes: float = 20.0,
        encoder: str = "auto",
        weights: str | Path | None = None,
        random_state: int | None = 0,
        params: dict[str, Any] | None = None,
        unclustered: bool | float = False,
        output: str | Path | None = None,
        verbose: bool = False,
        sample: int = 10_000,
    ):
        self.n_clusters = n_clusters
        self.minutes = minutes
        self.encoder = encoder
        self.weights = weights
        self.random_state = random_state
        self.params = params
        self.unclustered = unclustered
        self.output = output
        self.verbose = verbose
        self.sample = sample

    def fit(self, X: Any, y: Any = None) -> "ImageClusterer":
        """Trains on images; `y` is not looked at.

        Raises:
            VtccError: on images or parameters that cannot be used.
        """
        from vtcc.grouping import estimator_options, outputs, result, run
        from vtcc.grouping import summary as summaries
        from vtcc.grouping.rest import Rest

        options = estimator_options.of(self)
        quiet = (
            contextlib.nullcontext() if self.verbose else contextlib.redirect_stdout(io.StringIO())
        )
        with tempfile.TemporaryDirectory() as room, quiet:
            options = replace(options, out=Path(self.output or Path(room) / "out"))
            with _given(X, options) as (options, listed, names):
                try:
                    out = run.run(options, listed)
                except SystemExit as stop:
                    raise KeyboardInterrupt("stopped by a signal") from stop
            self.predictor_ = load_predictor(out / result.MODEL)
            summary = summaries.read(out)
            embedding = outputs.Embedding.load(out)
            beside = list(Rest.of(out))
        known = self.predictor_.clusters
        self.labels_ = np.full(len(names), -1, np.int64)
        self.confidence_ = np.zeros(len(names), np.float32)
        self.embedding_ = np.zeros((len(names), embedding.h.shape[1]), np.float32)
        applied = known.apply(embedding.p, embedding.h, embedding.base)
        parts = [(embedding.paths, applied.cluster, applied.confidence, embedding.h)]
        for shard in beside:
            of = shard.applied
            parts.append((shard.readable, of["cluster"], of["confidence"], shard.h))
        for paths, cluster, confidence, h in parts:
            row = {path: i for i, path in enumerate(paths)}
            found = [(i, row[name]) for i, name in enumerate(names) if name in row]
            at, rows = np.array(found, np.int64).reshape(-1, 2).T
            self.labels_[at] = cluster[rows].clip(min=-1)
            self.confidence_[at] = confidence[rows]
            self.embedding_[at] = unit_rows(h[rows])
        self.n_clusters_ = len(known.names)
        self.names_: dict[int, str] = dict(known.names)
        self.trust_: dict[str, Any] = summary["trust"]
        return self

    def predict(self, X: Any) -> np.ndarray:
        """(N,) int64 clusters of images; -1 for those that cannot be read or belong nowhere."""
        return self._of_images(X)[0]

    def transform(self, X: Any) -> np.ndarray:
        """(N, d) float32 embeddings, unit rows; 0 for images that cannot be read."""
        return self._of_images(X)[1]

    def predict_proba(self, X: Any) -> np.ndarray:
        """(N, K) float32 probabilities of the model's head, before edits of its clusters."""
        return self._of_images(X)[2]

    def _of_images(self, X: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        from vtcc.grouping.predicting import blocks

        check_is_fitted(self, "predictor_")
        predictor = self.predictor_
        items = _items(X)
        N, K = len(items), predictor.num_clusters
        labels = np.full(N, -1, np.int64)
        embedded = np.zeros((N, self.embedding_.shape[1]), np.float32)
        p = np.zeros((N, K), np.float32)
        for block in blocks(
            enumerate(items), predictor, batch_size=_PART, source=lambda x: _png(x[1])
        ):
            if block.prediction is None:
                continue
            at = np.array([row for row, _ in block.readable])
            labels[at] = decide(predictor, block.prediction).cluster.clip(min=-1)
            embedded[at] = unit_rows(block.prediction.embedding)
            p[at] = block.prediction.probabilities
        return labels, embedded, p


def _items(X: Any) -> Sequence[Any] | np.ndarray:
    """The images one by one: paths, or arrays (H, W) or (H, W, C)."""
    if isinstance(X, str | os.PathLike):
        from vtcc.grouping.intake import listed

        return listed(Path(X), least=1).files
    if isinstance(X, np.ndarray) and X.dtype.kind in "uifb":
        return _checked(X)
    items = list(X)
    if not all(isinstance(item, str | os.PathLike) for item in items):
        odd = next(type(i).__name__ for i in items if not isinstance(i, str | os.PathLike))
        raise VtccError(
            f"X: found a sequence with {odd}; give a folder, paths, or one array (N, H, W[, C])"
        )
    return [Path(item) for item in items]


def _checked(X: np.ndarray) -> np.ndarray:
    if X.ndim not in (3, 4) or (X.ndim == 4 and X.shape[3] not in (1, 3, 4)) or 0 in X.shape:
        raise VtccError(
            f"X: found an array of shape {X.shape}; images are (N, H, W) or (N, H, W, C) with C "
            "1, 3 or 4"
        )
    if X.dtype == np.uint8:
        return X
    if X.dtype.kind != "f" or not np.isfinite(X).all() or X.min() < 0 or X.max() > 1:
        raise VtccError(
            f"X: found {X.dtype} from {X.min():.4g} to {X.max():.4g}; give uint8, or floats in 0-1"
        )
    return np.round(X * 255).astype(np.uint8)


def _png(item: Any) -> Path | bytes:
    """A path as it is; an array as the bytes of a PNG, to be decoded like any file."""
    if isinstance(item, Path):
        return item
    from PIL import Image

    file = io.BytesIO()
    squeezed = item[..., 0] if item.ndim == 3 and item.shape[2] == 1 else item
    Image.fromarray(squeezed).save(file, "PNG", compress_level=1)
    return file.getvalue()


@contextlib.contextmanager
def _given(
    X: Any, options: "Options"
) -> Iterator[tuple["Options", "Listed", Sequence[str | None]]]:
    """The options with the inputs in them, the images as `run` takes them, and names.

    Folders and paths stay where they are, so that results that are kept lead to them. Arrays are
    written as numbered PNGs in a folder beside the results, which is gone again after an error.

    Yields:
        The name of each image of X in the results too; None for one that is not among them.

    Raises:
        VtccError: when there are too few images, or one is missing; nothing is left then.
    """
    from vtcc.grouping import intake, workdir

    if isinstance(X, str | os.PathLike):
        listed = intake.listed(Path(X), least=1)
        _check_count(len(listed.names))
        yield replace(options, folder=Path(X)), listed, listed.names
        return
    items = _items(X)
    if not isinstance(items, np.ndarray):
        for item in items:
            if not item.exists():
                raise VtccError(f"X: {item}: no such file")
        # A folder is no image; like what cannot be read it has no label.
        files = [item for item in items if not item.is_dir()]
        _check_count(len(files))
        listed, known = intake.of_files(files)
        name_of = dict(zip(files, known, strict=True))
        options = replace(options, folder=files[0], others=tuple(files[1:]))
        yield options, listed, [name_of.get(item) for item in items]
        return
    _check_count(len(items))
    assert options.out is not None
    folder = workdir.images(options.out.absolute())
    options = replace(options, folder=folder)
    workdir.refuse_taken(workdir.place(options), options)
    if folder.exists():
        raise VtccError(f"output: {folder}, for the images of the array, is there; name another")
    try:
        with workdir.alone(folder), atomic_directory(folder) as building:
            for i, item in enumerate(items):
                content = _png(item)
                assert isinstance(content, bytes)
                (building / f"{i:08d}.png").write_bytes(content)
        listed = intake.listed(folder)
        yield options, listed, listed.names
    except BaseException:
        remove(folder)
        raise


def _check_count(count: int) -> None:
    from vtcc.grouping.options import LEAST_IMAGES

    if count < LEAST_IMAGES:
        raise VtccError(f"X: found {count} images, and grouping needs at least {LEAST_IMAGES}")
