"""`vtcc <verb>`: thin; heavy imports live inside the verbs that need them."""

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False)
