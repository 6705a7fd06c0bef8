"""The deployments of the flow `vtcc`, as `make serve` and `prefect.yaml` know them."""

from dataclasses import dataclass
from typing import Any

from flows import assign, evaluate, study, sweep, train


@dataclass(frozen=True)
class Deployment:
    """A flow under a name.

    Attributes:
        name: `vtcc/<name>`.
        flow: the flow function.
        description: one line; the flow's docstring describes its parameters.
        trains: whether its runs hold a place of the limit; the others never wait behind them.
    """

    name: str
    flow: Any
    description: str
    trains: bool


ALL = (
    Deployment("train", train.train, "download, validate, embed, train, evaluate, register", True),
    Deployment("evaluate", evaluate.evaluate, "any registered model on any images", False),
    Deployment("study", study.study, "a study file: settings times seeds, compared", True),
    Deployment("sweep", sweep.sweep, "a search over parameters without labels", True),
    Deployment("assign", assign.assign, "sort a folder of images by the champion", False),
)
