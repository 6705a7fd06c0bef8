"""`report.html` of `vtcc cluster`: the clusters to look at and to correct, without a server."""

from vtcc.cards.model import Card, Page
from vtcc.cards.write import write

__all__ = ["Card", "Page", "write"]
