"""Results of `vtcc cluster` that are there, opened to be changed by `vtcc refine` or `vtcc add`.

What is wrong with them is told before torch is imported, which takes seconds.
"""

import contextlib
import os
import shutil
import stat
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vtcc.atomic import atomic_directory, make_writable
from vtcc.errors import VtccError
from vtcc.grouping import assignments, by_cluster, intake, only_read, outputs, workdir
from vtcc.grouping import summary as summaries
from vtcc.grouping.by_cluster import FOLDERS
from vtcc.grouping.clusters import Applied, Clusters
from vtcc.grouping.means import outlying
from vtcc.grouping.rest import Rest
from vtcc.pages.clusters import SPRITES
from vtcc.pages.thumbnails import sprite_reader

if TYPE_CHECKING:
    from vtcc.engine.predict import Predictor

# Values of a summary that are needed to show results elsewhere, and to change them.
_SHOWN = {"root": str, "thumb": int}
_CHANGED = _SHOWN | {
    "title": str, "seed": int, "classes": list, "count": dict, "choices": dict, "baselines": list,
    "links": str | None,
}  # fmt: skip


@dataclass(frozen=True)
class Opened:
    """Results as they are.

    Attributes:
        directory: where they are. target: where they go once they are changed.
        summary: of summary.json. clusters: of the model. embedding: of the N images.
    """

    directory: Path
    target: Path
    summary: dict[str, Any]
    clusters: Clusters
    embedding: outputs.Embedding

    @property
    def model(self) -> Path:
        """The directory of the model."""
        return self.directory / summaries.MODEL

    @property
    def moved(self) -> dict[str, int]:
        """File -> id, of those that stay where they are; -1 where one was excluded."""
        return {f: int(k) for f, k in self.summary.get("moved", {}).items()}

    @property
    def held(self) -> set[str]:
        """Those of them, and of files that are away, that nobody named: none put them by hand."""
        return set(self.summary.get("held", []))

    @cached_property
    def former(self) -> by_cluster.Former | None:
        """The folders by cluster, where there are any; looked up before they are replaced."""
        directory = self.directory / FOLDERS
        if not (self.summary.get("folders") and directory.is_dir()):
            return None
        places = by_cluster.recorded(directory)
        if places is None:
            rows = assignments.read(self.directory / "assignments.parquet")
            places = dict(by_cluster.places(rows, self.clusters.names))
        shared = self.target == Path(os.path.abspath(self.directory))  # noqa: PTH100
        return by_cluster.Former(directory, places, shared=shared)


@contextlib.contextmanager
def opened(results: Path, out: Path | None = None, *, changes: bool = True) -> Iterator[Opened]:
    """Opens results for this process alone.

    Args:
        results: their folder. out: a new folder for what becomes of them; None: they are replaced.
        changes: False where they are only read, from a place too where nothing can be written.

    Raises:
        VtccError: when they are none, damaged or write-protected, or another process changes them;
            or when `out` exists, is a link or lies in what is only read.
    """
    # A link to results stays one: what it leads to is replaced, by one process at a time.
    directory = Path(os.path.realpath(results)) if results.is_symlink() else results
    if not directory.parent.is_dir():
        summaries.read(results)  # refuses
    target = Path(os.path.abspath(directory if out is None else out))  # noqa: PTH100
    with contextlib.ExitStack() as held:
        # Where nothing can be written beside results that are only read, nobody replaces them.
        if (out is None and changes) or os.access(directory.parent, os.W_OK):
            held.enter_context(workdir.alone(directory))
        summary = summaries.read(directory, _CHANGED if changes else _SHOWN)
        if out is None and changes and not os.access(results, os.W_OK):
            raise VtccError(f"{results}: write-protected; give --out elsewhere, or `chmod u+w` it")
        if out is not None:
            only_read.check(out, only_read.of_results(results, summary))
            held.enter_context(workdir.alone(target))
            if out.exists():
                raise VtccError(f"--out: {out} is there already; name a new folder")
        clusters = Clusters.load(results / summaries.MODEL)
        if clusters is None:
            raise VtccError(
                f"{results / summaries.MODEL}: without clusters.json; run `vtcc cluster` again"
            )
        embedding = outputs.Embedding.load(results)
        readable = sorted(set(summary["files"]) - summary["errors"].keys())
        if changes and sorted(embedding.paths) != readable:
            raise VtccError(
                f"{results / outputs.EMBEDDING}: of other images than {summaries.FILE}; run "
                "`vtcc cluster` again"
            )
        if changes and "collection" in summary:
            _refuse_half(Rest.of(results), summary)
        yield Opened(directory, target, summary, clusters, embedding)


def _refuse_half(rest: Rest, summary: Mapping[str, Any]) -> None:
    """Tables, counts and page are written from the shards: one that is missing takes its rows."""
    found, expected = rest.total(), summary["collection"]["files"] - len(summary["files"])
    if found != expected:
        raise VtccError(
            f"{rest.directory}: damaged ({found} images in its files, {expected} expected); run "
            "`vtcc cluster` again"
        )


def decided(
    clusters: Clusters,
    embedding: outputs.Embedding,
    moved: Mapping[str, int],
    held: Collection[str] = (),
) -> Applied:
    """What the clusters say of the images, those that stay where they are.

    Confidence is 1 where an image was put by hand. One that is held was in its cluster by the same
    cluster of the head, whose probability goes elsewhere since: it keeps this probability.

    Args:
        moved: name -> id; -1 where it is excluded. held: names of those that nobody named.
    """
    applied = clusters.apply(embedding.p, embedding.h, embedding.base)
    cluster = applied.cluster.copy()
    row = {path: i for i, path in enumerate(embedding.paths)}
    for file, k in moved.items():
        cluster[row[file]] = k
    by_hand = cluster != applied.cluster
    by_hand[[row[file] for file in held if file in row]] = False
    distance = clusters.distances(embedding.h, cluster)
    return replace(
        applied,
        cluster=cluster,
        confidence=np.where(by_hand, 1.0, applied.confidence).astype(np.float32),
        second=np.where(applied.second == cluster, applied.cluster, applied.second).clip(-1),
        distance=distance,
        outlier=outlying(distance, cluster, clusters.fences),
    )


def now_in(cluster: np.ndarray) -> dict[str, int]:
    """Where a proposal's images are: id -> how many, the most first; "-1": excluded.

    Args:
        cluster: (n,) ids.
    """
    ids, counts = np.unique(cluster, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return {str(ids[i]): int(counts[i]) for i in order}


@contextlib.contextmanager
def rewriting(before: Opened) -> Iterator[Path]:
    """Yields a copy of the results, which takes their place.

    When the block does not end well, or the process is killed, they are as they were. Folders by
    cluster come along, until `folders` replaces them, where they would be deleted otherwise.
    """
    former = before.former

    def left_out(directory: str, names: list[str]) -> list[str]:
        """What a killed writer of the folders left, and those that stay where they are."""
        here = Path(directory) == before.directory
        stay = former is not None and not former.shared
        left = f".{FOLDERS}."
        return [n for n in names if here and (n.startswith(left) or (stay and n == FOLDERS))]

    def copy(file: str, target: str) -> None:
        """Images need no second place on the disk meanwhile."""
        if former is not None and Path(file).is_relative_to(former.directory):
            by_cluster.linked(file, target)
        else:
            shutil.copy2(file, target)
            Path(target).chmod(Path(target).stat().st_mode | stat.S_IRUSR | stat.S_IWUSR)

    with atomic_directory(before.target) as building:
        shutil.copytree(
            before.directory,
            building,
            dirs_exist_ok=True,
            ignore=left_out,
            symlinks=True,
            copy_function=copy,
        )
        make_writable(building)
        yield building


def finish(
    building: Path,
    before: Opened,
    summary: dict[str, Any],
    *,
    embedding: outputs.Embedding,
    applied: Applied,
    clusters: Clusters,
    predictor: "Predictor",
) -> outputs.Assigned:
    """All but the model, the sprites and the folders; as `result.finish`, by pictures of the page.

    Args:
        building: of `rewriting`, with sprites and model in place. before: what it was.
        summary, embedding, applied, clusters: as they shall be. predictor: of the model.
    """
    from vtcc.grouping import result

    embedding.save(building)
    return result.finish(
        building,
        summary,
        embedding=embedding,
        applied=applied,
        clusters=clusters,
        read=sprite_reader(building / SPRITES, embedding.tile, summary["thumb"]),
        attention_of=_looks(predictor),
        final=before.target,
    )


def folders(before: Opened, assigned: outputs.Assigned, summary: dict[str, Any]) -> None:
    """The folders by cluster of the finished results, where these have any.

    Raises:
        VtccError: as `by_cluster.write_folders`.
    """
    if mode := summary.get("folders"):
        former = before.former.places if before.former else ()  # some have left the results
        names = dict.fromkeys([*summary["files"], *Rest.of(before.target).stamps(), *former])
        files = intake.located(Path(summary["root"]), list(names))
        copies = mode == "copies"
        by_cluster.write_folders(
            before.target, assigned, files, copies=copies, former=before.former
        )


def _looks(predictor: "Predictor") -> Callable[[np.ndarray], np.ndarray | None]:
    """Attention over tiles, where these are what the model reads."""
    from vtcc.grouping import attention

    def looked(images: np.ndarray) -> np.ndarray | None:
        if images.shape[1] != predictor.cache_size or predictor.channels not in (1, 3):
            return None
        if predictor.channels == 1:
            images = images[..., :1]
        return attention.of(predictor, images)

    return looked
