"""The process that starts flow runs of `vtcc/train`; `flows.serve` starts and ends it."""

import argparse
import sys

from flows.train import train
from vtcc import paths


def main() -> None:
    """Serves the deployment at `PREFECT_API_URL` until it is interrupted."""
    parser = argparse.ArgumentParser(prog="python -m flows.runner", description=__doc__)
    parser.add_argument("--limit", type=int, default=1, help="flow runs at a time")
    given = parser.parse_args()
    try:
        train.serve(
            name="train",
            description=f"download, validate, train, evaluate, register in {paths.project()}",
            limit=given.limit,
            print_starting_message=False,
        )
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
