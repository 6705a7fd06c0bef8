"""Edits of proposals: one becomes a cluster, or is none."""

from dataclasses import replace
from typing import Any

import numpy as np

from vtcc.analysis.features import kmeans, unit_rows
from vtcc.grouping.clusters import UNCLUSTERED, Split
from vtcc.grouping.edit_state import NotMade, Refused, State, as_json, hold, name_of, put, rows_of

# Parts by whose centres a confirmed cluster is told from those its images were in.
CENTRES, EACH = 8, 10  # at most, and images for each of them


def new(state: State, edit: dict[str, Any]) -> None:
    """A proposal becomes a cluster, in the model too.

    Its number is the proposed one, or the next where a cluster has that one already. Where the
    head's clusters of its images have others too, the nearest of some centres of both says which of
    the two an image belongs to; so images of an excluded cluster come back. Images that are not
    named stay.

    Raises:
        NotMade: where all its images have gone since.
    """
    rows, name = rows_of(state, edit["files"]), name_of(edit["name"])
    wish = edit.get("cluster", state.next)
    if not isinstance(wish, int) or isinstance(wish, bool):
        raise Refused(f"found cluster {as_json(wish)}; allowed: a number")
    if wish not in {*state.proposed, *state.once} and wish != state.next:
        raise Refused(f"found cluster {wish}, which is neither proposed nor the next number")
    # In older results a split may have taken the number of a proposal.
    k = state.next if wish in state.clusters.names else wish
    state.next = max(state.next, k + 1)
    if not len(rows):  # all have gone since
        raise NotMade(k)
    assert state.known is not None
    unit = state.unit
    ours = _centres(unit[rows], state.seed)
    taken = np.isin(np.arange(len(unit)), rows)
    splits = dict(state.clusters.splits)
    cluster = state.cluster
    if state.base is not None:  # those in no cluster are in one of the head's all the same
        there = state.clusters.placed(state.base, state.h)
        cluster = np.where(cluster == UNCLUSTERED, there, cluster)
    for j in sorted(set(cluster[rows].tolist()) - {UNCLUSTERED}):
        rest = np.flatnonzero((state.cluster == j) & ~taken)
        known = rest[state.known[rest]]
        theirs = _centres(unit[known], state.seed)
        if not len(known) and j in state.clusters.centres:
            theirs = state.clusters.centres[j][None]
        elif not len(known):
            theirs = _centres(unit[rest], state.seed)
        for base, of in enumerate(state.clusters.of_base):
            before = splits.get(base)
            if before is not None and j in before.ids:
                keep = [i for i, other in enumerate(before.ids) if other != j]
                ids, centres = [before.ids[i] for i in keep], [before.centres[keep]]
                mine = k not in ids
            elif before is None and of == j:
                ids, centres, mine = [], [], True
            else:
                continue
            ids += [j] * len(theirs) + [k] * len(ours) * mine
            centres += [theirs, ours] if mine else [theirs]
            splits[base] = Split(tuple(ids), np.concatenate(centres).astype(np.float32))
        # What is not named stays, wherever the centres would have it.
        far = (unit[rest] @ theirs.T).max(axis=1, initial=-np.inf)
        nearer = (unit[rest] @ ours.T).max(axis=1) > far
        hold(state, rest[nearer])
    mean = state.h[rows].mean(axis=0, dtype=np.float64).astype(np.float32)
    means = state.clusters.means
    means = replace(
        means,
        means=np.concatenate([means.means, mean[None]]),
        owners=(*means.owners, frozenset({k})) if means.owners else (),
    )
    names = state.clusters.names | {k: name}
    state.clusters = replace(state.clusters, names=names, splits=splits, means=means)
    state.cluster[rows] = k
    state.known[rows] = True
    put(state, rows)
    if means.unclustered:  # the new mean raises the doubt of images beside it
        doubt = means.doubt(means.distances(state.h), state.cluster)
        hold(state, np.flatnonzero(doubt > means.limit))
    state.proposed = {i: files for i, files in state.proposed.items() if i != wish}


def decline(state: State, edit: dict[str, Any]) -> None:
    """A proposal is none: its images count as what the clusters are made of."""
    k = edit["cluster"]
    plain = isinstance(k, int) and not isinstance(k, bool)
    if not plain or k not in state.proposed:
        if plain and k in state.once:
            return  # its images have gone since
        raise Refused(f"no cluster {as_json(k)} is proposed; there are {sorted(state.proposed)}")
    assert state.known is not None
    state.known[rows_of(state, list(state.proposed[k]))] = True
    state.proposed = {i: f for i, f in state.proposed.items() if i != k}


def _centres(unit: np.ndarray, seed: int) -> np.ndarray:
    """(m, d) unit centres of some parts of (n, d) unit rows, m at least 1 where n is."""
    if not len(unit):
        return np.empty((0, unit.shape[1]), np.float32)
    parts = min(CENTRES, max(len(unit) // EACH, 1))
    return unit_rows(kmeans(unit, parts, seed, starts=3).cluster_centers_.astype(np.float32))
