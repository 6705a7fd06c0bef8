"""`python -m flows.runs`: recent flow runs in the terminal. Imports no Prefect, so it is quick."""

import argparse
import datetime
import sys
from typing import Any

from flows import server
from vtcc import paths
from vtcc.errors import VtccError

COLUMNS = ("started", "run", "state", "took", "id", "message")


def main(arguments: list[str] | None = None) -> None:
    """Prints the newest runs of all deployments; exits 1 where no server answers."""
    parser = argparse.ArgumentParser(prog="python -m flows.runs", description=__doc__)
    parser.add_argument("-n", type=int, default=15, metavar="N", help="how many (default 15)")
    given = parser.parse_args(arguments)
    if not 0 < given.n <= 200:
        parser.error(f"-n: expected 1 to 200, found {given.n}")
    try:
        found = recent(server.configured_url(paths.project()), given.n)
    except VtccError as error:
        sys.exit(f"error: {error}")
    print(table(found) if found else "no flow run yet: prefect deployment run vtcc/train")


def recent(url: str, count: int) -> list[dict[str, Any]]:
    """The newest flow runs as the API gives them, newest first.

    Args:
        url: of the Prefect API.
        count: at most so many, up to 200.

    Raises:
        VtccError: when no Prefect server answers there.
    """
    wanted = {
        "limit": count,
        "sort": "EXPECTED_START_TIME_DESC",
        "flows": {"name": {"any_": ["vtcc"]}},
        "flow_runs": {"expected_start_time": {"before_": _now().isoformat()}},
    }
    return server.post(url, "/flow_runs/filter", wanted)


def table(runs: list[dict[str, Any]]) -> str:
    """One line per run: when, name, state, how long, id, and what went wrong."""
    lines = [COLUMNS, *(_row(run) for run in runs)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(COLUMNS) - 1)]
    return "\n".join(
        "  ".join(
            [*(word.ljust(w) for word, w in zip(line, widths, strict=False)), line[-1]]
        ).rstrip()
        for line in lines
    )


def _row(run: dict[str, Any]) -> tuple[str, ...]:
    start = run["start_time"] or run["expected_start_time"]
    seconds = round(run["total_run_time"] or run["estimated_run_time"] or 0)
    state = run["state"] or {"name": "?", "type": "?", "message": ""}
    told = state["message"] or ""
    if state["type"] == "COMPLETED" or run["start_time"] is None:
        told = ""
    return (
        datetime.datetime.fromisoformat(start).astimezone().strftime("%m-%d %H:%M:%S"),
        run["name"],
        state["name"],
        f"{seconds // 60}:{seconds % 60:02d}" if run["start_time"] else "",
        run["id"],
        " ".join(told.split())[:120],
    )


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


if __name__ == "__main__":
    main()
