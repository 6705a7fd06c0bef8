"""The tree over the clusters of a model, coarse to fine; no label is read.

Average linkage of the cosine distances between the clusters' centres in the embedding; a tree is
its joins, the closest first. Edits prune it and add to it, so that the rest stays as people saw it.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

LEAST = 4  # clusters from which there are levels
MOST = 3  # levels
COARSE = 2 / 3  # of the clusters are the groups of a level at most


@dataclass(frozen=True)
class Join:
    """Two groups that become one.

    Attributes:
        left, right: ids of clusters. height: how far apart the groups are.
    """

    left: frozenset[int]
    right: frozenset[int]
    height: float


Tree = tuple[Join, ...]


def grown(centres: Mapping[int, np.ndarray]) -> Tree:
    """The tree over clusters, by the centres of those that have images.

    Args:
        centres: id -> (d,) unit row.
    """
    from scipy.cluster.hierarchy import linkage
    from scipy.spatial.distance import squareform

    ids = sorted(centres)
    if len(ids) < 2:
        return ()
    rows = np.stack([centres[k] for k in ids]).astype(np.float64)
    apart = np.clip(1 - rows @ rows.T, 0, None)
    groups = [frozenset({k}) for k in ids]
    joins = []
    for left, right, height, _ in linkage(squareform(apart, checks=False), "average").tolist():
        joins.append(Join(groups[int(left)], groups[int(right)], round(height, 6)))
        groups.append(joins[-1].left | joins[-1].right)
    return tuple(joins)


def leaves(tree: Tree) -> set[int]:
    """The ids of the clusters in a tree."""
    return {k for join in tree for k in join.left | join.right}


def only(tree: Tree, ids: Collection[int]) -> Tree:
    """The tree of some of its clusters: what another was joined with takes its place."""
    kept = frozenset(ids)
    joins = [Join(join.left & kept, join.right & kept, join.height) for join in tree]
    return tuple(join for join in joins if join.left and join.right)


def attached(tree: Tree, k: int, beside: int, height: float) -> Tree:
    """The tree with cluster `k` joined to the group that `beside` is in at that height."""
    lower = [join for join in tree if join.height <= height]
    group = frozenset({beside})
    for join in lower:
        if beside in join.left | join.right:
            group = join.left | join.right

    def grown_by(ids: frozenset[int]) -> frozenset[int]:
        return ids | {k} if beside in ids else ids

    above = (Join(grown_by(j.left), grown_by(j.right), j.height) for j in tree[len(lower) :])
    return (*lower, Join(group, frozenset({k}), height), *above)


def completed(tree: Tree, centres: Mapping[int, np.ndarray]) -> Tree:
    """The tree with the clusters it lacks, each beside the one whose centre is nearest.

    Where no cluster of the tree has a centre, they come in at its top, and the rest of it stays.

    Args:
        centres: as of `grown`.
    """
    for k in sorted(set(centres) - leaves(tree)):
        apart = {j: float(1 - centres[j] @ centres[k]) for j in leaves(tree) & centres.keys()}
        if not tree:
            return grown(centres)
        if not apart:
            tree = (*tree, Join(frozenset(leaves(tree)), frozenset({k}), tree[-1].height))
            continue
        nearest = min(apart, key=lambda j: (apart[j], j))
        tree = attached(tree, k, nearest, round(max(apart[nearest], 0.0), 6))
    return tree


def cuts(tree: Tree) -> list[int]:
    """How many groups each level has, the coarsest first; none for fewer than `LEAST` clusters.

    Of K clusters there are log2(K / 2) levels, at most `MOST`. The numbers from 2 to two thirds of
    K are divided into as many ranges of one ratio, and each level is the cut of its range where the
    height of the next join rises most.
    """
    K = len(tree) + 1
    if K < LEAST:
        return []
    count = min(MOST, int(np.log2(K / 2)))
    bounds = np.geomspace(2, COARSE * K, count + 1)
    heights = [join.height for join in tree]
    levels = []
    for i in range(count):
        low, high = int(np.ceil(bounds[i])), bounds[i + 1]
        numbers = [g for g in range(low, K) if g < high or (i == count - 1 and g <= high)]
        if numbers:
            levels.append(max(numbers, key=lambda g: (heights[K - g] - heights[K - g - 1], -g)))
    return levels


def of(tree: Tree) -> tuple[dict[int, int], ...]:
    """The levels, the coarsest first: id of a cluster -> the smallest id of its group."""
    return tuple(grouped(tree, groups) for groups in cuts(tree))


def grouped(tree: Tree, groups: int) -> dict[int, int]:
    """The tree cut into so many groups: id of a cluster -> the smallest id of its group."""
    group = {k: k for k in leaves(tree)}
    for join in tree[: len(tree) + 1 - groups]:
        ids = join.left | join.right
        group |= dict.fromkeys(ids, min(ids))
    return group


def to_list(tree: Tree) -> list[tuple[int, int, float]]:
    """For JSON: a join is the smallest ids of its two groups and the height."""
    return [(min(join.left), min(join.right), join.height) for join in tree]


def from_list(joins: Iterable[Sequence[float]]) -> Tree:
    """What `to_list` gave.

    Raises:
        ValueError, TypeError: when it is no such list.
    """
    group: dict[int, frozenset[int]] = {}
    tree = []
    for left, right, height in joins:
        a, b = (group.get(int(k), frozenset({int(k)})) for k in (left, right))
        if a & b:
            raise ValueError(f"clusters {left} and {right} of the tree are joined twice")
        tree.append(Join(a, b, float(height)))
        ids = a | b
        group |= dict.fromkeys(ids, ids)
    return tuple(tree)
