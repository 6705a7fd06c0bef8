"""Builds a release in dist/ and proves it, without uploading anything: `make release`."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from release import archives, licences, state
from release.environment import Environment, prove_core, prove_pipeline
from vtcc import extras
from vtcc.atomic import atomic_directory
from vtcc.errors import VtccError

TOP = Path(__file__).parents[1]
# Installed one after the other into the same environment; the last is for the licences alone.
EVERYTHING = "pipeline,remote,ray,gpu,camera"


def main() -> int:
    """The exit status; a refusal is one line."""
    try:
        run()
    except VtccError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.status
    return 0


def run() -> None:
    """All of it; `dist/` is replaced when everything has passed, and not before.

    Raises:
        VtccError: naming what keeps this from being a release.
    """
    started = time.monotonic()

    def step(words: str) -> None:
        print(f"[{time.monotonic() - started:4.0f} s] {words}", flush=True)

    version = state.version_of(TOP)
    policy = licences.read(licences.POLICY)
    # Archives of one commit are the same whoever builds them.
    stamp = subprocess.check_output(["git", "log", "-1", "--format=%ct"], cwd=TOP, text=True)
    os.environ["SOURCE_DATE_EPOCH"] = stamp.strip()
    with (
        tempfile.TemporaryDirectory(prefix="vtcc-release-") as room,
        atomic_directory(TOP / "dist") as dist,
    ):
        step(f"vtcc {version}: building")
        wheel = archives.build(TOP, dist, version)
        constraints = TOP / "constraints.txt"
        environment = Environment(Path(room))
        step("the wheel in an empty environment")
        environment.install(f"vtcc @ {wheel.as_uri()}", constraints)
        step(f"{environment.size()}; trying it")
        prove_core(environment, version)
        step("its bill of materials")
        core = environment.bill(dist / f"vtcc-{version}.cdx.json")
        step("with [pipeline]")
        environment.install(f"vtcc[pipeline] @ {wheel.as_uri()}", constraints)
        step(f"{environment.size()}; trying it")
        prove_pipeline(environment, extras.PACKAGES["pipeline"])
        step("its bill of materials")
        pipeline = environment.bill(dist / f"vtcc-{version}-pipeline.cdx.json")
        step(f"licences, with [{EVERYTHING}]")
        environment.install(f"vtcc[{EVERYTHING}] @ {wheel.as_uri()}", constraints)
        everything = environment.bill(Path(room) / "everything.cdx.json")
        rows = licences.table(
            {"core": core, "pipeline": pipeline, "other extras": everything}, policy
        )
        licences.write(rows, dist / f"vtcc-{version}-licences.csv")
        licences.check(rows)
    for line in licences.unused(rows, policy):
        print(f"note: {line}")
    step("done; nothing was uploaded")
    for file in sorted((TOP / "dist").iterdir()):
        print(f"{file.stat().st_size / 1e3:10,.0f} KB  dist/{file.name}")


if __name__ == "__main__":
    sys.exit(main())
