"""`vtcc sweep`: a search over parameters by an objective that needs no label.

`run` is all of it, for the command line and for flows; `read` checks a sweep file alone.
"""

from vtcc.study.sweep.file import read
from vtcc.study.sweep.search import Outcome, run

__all__ = ["Outcome", "read", "run"]
