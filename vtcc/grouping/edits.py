"""Edits of the page, applied to clusters and assignments: all of them or none."""

from dataclasses import replace
from typing import Any

import numpy as np

from vtcc.analysis.features import kmeans
from vtcc.errors import VtccError
from vtcc.grouping import levels
from vtcc.grouping.clusters import EXCLUDED, Split
from vtcc.grouping.edit_proposals import decline, new
from vtcc.grouping.edit_state import (
    NotMade,
    Refused,
    State,
    as_json,
    hold,
    known_id,
    listed,
    name_of,
    not_made,
    numbered,
    put,
    renumbered,
    rows_of,
    say_same_names,
)
from vtcc.progress import note, several
from vtcc.schema import nearest

MOST_PARTS = 50  # of a split


def apply(
    state: State, edits: list[dict[str, Any]], seed: int = 0, following: int | None = None
) -> State:
    """Applies edits in order; new clusters are numbered on from the highest id, proposed or not.

    An addition after the page was made proposes clusters, and takes files out: edits that speak of
    new clusters by the page's numbers mean the same clusters by those of here, and names of files
    that have gone are left out, with the clusters that nothing is left for and all edits of them.

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
    state.unseen, state.left_out, state.unmade, state.instead = frozenset(), set(), set(), {}
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
    applied, left_out = [], []
    for number, edit in enumerate(edits, 1):
        try:
            _apply_one(state, edit)
            applied.append(edit)
        except NotMade as without:
            state.unmade.update(without.args)
            left_out.append(number)
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
    state.clusters = replace(measured, tree=tree, edits=[*state.clusters.edits, *applied])
    say_same_names(state.clusters.names)
    if gone := sorted(state.left_out):
        note(
            f"left out {several(len(gone), 'files')} that the edits name, gone since: "
            f"{', '.join(map(as_json, gone[:3]))}{', ...' * (len(gone) > 3)}"
        )
    if left_out:
        note(
            f"not made: {numbered('cluster', sorted(state.unmade))}; "
            f"left out: {numbered('edit', left_out)}"
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
        "new": (new, ("files", "name", "cluster")),
        "decline": (decline, ("cluster",)),
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
    name, k = name_of(edit["name"]), known_id(state, edit["cluster"])
    state.clusters = replace(state.clusters, names=state.clusters.names | {k: name})


def _merge(state: State, edit: dict[str, Any]) -> None:
    named = listed("clusters", edit["clusters"])
    there = [k for k in named if not not_made(state, k)]
    ids, into = {known_id(state, k) for k in there}, edit["into"]
    if ids and not_made(state, into) and into in named:
        state.instead[into] = min(ids)
        note(f"cluster {into} is not made: what would be merged into it is in cluster {min(ids)}")
    into = known_id(state, into)
    if (len(ids) < 2 and len(there) == len(named)) or into not in ids:
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
        if state.unmade:
            note(f"cluster {k} is not excluded: it is the last one")
            raise NotMade
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
    groups: list[np.ndarray] = []
    if "files" in edit:
        if "into" in edit:
            raise Refused("give either `into` or `files`")
        groups = [rows_of(state, files) for files in listed("files", edit["files"], " of lists")]
        if len(groups) < 2:
            raise Refused("give at least two groups of files")
    parts = len(groups) or edit["into"]
    if not groups and (not isinstance(parts, int) or not 2 <= parts <= MOST_PARTS):
        raise Refused(f"found into {as_json(parts)}; allowed: 2 to {MOST_PARTS}")
    added = range(state.next, state.next + parts - 1)
    state.next += parts - 1
    if not_made(state, edit["cluster"]):
        raise NotMade(*added)
    k = known_id(state, edit["cluster"])
    rows = np.flatnonzero(state.cluster == k)
    unit = state.unit
    if groups:
        # Edits that are left out would have put files here.
        strays = {i for f, i in state.files.items() if state.unmade or f in state.altered}
        elsewhere = strays - set(rows.tolist())
        groups = [group[~np.isin(group, list(elsewhere))] for group in groups]
        named = np.concatenate(groups)
        if not all(len(group) for group in groups):  # all of a part have gone since
            note(f"cluster {k} is not split: no image of one of its parts is left in it")
            raise NotMade(*added)
        if len(np.unique(named)) < len(named):
            raise Refused("a file is in two groups")
        if strange := set(named.tolist()) - set(rows.tolist()):
            file = next(f for f, row in state.files.items() if row in strange)
            raise Refused(f"{as_json(file)} is not in cluster {k}")
        part = np.zeros(len(rows), np.int64)
        for i, group in enumerate(groups):
            part[np.isin(rows, group)] = i
    else:
        if len(rows) < parts:
            few = f"shows {several(len(rows), 'images')}, too few for {parts} parts"
            if not (state.altered or state.unmade):
                raise Refused(f"cluster {k} {few}")
            note(f"cluster {k} is not split: it {few}")
            raise NotMade(*added)
        part = kmeans(unit[rows], parts, state.seed, starts=10).labels_
        if len(np.unique(part)) < parts:  # alike to the last bit, as the page cannot know
            note(f"cluster {k} is not split: its images are all alike, not of {parts} kinds")
            raise NotMade(*added)
        # The largest part keeps id and name.
        order = np.argsort(-np.bincount(part, minlength=parts), kind="stable")
        part = np.argsort(order)[part]
    ids = [k, *added]
    centres = []
    for i in range(parts):
        members = unit[rows[part == i]]
        mean = members.mean(axis=0)
        centres.append(mean / max(float(np.linalg.norm(mean)), 1e-12))
    if not groups:  # as the model says, which goes by these centres
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
    if groups:  # what was put by hand stays, wherever the centres would have it
        put(state, named)
        stay.append(rows[~np.isin(rows, named)])
    else:
        state.unseen |= set(ids)
        state.moved = {
            f: int(state.cluster[state.files[f]]) if j == k else j for f, j in state.moved.items()
        }
    for still in stay:
        hold(state, still)


def _exclude_files(state: State, edit: dict[str, Any]) -> None:
    rows = rows_of(state, edit["files"])
    state.cluster[rows] = EXCLUDED
    put(state, rows)


def _move(state: State, edit: dict[str, Any]) -> None:
    rows, k = rows_of(state, edit["files"]), known_id(state, edit["to"])
    state.cluster[rows] = k
    put(state, rows)
