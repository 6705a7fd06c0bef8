"""`vtcc api` against the description of its own routes: does it answer as /openapi.json says?

    python -m benchmarks.openapi [--minutes 1] [--seed 0]

Starts `vtcc api --docs` with a toy model and has schemathesis, which `make soak` installs into
build/schemathesis, draw requests from the description, right and wrong ones. It prints how many,
and each kind of failure with a request that shows it: answers of 5xx, and such as differ in type,
headers or content from what is described. Exit status 1 where there is any.
"""

import argparse
import json
import os
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks import soak

PACKAGES = Path(__file__).resolve().parents[1] / "build" / "schemathesis"
# What MLflow answers at three of its routes is called JSON and is a bare word or an empty line.
_SETTINGS = """
[generation]
database = "none"
[checks]
enabled = false
not_a_server_error.enabled = true
status_code_conformance.enabled = true
content_type_conformance.enabled = true
response_headers_conformance.enabled = true
response_schema_conformance.enabled = true
[[operations]]
include-path = ["/ping", "/health", "/version"]
checks.response_schema_conformance.enabled = false
"""


def asked(url: str, seconds: int, seed: int) -> tuple[dict[str, Any], str]:
    """Has schemathesis ask for so long.

    Args:
        url: of the description.

    Returns:
        Its report, with `answers`: operation -> status -> times; and what it printed.
    """
    settings, report, events = Path("schemathesis.toml"), Path("report.json"), Path("events.ndjson")
    settings.write_text(_SETTINGS, encoding="utf-8")
    words = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(settings)]
    words += ["run", url, "--max-time", str(seconds), "--seed", str(seed), "--no-color"]
    words += ["--continue-on-failure", "--report", "json,ndjson"]
    words += ["--report-json-path", str(report), "--report-ndjson-path", str(events)]
    path = os.pathsep.join(filter(None, [str(PACKAGES), os.environ.get("PYTHONPATH")]))
    env = os.environ | {"PYTHONPATH": path}
    done = subprocess.run(words, env=env, capture_output=True, text=True)
    if not report.is_file():
        sys.exit(f"schemathesis did not run (make soak installs it): {done.stderr[-500:]}")
    with events.open(encoding="utf-8") as lines:
        answers = statuses(json.loads(line) for line in lines)
    return json.loads(report.read_text(encoding="utf-8")) | {"answers": answers}, done.stdout


def statuses(events: Iterable[dict[str, Any]]) -> dict[str, Counter[int | str]]:
    """Operation -> status -> times, of the events that schemathesis writes."""
    counts: dict[str, Counter[int | str]] = defaultdict(Counter)
    for event in events:
        recorder = event.get("ScenarioFinished", {}).get("recorder", {})
        for exchange in recorder.get("interactions", {}).values():
            answer = exchange.get("response")
            counts[recorder["label"]][answer["status_code"] if answer else "none"] += 1
    return counts


def failed(report: dict[str, Any]) -> list[str]:
    """What is wrong, a line for each kind of failure; empty where nothing is."""
    wrong = [f"{kind['title']}: {', '.join(kind['operations'])}" for kind in report["failures"]]
    wrong += [f"{kind['title']}, {kind['count']} times" for kind in report["errors"]]
    if (tested := report["operations"]["tested"]) < (there := report["operations"]["total"]):
        wrong.append(f"{tested} of {there} routes were asked")
    return wrong


def main(arguments: list[str] | None = None) -> int:
    """Prints the table; the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    with soak.serving("--docs") as server:
        url = f"http://127.0.0.1:{server.port}/openapi.json"
        report, printed = asked(url, max(round(60 * options.minutes), 1), options.seed)
    print(f"{'route':22} {'sent':>7}  answers")
    for name, counts in sorted(report["answers"].items()):
        answers = ", ".join(f"{status}: {times}" for status, times in counts.most_common())
        print(f"{name:22} {counts.total():7}  {answers}")
    if wrong := failed(report) + server.wrong:
        print(printed)
    for line in wrong:
        print(f"failed: {line}")
    print(f"requests: {sum(c.total() for c in report['answers'].values())}, failures: {len(wrong)}")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
