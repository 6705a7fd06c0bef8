"""Edits of the page, applied to clusters and assignments: all of them or none."""

from dataclasses import replace
from typing import Any

import numpy as np

from vtcc.analysis.features import kmeans, unit_rows
from vtcc.errors import VtccError
from vtcc.grouping import levels
from vtcc.grouping.clusters import EXCLUDED, UNCLUSTERED, Split
from vtcc.grouping.edit_state import (
    Refused,
    State,
    as_json,
    hold,
    known_id,
    listed,
    name_of,
    put,
    renumbered,
    rows_of,
    say_same_names,
)
from vtcc.progress import note, several
from vtcc.schema import nearest

MOST_PARTS = 50  # of a split
# Parts by whose centres a confirmed cluster is told from those its images were in.
CENTRES, EACH = 8, 10  # at most, and images for each of them


def apply(
    state: State, edits: list[dict[str, Any]], seed: int = 0, following: int | None = None
) -> State:
    """Applies edits in order; new clusters are numbered on from the highest id, proposed or not.

    An addition after the page was made proposes clusters, and takes files out: edits that speak of
    new clusters by the page's numbers mean the same clusters by those of here, and names of files
    that have gone are left out.

    Args:
        following: of `Wanted`.

    Raises:
        VtccError: on the first edit that is not possible, with its number; nothing has changed.
    """
    highest = max(*state.clusters.names, *state.proposed, int(state.cluster.max()))
    known = np.ones(len(state.cluster), bool) if state.known is None else state.known.copy()
    state = replace(
        state,
        cluster=state.cluster.copy(),
        moved=dict(state.moved),
        held=set(state.held),
        known=known,
    )
    was = highest + 1 if following is None else following
    state.next, state.seed = max(highest, *state.once, -1) + 1, seed
    state.unseen, state.left_out = frozenset(), set()
    if was <= max(state.clusters.names):
        raise VtccError(
            f"the edits number new clusters from {was} on, and there is a cluster "
            f"{max(state.clusters.names)}; export them from report.html again"
        )
    given, edits = edits, [renumbered(edit, was, state.next) for edit in edits]
    if edits != given:
        note(
            f"new clusters are numbered from {state.next} on, not from {was} as in the page the "
            "edits were made in: other numbers have been proposed since"
        )
    for number, edit in enumerate(edits, 1):
        try:
            _apply_one(state, edit)
        except (Refused, KeyError, TypeError, ValueError, ArithmeticError) as error:
            why = f"lacks {error}" if isinstance(error, KeyError) else str(error)
            raise VtccError(f"edit {number} of {len(edits)} ({as_json(edit)}): {why}") from None
    measured = state.clusters.measured(state.h[state.known], state.cluster[state.known])
    # A cluster of whose known images none is left, as all have changed, keeps what it has.
    old, there = state.clusters, measured.names.keys()
    measured = replace(
        measured,
        centres={k: v for k, v in old.centres.items() if k in there} | measured.centres,
        fences={k: v for k, v in old.fences.items() if k in there} | measured.fences,
    )
    tree = levels.completed(levels.only(measured.tree, measured.names), measured.centres)
    state.clusters = replace(measured, tree=tree, edits=[*state.clusters.edits, *edits])
    say_same_names(state.clusters.names)
    if gone := sorted(state.left_out):
        note(
            f"left out {several(len(gone), 'files')} that the edits name and that have gone since: "
            f"{', '.join(map(as_json, gone[:3]))}{', ...' * (len(gone) > 3)}"
        )
    return state


def _apply_one(state: State, edit: dict[str, Any]) -> None:
    kinds = {
        "rename": (_rename, ("cluster", "name")),
        "merge": (_merge, ("clusters", "into", "name")),
        "split": (_split, ("cluster", "into", "files")),
        "exclude": (_exclude, ("cluster",)),
        "exclude_files": (_exclude_files, ("files",)),
        "move": (_move, ("files", "to")),
        "new": (_new, ("files", "name", "cluster")),
        "decline": (_decline, ("cluster",)),
    }
    do = edit.get("do") if isinstance(edit, dict) else None
    if not isinstance(do, str) or do not in kinds:
        raise Refused(f"unknown; known are {', '.join(kinds)}")
    change, names = kinds[do]
    for name in edit:
        if name not in ("do", *names):
            raise Refused(f"unknown field {name!r}; {nearest(name, names)}")
    change(state, edit)


def _rename(state: State, edit: dict[str, Any]) -> None:
    k, name = known_id(state, edit["cluster"]), name_of(edit["name"])
    state.clusters = replace(state.clusters, names=state.clusters.names | {k: name})


def _merge(state: State, edit: dict[str, Any]) -> None:
    ids = {known_id(state, k) for k in listed("clusters", edit["clusters"])}
    into = known_id(state, edit["into"])
    if len(ids) < 2 or into not in ids:
        raise Refused("give at least two clusters, `into` among them")
    names = {k: v for k, v in state.clusters.names.items() if k not in ids or k == into}
    if edit.get("name", "") not in ("", None):
        names[into] = name_of(edit["name"])
    _relabel(state, dict.fromkeys(ids, into), names)
    if ids & state.unseen:
        state.unseen = state.unseen - ids | {into}


def _exclude(state: State, edit: dict[str, Any]) -> None:
    k = known_id(state, edit["cluster"])
    if len(state.clusters.names) == 1:
        raise Refused("the last cluster cannot be excluded")
    if k in state.unseen:
        raise Refused(
            f"cluster {k} is split by these same edits, so nobody has seen which images would go; "
            "refine first, then exclude it"
        )
    _relabel(state, {k: EXCLUDED}, {j: v for j, v in state.clusters.names.items() if j != k})


def _relabel(state: State, to: dict[int, int], names: dict[int, str]) -> None:
    """Changes ids everywhere but in the tree."""
    old = state.clusters
    owners = tuple(frozenset(to.get(k, k) for k in ids) for ids in old.means.owners)
    state.clusters = replace(
        old,
        names=names,
        of_base=tuple(to.get(k, k) for k in old.of_base),
        splits={
            b: Split(tuple(to.get(k, k) for k in s.ids), s.centres) for b, s in old.splits.items()
        },
        means=replace(old.means, owners=owners),
    )
    state.cluster = np.array([to.get(int(k), int(k)) for k in state.cluster])
    state.moved = {file: to.get(k, k) for file, k in state.moved.items()}
    state.away = {file: to.get(k, k) for file, k in state.away.items()}


def _split(state: State, edit: dict[str, Any]) -> None:
    k = known_id(state, edit["cluster"])
    rows = np.flatnonzero(state.cluster == k)
    unit = state.unit
    if "files" in edit:
        if "into" in edit:
            raise Refused("give either `into` or `files`")
        groups = [rows_of(state, files) for files in listed("files", edit["files"], " of lists")]
        if len(groups) < 2:
            raise Refused("give at least two groups of files")
        elsewhere = {i for f, i in state.files.items() if f in state.altered} - set(rows.tolist())
        groups = [group[~np.isin(group, list(elsewhere))] for group in groups]
        named = np.concatenate(groups)
        if not all(len(group) for group in groups):  # all of a part have gone since
            state.next += len(groups) - 1
            return
        if len(np.unique(named)) < len(named):
            raise Refused("a file is in two groups")
        if strange := set(named.tolist()) - set(rows.tolist()):
            file = next(f for f, row in state.files.items() if row in strange)
            raise Refused(f"{as_json(file)} is not in cluster {k}")
        part = np.zeros(len(rows), np.int64)
        for i, group in enumerate(groups):
            part[np.isin(rows, group)] = i
        parts = len(groups)
    else:
        parts = edit["into"]
        if not isinstance(parts, int) or not 2 <= parts <= MOST_PARTS:
            raise Refused(f"found into {as_json(parts)}; allowed: 2 to {MOST_PARTS}")
        if len(rows) < parts:
            held = several(len(rows), "images")
            raise Refused(f"cluster {k} shows {held}, too few for {parts} parts")
        part = kmeans(unit[rows], parts, state.seed, starts=10).labels_
        if len(np.unique(part)) < parts:  # alike to the last bit, as the page cannot know
            note(f"cluster {k} is not split: its images are all alike, not of {parts} kinds")
            state.next += parts - 1
            return
        # The largest part keeps id and name.
        order = np.argsort(-np.bincount(part, minlength=parts), kind="stable")
        part = np.argsort(order)[part]
    ids = [k, *range(state.next, state.next + parts - 1)]
    state.next += parts - 1
    centres = []
    for i in range(parts):
        members = unit[rows[part == i]]
        mean = members.mean(axis=0)
        centres.append(mean / max(float(np.linalg.norm(mean)), 1e-12))
    if "files" not in edit:  # as the model says, which goes by these centres
        part = (unit[rows] @ np.stack(centres).astype(np.float32).T).argmax(axis=1)
    state.cluster[rows] = np.array(ids)[part]
    stay: list[np.ndarray] = []
    old = state.clusters
    splits = dict(old.splits)
    for base, of in enumerate(old.of_base):
        if base in splits:
            before = splits[base]
            if k in before.ids:
                keep = [i for i, j in enumerate(before.ids) if j != k]
                splits[base] = Split(
                    (*(before.ids[i] for i in keep), *ids),
                    np.concatenate([before.centres[keep], np.stack(centres)]).astype(np.float32),
                )
                # Parts of before stay as they are, wherever the new centres would have them.
                here = np.flatnonzero(np.isin(state.cluster, splits[base].ids))
                nearest = (unit[here] @ splits[base].centres.T).argmax(axis=1)
                gone = here[np.array(splits[base].ids)[nearest] != state.cluster[here]]
                stay.append(gone)
        elif of == k:
            splits[base] = Split(tuple(ids), np.stack(centres).astype(np.float32))
    names = old.names | {i: f"cluster {i}" for i in ids[1:]}
    owners = tuple(of | set(ids) if k in of else of for of in old.means.owners)
    tree = old.tree
    if k in levels.leaves(tree):
        for i in ids[1:]:
            tree = levels.attached(tree, i, k, 0.0)
    means = replace(old.means, owners=owners)
    state.clusters = replace(old, names=names, splits=splits, means=means, tree=tree)
    if "files" in edit:  # what was put by hand stays, wherever the centres would have it
        put(state, named)
        stay.append(rows[~np.isin(rows, named)])
    else:
        state.unseen |= set(ids)
        state.moved = {
            f: int(state.cluster[state.files[f]]) if j == k else j for f, j in state.moved.items()
        }
    for still in stay:
        hold(state, still)


def _new(state: State, edit: dict[str, Any]) -> None:
    """A proposal becomes a cluster, in the model too.

    Its number is the proposed one, or the next where a cluster has that one already. Where the
    head's clusters of its images have others too, the nearest of some centres of both says which of
    the two an image belongs to. Images that are not named stay.
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
        return
    assert state.known is not None
    unit = state.unit
    ours = _centres(unit[rows], state.seed)
    taken = np.isin(np.arange(len(unit)), rows)
    splits = dict(state.clusters.splits)
    cluster = state.cluster
    if state.base is not None:  # those in no cluster are in one of the head's all the same
        there = state.clusters.placed(state.base, state.h)
        cluster = np.where(cluster == UNCLUSTERED, there, cluster)
    for j in sorted(set(cluster[rows].tolist()) - {EXCLUDED, UNCLUSTERED}):
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


def _centres(unit: np.ndarray, seed: int) -> np.ndarray:
    """(m, d) unit centres of some parts of (n, d) unit rows, m at least 1 where n is."""
    if not len(unit):
        return np.empty((0, unit.shape[1]), np.float32)
    parts = min(CENTRES, max(len(unit) // EACH, 1))
    return unit_rows(kmeans(unit, parts, seed, starts=3).cluster_centers_.astype(np.float32))


def _decline(state: State, edit: dict[str, Any]) -> None:
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


def _exclude_files(state: State, edit: dict[str, Any]) -> None:
    rows = rows_of(state, edit["files"])
    state.cluster[rows] = EXCLUDED
    put(state, rows)


def _move(state: State, edit: dict[str, Any]) -> None:
    k, rows = known_id(state, edit["to"]), rows_of(state, edit["files"])
    state.cluster[rows] = k
    put(state, rows)
