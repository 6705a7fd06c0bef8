"""`vtcc <verb>`: thin; heavy imports live inside the verbs that need them."""

from vtcc.cli.main import app

__all__ = ["app"]
