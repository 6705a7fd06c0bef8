"""`vtcc refine`: the edits made in the page, applied to tables, page and model."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from vtcc.progress import note, several


def run(results: Path, edits: Path, out: Path | None = None) -> dict[str, Any]:
    """Applies edits to the results of `vtcc cluster`.

    Args:
        results: folder of the results. edits: the file exported from its page.
        out: a new folder for the refined results; None: they take the place of the old ones.

    Returns:
        As `vtcc.grouping.summary.headline`.

    Raises:
        VtccError: on a user's mistake, and nothing has changed then; or when the folders by
            cluster could not be written, with all other results in their place.
    """
    import time

    from vtcc.grouping import reopen
    from vtcc.grouping import summary as summaries

    began = time.monotonic()
    with reopen.opened(results, out) as before:
        # Only now what takes seconds: a mistake is told at once.
        from vtcc.engine import predict
        from vtcc.grouping import edits as changes
        from vtcc.grouping import edits_file, result, trust
        from vtcc.grouping.add import away
        from vtcc.grouping.edit_state import State
        from vtcc.grouping.rest import Rest

        summary, embedding = before.summary, before.embedding
        wanted = edits_file.read(edits, result.digest(before.model))
        base = embedding.base
        row = {path: i for i, path in enumerate(embedding.paths)}
        state = State(
            before.clusters,
            row,
            embedding.h,
            reopen.decided(before.clusters, embedding, before.moved).cluster,
            before.moved,
            held=before.held,
            away={f: k for f, (_, _, k) in summary.get("away", {}).items() if k is not None},
            base=embedding.p.argmax(axis=1) if base is None else base,
            known=embedding.known,
            proposed={p["id"]: p["files"] for p in summary.get("proposals", [])},
            once=summaries.once_proposed(summary),
            altered=summaries.altered(summary),
        )
        state = changes.apply(
            state, wanted.edits, seed=int(summary["seed"]), following=wanted.following
        )
        assert state.known is not None
        summary["moved"], summary["held"] = state.moved, sorted(state.held)
        summary["away"] = away.relabelled(summary.get("away", {}), state.away)
        applied = reopen.decided(state.clusters, embedding, state.moved, state.held)
        summary["proposals"] = [
            p | {"now_in": reopen.now_in(applied.cluster[[row[file] for file in p["files"]]])}
            for p in summary.get("proposals", [])
            if p["id"] in state.proposed
        ]
        measured = trust.after_edits(summary["trust"], state.clusters, int(embedding.known.sum()))
        summary["trust"] = measured.to_dict()
        with reopen.rewriting(before) as building:
            state.clusters.write(building / result.MODEL)
            Rest.of(building).decide(state.clusters)
            assigned = reopen.finish(
                building,
                before,
                summary,
                embedding=replace(embedding, known=state.known),
                applied=applied,
                clusters=state.clusters,
                predictor=predict.load(before.model, "cpu"),
            )
        applied_now = len(state.clusters.edits) - len(before.clusters.edits)
        note(
            f"{several(applied_now, 'edits')} applied: "
            f"{several(len(state.clusters.names), 'clusters')}, {out or results}"
        )
        reopen.folders(before, assigned, summary)
    return summaries.headline(before.target, began=began)
