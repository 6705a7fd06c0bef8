"""`vtcc sweep`: a search over parameters by an objective that needs no label.

A sweep is a study whose settings are drawn: it shares records, trainings and page with `vtcc
study`, and adds space, search and objective. `run` is all of it, for the command line and for
flows; `read` checks a sweep file alone.
"""

from vtcc.study.sweep.file import read
from vtcc.study.sweep.search import Outcome, planned, root, run

__all__ = ["Outcome", "planned", "read", "root", "run"]
