"""`python -m vtcc <verb>`; also the console script `vtcc`."""

import sys

from vtcc import quiet


def main() -> None:
    """Runs one verb; errors a user can meet end in one line and exit status 1."""
    quiet.apply()
    try:
        from vtcc.cli import app
    except ModuleNotFoundError as error:
        if error.name not in {"typer", "rich"}:
            raise
        # A GPU node often has torch and little else: the training must run there all the same.
        _without_typer()
        return
    app()


def _without_typer() -> None:
    from vtcc.errors import VtccError

    if sys.argv[1:] != ["train"]:
        sys.exit("error: typer is not installed: only `python -m vtcc train` works without it")
    from vtcc.stages import train

    try:
        train.run()
    except VtccError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
